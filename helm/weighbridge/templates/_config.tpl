{{/*
Weighbridge's configuration, as JSON (which is YAML: numbers keep their form). list root, whether keys of tenants and of model
servers are in it: only the gateway needs those.
*/}}
{{- define "weighbridge.config" -}}
{{- $root := index . 0 -}}
{{- $keys := index . 1 -}}
{{- if not $root.Values.pools }}{{ fail "pools: at least one is required; README.md has examples" }}{{ end -}}
{{- $targets := (include "weighbridge.targets" $root | fromJson).targets -}}
{{- $pools := dict -}}
{{- $poolNumber := 0 -}}
{{- range $pool, $p := $root.Values.pools -}}
  {{- $section := omit $p "worker" "existing" "targets" "min" "max" "owner" "static" "apiKeySecret" -}}
  {{- if and $keys $p.apiKeySecret }}{{ $_ := set $section "api_key" (printf "os.environ/WEIGHBRIDGE_POOL_KEY_%d" $poolNumber) }}{{ end -}}
  {{- $poolNumber = add1 $poolNumber -}}
  {{- if $p.static -}}
    {{- $_ := set $section "replicas" (dict "static" $p.static) -}}
  {{- else -}}
    {{- $entries := list -}}
    {{- range $t := $targets -}}
      {{- if eq $t.pool $pool -}}
        {{- $entry := pick $t "namespace" "kind" "resource" "name" "port" "min" "max" "gpu" "cost_per_gpu_hour" -}}
        {{- if eq $t.owner "keda" }}{{ $_ := set $entry "owner" "keda" }}{{ end -}}
        {{- $entries = append $entries $entry -}}
      {{- end -}}
    {{- end -}}
    {{- $kubernetes := ternary (first $entries) $entries (eq (len $entries) 1) -}}
    {{- $_ := set $section "replicas" (dict "kubernetes" $kubernetes) -}}
  {{- end -}}
  {{- $_ := set $pools $pool $section -}}
{{- end -}}
{{- $gateway := dict "host" "0.0.0.0" "port" 4000 "admin_host" "0.0.0.0" "admin_port" 4001 "workers" (int $root.Values.gateway.workers) -}}
{{- with $root.Values.gateway.limits }}{{ $_ := set $gateway "limits" . }}{{ end -}}
{{- $controller := dict "host" "0.0.0.0" "port" 4002 "lease" (merge (dict "name" (include "weighbridge.name" (list $root "autoscaler"))) $root.Values.autoscaler.lease) -}}
{{- if $root.Values.rbac.nodes }}{{ $_ := set $controller "read_nodes" true }}{{ end -}}
{{- if include "weighbridge.keda" $root }}{{ $_ := set $controller "keda" (dict "host" "0.0.0.0" "port" 4004) }}{{ end -}}
{{- $config := dict "pools" $pools "gateway" $gateway "controller" $controller "redis" (dict "url" "os.environ/WEIGHBRIDGE_REDIS_URL" "prefix" $root.Values.redis.prefix) -}}
{{- with $root.Values.autoscaler_defaults }}{{ $_ := set $config "autoscaler" . }}{{ end -}}
{{- if and $keys $root.Values.tenants -}}
  {{- $tenants := dict -}}
  {{- $number := 0 -}}
  {{- range $tenant, $t := $root.Values.tenants -}}
    {{- $listed := list -}}
    {{- range $i, $key := $t.keys -}}
      {{- $listed = append $listed (kindIs "string" $key | ternary $key (printf "os.environ/WEIGHBRIDGE_TENANT_KEY_%d_%d" $number $i)) -}}
    {{- end -}}
    {{- $number = add1 $number -}}
    {{- $_ := set $tenants $tenant (merge (dict "keys" $listed) (omit $t "keys")) -}}
  {{- end -}}
  {{- $_ := set $config "tenants" $tenants -}}
{{- end -}}
{{- $config | mustToPrettyJson -}}
{{- end -}}

{{/* "true" where KEDA owns a pool */}}
{{- define "weighbridge.keda" -}}
{{- range .Values.pools }}{{ if eq (.owner | default "weighbridge") "keda" }}true{{ break }}{{ end }}{{ end -}}
{{- end -}}

{{/* Where Redis is: environment of every process that reads the configuration */}}
{{- define "weighbridge.redisEnv" -}}
{{- if .Values.redis.external.secret }}
- name: WEIGHBRIDGE_REDIS_URL
  valueFrom: {secretKeyRef: {name: {{ .Values.redis.external.secret }}, key: {{ .Values.redis.external.key }}}}
{{- else }}
- name: WEIGHBRIDGE_REDIS_PASSWORD
  valueFrom: {secretKeyRef: {{ include "weighbridge.redisPassword" . }}}
- name: WEIGHBRIDGE_REDIS_URL
  value: redis://:$(WEIGHBRIDGE_REDIS_PASSWORD)@{{ include "weighbridge.name" (list . "redis" 52) }}:6379/0
{{- end }}
{{- end -}}

{{- define "weighbridge.redisPassword" -}}
{{- with .Values.redis.bundled -}}
{name: {{ .passwordSecret | default (include "weighbridge.name" (list $ "redis" 52)) }}, key: {{ .passwordSecret | empty | ternary "password" .passwordKey }}}
{{- end -}}
{{- end -}}

{{/* Keys of tenants and of model servers: environment of the gateway alone */}}
{{- define "weighbridge.keysEnv" -}}
{{- $number := 0 -}}
{{- range $tenant, $t := .Values.tenants -}}
{{- range $i, $key := $t.keys -}}
{{- if not (kindIs "string" $key) }}
- name: WEIGHBRIDGE_TENANT_KEY_{{ $number }}_{{ $i }}
  valueFrom: {secretKeyRef: {name: {{ $key.secret }}, key: {{ $key.key | quote }}}}
{{- end }}
{{- end }}
{{- $number = add1 $number -}}
{{- end }}
{{- $number = 0 -}}
{{- range $pool, $p := .Values.pools -}}
{{- with $p.apiKeySecret }}
- name: WEIGHBRIDGE_POOL_KEY_{{ $number }}
  valueFrom: {secretKeyRef: {name: {{ .name }}, key: {{ .key | quote }}}}
{{- end }}
{{- $number = add1 $number -}}
{{- end }}
{{- end -}}
