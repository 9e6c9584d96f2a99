{{/* Names begin with the release's, which is hongyan where there is one. */}}
{{- define "hongyan.name" -}}
{{- if contains "hongyan" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-hongyan" (.Release.Name | trunc 32 | trimSuffix "-") }}{{ end -}}
{{- end }}

{{/* What a component's pods are chosen by: (list . "worker"). */}}
{{- define "hongyan.selector" -}}
app.kubernetes.io/name: hongyan
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "hongyan.labels" -}}
{{ include "hongyan.selector" . }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
helm.sh/chart: {{ (index . 0).Chart.Name }}-{{ (index . 0).Chart.Version }}
{{- end }}

{{- define "hongyan.image" -}}
image: {{ printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- end }}

{{/* What a pod of any component says before its containers. */}}
{{- define "hongyan.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.image.pullSecrets }}
imagePullSecrets: {{ toJson . }}
{{- end }}
{{- end }}

{{- define "hongyan.user" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "hongyan.locked" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{- define "hongyan.database" -}}
- name: HONGYAN_DATABASE_URL
  valueFrom: {secretKeyRef: {name: {{ .Values.secrets.stores | quote }}, key: database-url}}
{{- end }}

{{- define "hongyan.environment" -}}
- {name: HONGYAN_CONFIG, value: /etc/hongyan/hongyan.yaml}
- name: HONGYAN_REDIS_URL
  valueFrom: {secretKeyRef: {name: {{ .Values.secrets.stores | quote }}, key: redis-url}}
{{ include "hongyan.database" . }}
{{- end }}
