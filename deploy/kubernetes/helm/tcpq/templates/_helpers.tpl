{{- define "tcpq.name" -}}
{{ default .Release.Name .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "tcpq.selector" -}}
app.kubernetes.io/name: tcpq
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "tcpq.labels" -}}
{{ include "tcpq.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "tcpq.config" -}}
# The address is the pod's, whatever it is. All keys: deploy/tcpq.toml.
web.listen-address = [":{{ .Values.port }}"]
{{- with .Values.config }}
{{ . | trim }}
{{- end }}
{{- end }}

{{- define "tcpq.probe" -}}
{{- if .Values.tls.clientCertificates -}}
tcpSocket: {port: metrics}
{{- else if .Values.tls.webConfigSecret -}}
httpGet: {path: /readyz, port: metrics, scheme: HTTPS}
{{- else -}}
httpGet: {path: /readyz, port: metrics}
{{- end }}
{{- end }}
