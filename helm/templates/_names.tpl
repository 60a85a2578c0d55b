{{/* Names and labels. A service is passed around as a dict: root (the chart's context), name, of (its values). */}}

{{- define "countersign.fullname" -}}
{{- default .Release.Name .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "countersign.name" -}}
{{ include "countersign.fullname" .root }}-{{ .name }}
{{- end -}}

{{/* What never changes about the pods of a service. */}}
{{- define "countersign.selector" -}}
app.kubernetes.io/name: countersign
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .name }}
{{- end -}}

{{- define "countersign.labels" -}}
{{ include "countersign.selector" . }}
app.kubernetes.io/part-of: countersign
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The label by which pods of anybody are let in to call. */}}
{{- define "countersign.clientLabel" -}}
{{ include "countersign.fullname" . }}-client: "true"
{{- end -}}

{{- define "countersign.image" -}}
{{- $tag := default .root.Chart.AppVersion .of.image.tag -}}
{{- if .of.image.digest -}}
{{ .of.image.repository }}@{{ .of.image.digest }}
{{- else -}}
{{ .of.image.repository }}:{{ $tag }}
{{- end -}}
{{- end -}}

{{- define "countersign.serviceAccount" -}}
{{- if .of.serviceAccount.name -}}
{{ .of.serviceAccount.name }}
{{- else if .of.serviceAccount.create -}}
{{ include "countersign.name" . }}
{{- else -}}
default
{{- end -}}
{{- end -}}

{{/* Whether the service speaks TLS. */}}
{{- define "countersign.tls" -}}
{{- if .of.tls.existingSecret }}true{{ end -}}
{{- end -}}

{{/* Where the service is called inside the cluster. */}}
{{- define "countersign.url" -}}
{{ ternary "https" "http" (eq (include "countersign.tls" .) "true") }}://{{ include "countersign.host" . }}:{{ .of.service.port }}
{{- end -}}

{{- define "countersign.host" -}}
{{ include "countersign.name" . }}.{{ .root.Release.Namespace }}.svc
{{- end -}}
