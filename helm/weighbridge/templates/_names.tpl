{{/* Names and labels. A selector never changes: a Deployment's is immutable. */}}

{{- define "weighbridge.fullname" -}}
{{- .Values.fullnameOverride | default .Release.Name | trunc 53 | trimSuffix "-" -}}
{{- end -}}

{{/* list root, suffix, and optionally the most characters (63): the name with the suffix; one that is too long ends in a digest instead */}}
{{- define "weighbridge.name" -}}
{{- $most := 63 -}}
{{- if gt (len .) 2 }}{{ $most = index . 2 }}{{ end -}}
{{- $name := printf "%s-%s" (include "weighbridge.fullname" (index . 0)) (index . 1) -}}
{{- if le (len $name) $most }}{{ $name }}{{ else -}}
{{- printf "%s-%s" ($name | trunc (int (sub $most 9)) | trimSuffix "-") (sha256sum $name | trunc 8) -}}
{{- end -}}
{{- end -}}

{{/* list root, component */}}
{{- define "weighbridge.selector" -}}
app.kubernetes.io/name: weighbridge
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* list root, component. Of objects, never of pods: those must not restart because the chart has another version. */}}
{{- define "weighbridge.labels" -}}
{{- $root := index . 0 -}}
{{ include "weighbridge.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name ($root.Chart.Version | replace "+" "_") }}
{{- end -}}

{{/* A target of weighbridge.targets */}}
{{- define "weighbridge.workerSelector" -}}
weighbridge.dev/pool: {{ .pool }}
{{- with .target }}
weighbridge.dev/target: {{ . }}
{{- end }}
{{- end -}}

{{/* A mapping with repository, tag and digest */}}
{{- define "weighbridge.imageOf" -}}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ .tag }}{{ end -}}
{{- end -}}

{{- define "weighbridge.image" -}}
{{- include "weighbridge.imageOf" (mergeOverwrite (deepCopy .Values.image) (dict "tag" (.Values.image.tag | default .Chart.AppVersion))) -}}
{{- end -}}
