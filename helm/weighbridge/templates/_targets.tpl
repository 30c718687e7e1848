{{/*
Every object that a pool is scaled by, as JSON: {"targets": [{pool, target, name, namespace, kind or resource, port, min, max, owner, gpu?,
cost_per_gpu_hour?, worker?}]}. `target` is "" where a pool has one; `worker` is there where the chart makes the object.
*/}}
{{- define "weighbridge.targets" -}}
{{- $root := . -}}
{{- $all := list -}}
{{- range $pool, $p := .Values.pools -}}
  {{- $single := dict "" (pick $p "existing" "min" "max") -}}
  {{- $entries := $p.targets | default $single -}}
  {{- if $p.static }}{{ $entries = dict }}{{ end -}}
  {{- $owner := $p.owner | default "weighbridge" -}}
  {{- if and (eq $owner "keda") (gt (len $entries) 1) }}{{ fail (printf "pools.%s: a pool that KEDA owns has one target: its metric is one number" $pool) }}{{ end -}}
  {{- range $target, $t := $entries -}}
    {{- $min := int (dig "min" 1 $t) -}}
    {{- $max := int (dig "max" (max 1 $min) $t) -}}
    {{- if lt $max $min }}{{ fail (printf "pools.%s: max (%d) is below min (%d)" $pool $max $min) }}{{ end -}}
    {{- $one := dict "pool" $pool "target" $target "owner" $owner "min" $min "max" $max -}}
    {{- range $key := list "gpu" "cost_per_gpu_hour" -}}
      {{- if hasKey $t $key }}{{ $_ := set $one $key (get $t $key) }}{{ end -}}
    {{- end -}}
    {{- if $t.existing -}}
      {{- $e := $t.existing -}}
      {{- $_ := mergeOverwrite $one (ternary (dict "resource" $e.resource) (dict "kind" ($e.kind | default "Deployment")) (hasKey $e "resource")) (dict "name" $e.name "namespace" ($e.namespace | default $root.Release.Namespace) "port" (int ($e.port | default 8000))) -}}
    {{- else -}}
      {{- $suffix := ternary (printf "worker-%s-%s" $pool $target) (printf "worker-%s" $pool) (ne $target "") -}}
      {{- $worker := include "weighbridge.worker" (list $root $pool $p $t) | fromJson -}}
      {{- $_ := mergeOverwrite $one (dict "kind" "Deployment" "name" (include "weighbridge.name" (list $root $suffix)) "namespace" $root.Release.Namespace "port" 8000 "worker" $worker) -}}
    {{- end -}}
    {{- $all = append $all $one -}}
  {{- end -}}
{{- end -}}
{{- dict "targets" $all | toJson -}}
{{- end -}}

{{/* list root, pool, its values, the target's values: what a worker is made of, with every default, as JSON */}}
{{- define "weighbridge.worker" -}}
{{- $root := index . 0 -}}
{{- $pool := index . 1 -}}
{{- $p := index . 2 -}}
{{- $t := index . 3 -}}
{{- $engine := $p.engine | default "vllm" -}}
{{- $given := mergeOverwrite (deepCopy ($p.worker | default dict)) (deepCopy ($t.worker | default dict)) -}}
{{- $simulated := hasKey $given "simulated" -}}
{{- $drain := dig "drain_deadline_s" (dig "drain_deadline_s" 120 $root.Values.autoscaler_defaults) ($p.autoscaler | default dict) -}}
{{- $defaults := dict "startSeconds" 1800 "drainSeconds" $drain "shmSize" "2Gi" "cacheSize" "20Gi" "gpuResource" "nvidia.com/gpu" "extraArgs" list "env" list "nodeSelector" dict "tolerations" list "affinity" dict "podAnnotations" dict "checksums" list "runtimeClassName" "" "priorityClassName" "" -}}
{{- if and $given.checksums (not $given.weights) }}{{ fail (printf "pools.%s.worker.checksums are those of files in worker.weights, which is not set" $pool) }}{{ end -}}
{{- if $simulated -}}
  {{- $_ := set $defaults "image" (include "weighbridge.image" $root) -}}
  {{- $_ := set $defaults "resources" (dict "requests" (dict "cpu" "500m" "memory" "256Mi") "limits" (dict "memory" "512Mi")) -}}
{{- else -}}
  {{- if eq $engine "trtllm" }}{{ fail (printf "pools.%s: the chart has no worker for engine trtllm; use existing" $pool) }}{{ end -}}
  {{- if not $given.weights }}{{ fail (printf "pools.%s.worker.weights is required: the claim or image that holds the model; workers download nothing" $pool) }}{{ end -}}
  {{- $_ := set $defaults "image" (get $root.Values.workers.images $engine) -}}
  {{- $_ := set $defaults "resources" (dict "requests" (dict "cpu" "4" "memory" "16Gi") "limits" (dict "memory" "32Gi")) -}}
{{- end -}}
{{- $worker := mergeOverwrite $defaults $given (dict "engine" (ternary "simulated" $engine $simulated)) -}}
{{- if lt (float64 $worker.drainSeconds) (float64 $drain) }}{{ fail (printf "pools.%s.worker.drainSeconds (%v) must be at least autoscaler.drain_deadline_s (%v)" $pool $worker.drainSeconds $drain) }}{{ end -}}
{{- $worker | toJson -}}
{{- end -}}

{{/* Seconds as a whole number, rounded up */}}
{{- define "weighbridge.ceil" -}}
{{- ceil (float64 .) | int -}}
{{- end -}}
