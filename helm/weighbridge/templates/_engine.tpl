{{/* Command and arguments of a worker's model server, by its engine. A mapping: root, pool, t (target), p (the pool's values). */}}

{{- define "weighbridge.modelPath" -}}
{{- printf "/models/%s" (.weights.path | default "") | trimSuffix "/" -}}
{{- end -}}

{{- define "weighbridge.servedModel" -}}
{{- .p.served_model | default (first (.p.models | default (list .pool))) -}}
{{- end -}}

{{- define "weighbridge.command.vllm" -}}
command: [vllm, serve, {{ include "weighbridge.modelPath" .t.worker | quote }}]
args:
  - --served-model-name={{ include "weighbridge.servedModel" . }}
  - --host=0.0.0.0
  - --port={{ .t.port }}
  - --tensor-parallel-size={{ .p.tensor_parallel | default 1 }}
  - --scheduling-policy=priority
  - --enable-prefix-caching
  # Cached tokens in `usage`: the gateway bills and learns from them.
  - --enable-prompt-tokens-details
  # As the prices assume; vLLM's own default is another one on large GPUs.
  - --max-num-batched-tokens={{ .p.prefill_chunk_tokens | default 2048 | int }}
{{- end -}}

{{- define "weighbridge.command.sglang" -}}
command: [python3, -m, sglang.launch_server]
args:
  - --model-path={{ include "weighbridge.modelPath" .t.worker }}
  - --served-model-name={{ include "weighbridge.servedModel" . }}
  - --host=0.0.0.0
  - --port={{ .t.port }}
  - --tensor-parallel-size={{ .p.tensor_parallel | default 1 }}
  - --enable-priority-scheduling
  # Cached tokens in `usage`. The prefix cache itself is on unless it is switched off.
  - --enable-cache-report
  - --enable-metrics
  # As the prices assume.
  - --chunked-prefill-size={{ .p.prefill_chunk_tokens | default 2048 | int }}
  {{- if .p.apiKeySecret }}
  - --api-key=$(SGLANG_API_KEY)
  {{- end }}
{{- end -}}

{{- define "weighbridge.command.simulated" -}}
args:
  - simulate
  - --model={{ include "weighbridge.servedModel" . }}
  {{- with .p.architecture }}
  - {{ printf "--architecture=%s" (kindIs "string" . | ternary . (toJson .)) | quote }}
  {{- end }}
  - --gpu={{ .t.gpu | default .p.gpu }}
  - --tensor-parallel={{ .p.tensor_parallel | default 1 }}
  - --host=0.0.0.0
  - --port={{ .t.port }}
  {{- with .p.kv_tokens }}
  - --kv-tokens={{ int . }}
  {{- end }}
  {{- range $option := list "start_delay_s" "speed" "max_num_seqs" "max_queue" }}
  {{- if hasKey $.t.worker.simulated $option }}
  - --{{ $option | replace "_" "-" }}={{ get $.t.worker.simulated $option }}
  {{- end }}
  {{- end }}
{{- end -}}

{{/* Environment: offline, quiet, caches where it may write, and the key that it asks for. */}}
{{- define "weighbridge.workerEnv" -}}
- {name: HOME, value: /tmp}
- {name: HF_HUB_OFFLINE, value: "1"}
{{- if ne .t.worker.engine "simulated" }}
- {name: TRANSFORMERS_OFFLINE, value: "1"}
- {name: DO_NOT_TRACK, value: "1"}
# No user of this number is in the image; PyTorch asks for a name.
- {name: USER, value: weighbridge}
- {name: LOGNAME, value: weighbridge}
- {name: XDG_CACHE_HOME, value: /cache}
- {name: HF_HOME, value: /cache/huggingface}
- {name: TRITON_CACHE_DIR, value: /cache/triton}
- {name: TORCHINDUCTOR_CACHE_DIR, value: /cache/inductor}
- {name: CUDA_CACHE_PATH, value: /cache/cuda}
- {name: NUMBA_CACHE_DIR, value: /cache/numba}
- {name: FLASHINFER_WORKSPACE_BASE, value: /cache}
{{- end }}
{{- if eq .t.worker.engine "vllm" }}
- {name: VLLM_CACHE_ROOT, value: /cache/vllm}
- {name: VLLM_CONFIG_ROOT, value: /tmp/vllm}
- {name: VLLM_NO_USAGE_STATS, value: "1"}
{{- end }}
{{- $variable := get (dict "vllm" "VLLM_API_KEY" "sglang" "SGLANG_API_KEY" "simulated" "WEIGHBRIDGE_SIMULATE_KEY") .t.worker.engine }}
{{- with .p.apiKeySecret }}
- name: {{ $variable }}
  valueFrom: {secretKeyRef: {name: {{ .name }}, key: {{ .key | quote }}}}
{{- end }}
{{- with .t.worker.env }}
{{ toYaml . }}
{{- end }}
{{- end -}}
