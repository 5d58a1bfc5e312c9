{{- define "farm.name" -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "farm.labels" -}}
app.kubernetes.io/name: img2img-farm
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "farm.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{/* What gateway and workers know of the farm; `own` are the pod's variables, which win. */}}
{{- define "farm.environment" -}}
envFrom:
  - secretRef: {name: {{ .root.Values.secretName }}}
env:
  - {name: IMG2IMG_METRICS, value: "0.0.0.0:9100"}
  - {name: IMG2IMG_MODELS_DIR, value: /models}
  {{- if .root.Values.redis.enabled }}
  - {name: IMG2IMG_REDIS_URL, value: "redis://{{ include "farm.name" .root }}-redis:6379/0"}
  {{- end }}
  {{- range $name, $value := merge (dict) (.own | default dict) .root.Values.env }}
  - {name: {{ $name }}, value: {{ $value | quote }}}
  {{- end }}
{{- end -}}

{{- define "farm.security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}
