{{/*
What the autoscaler may do in one namespace: list root, namespace. Every rule is a call that it makes; tests hold them together.
`create` cannot be limited to a name.
*/}}
{{- define "weighbridge.rules" -}}
{{- $root := index . 0 -}}
{{- $namespace := index . 1 -}}
{{- $pods := false -}}
{{- range $t := (include "weighbridge.targets" $root | fromJson).targets -}}
{{- if eq $t.namespace $namespace -}}
{{- $pods = true -}}
{{- $r := include "weighbridge.resource" $t | fromJson }}
- apiGroups: [{{ $r.group | quote }}]
  resources: [{{ $r.plural }}]
  resourceNames: [{{ $t.name }}]
  # Limited to the name by `fieldSelector=metadata.name=…`.
  verbs: [list, watch]
- apiGroups: [{{ $r.group | quote }}]
  resources: [{{ $r.plural }}/scale]
  resourceNames: [{{ $t.name }}]
  # A pool that KEDA owns has one writer of its replicas: KEDA.
  verbs: {{ eq $t.owner "keda" | ternary "[get]" "[get, patch]" }}
{{- end }}
{{- end }}
{{- if $pods }}
# Which replicas there are; who drains, and what deleting a pod costs.
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch, patch]
- apiGroups: [""]
  resources: [events]
  verbs: [create, patch]
# Whether somebody else scales the same object.
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [list]
{{- end }}
{{- if eq $namespace $root.Release.Namespace }}
# Who leads.
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [create]
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: [{{ include "weighbridge.name" (list $root "autoscaler") }}]
  verbs: [get, update]
# What it decided, for kubectl.
- apiGroups: [""]
  resources: [configmaps]
  verbs: [create]
- apiGroups: [""]
  resources: [configmaps]
  resourceNames: [weighbridge-status]
  verbs: [get, patch]
{{- end }}
{{- end -}}

{{/* The resource of a target of weighbridge.targets, as JSON: group, version, plural, kind */}}
{{- define "weighbridge.resource" -}}
{{- if .resource }}{{ toJson .resource -}}
{{- else if eq .kind "LeaderWorkerSet" }}{"group": "leaderworkerset.x-k8s.io", "version": "v1", "plural": "leaderworkersets", "kind": "LeaderWorkerSet"}
{{- else }}{"group": "apps", "version": "v1", "plural": "{{ lower .kind }}s", "kind": "{{ .kind }}"}
{{- end -}}
{{- end -}}

{{/* Namespaces in which the autoscaler may do something, as a JSON list under "namespaces" */}}
{{- define "weighbridge.namespaces" -}}
{{- $all := list .Release.Namespace -}}
{{- range (include "weighbridge.targets" . | fromJson).targets }}{{ $all = append $all .namespace }}{{ end -}}
{{- dict "namespaces" ($all | uniq | sortAlpha) | toJson -}}
{{- end -}}
