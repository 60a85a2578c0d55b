{{/* What all pods have in common. */}}

{{- define "countersign.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "countersign.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* A container that migrates the database of a service. */}}
{{- define "countersign.migrate" -}}
- name: migrate
  image: {{ include "countersign.image" . }}
  imagePullPolicy: {{ .of.image.pullPolicy }}
  args: [migrate]
  env:
    {{- include "countersign.database" (merge (dict "as" "owner") .) | nindent 4 }}
  {{- if include "countersign.databaseCa" . }}
  volumeMounts:
    {{- include "countersign.mount" "database-ca" | nindent 4 }}
  {{- end }}
  securityContext:
    {{- include "countersign.containerSecurity" . | nindent 4 }}
  resources:
    {{- toYaml .root.Values.migrate.resources | nindent 4 }}
{{- end -}}

{{/* How the kubelet asks. Its own gRPC probes know no TLS before Kubernetes 1.37; the program in the image does. */}}
{{- define "countersign.probe" -}}
{{- if eq (include "countersign.tls" .) "true" -}}
exec:
  command:
    - /usr/local/bin/countersign-{{ .name }}
    - health
    - --url=https://localhost:{{ .of.service.port }}
    - --ca=/etc/countersign/tls/{{ .of.tls.caKey }}
    - --server-name={{ include "countersign.host" . }}
    {{- with .grpc }}
    - --service={{ . }}
    {{- end }}
{{- else -}}
grpc:
  port: {{ .of.service.port }}
  {{- with .grpc }}
  service: {{ . }}
  {{- end }}
{{- end -}}
{{- end -}}

{{/* Seconds that the pod gets to end: what runs before SIGTERM, the drain (the notifier then finishes what it is posting, for as long
again), and a rest for the last traces. */}}
{{- define "countersign.grace" -}}
{{- $drain := div (add (default 20000 .of.settings.drainMs | int64) 999) 1000 -}}
{{- $delay := div (add (default 0 .of.settings.drainDelayMs | int64) 999) 1000 -}}
{{- add .of.preStopSleepSeconds $delay (mul $drain (ternary 2 1 (eq .name "notifier"))) 10 -}}
{{- end -}}

{{- define "countersign.secretVolume" -}}
- name: {{ index . 0 }}
  secret:
    secretName: {{ index . 1 }}
    defaultMode: 0440
{{- end -}}

{{/* The CA alone: an operator keeps its key in the same Secret. */}}
{{- define "countersign.databaseCaVolume" -}}
{{- with include "countersign.databaseCa" . }}
{{ include "countersign.secretVolume" (list "database-ca" .) }}
    items:
      - key: {{ ternary "ca.crt" $.of.databaseCa.key $.root.Values.postgres.enabled }}
        path: ca.crt
{{- end }}
{{- end -}}

{{- define "countersign.volumes" -}}
- name: tmp
  emptyDir:
    sizeLimit: {{ .of.tempSizeLimit }}
{{- include "countersign.databaseCaVolume" . }}
{{- with .of.tls.existingSecret }}
{{ include "countersign.secretVolume" (list "tls" .) }}
{{- end }}
{{- if eq .name "envelope" }}
{{- with .of.seal.existingSecret }}
{{ include "countersign.secretVolume" (list "seal" .) }}
{{- end }}
{{- with .of.documentsVolume.existingClaim }}
- name: documents
  persistentVolumeClaim:
    claimName: {{ . }}
{{- end }}
{{- else }}
{{- with .of.envelopeTls.existingSecret }}
{{ include "countersign.secretVolume" (list "envelope-tls" .) }}
{{- end }}
{{- with .of.smtpCa.existingSecret }}
{{ include "countersign.secretVolume" (list "smtp-ca" .) }}
{{- end }}
{{- with .of.mailVolume.existingClaim }}
- name: mails
  persistentVolumeClaim:
    claimName: {{ . }}
{{- end }}
{{- end }}
{{- with .of.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "countersign.mount" -}}
- name: {{ . }}
  mountPath: /etc/countersign/{{ . }}
  readOnly: true
{{- end -}}

{{- define "countersign.mounts" -}}
- name: tmp
  mountPath: /tmp
{{- if include "countersign.databaseCa" . }}
{{ include "countersign.mount" "database-ca" }}
{{- end }}
{{- if .of.tls.existingSecret }}
{{ include "countersign.mount" "tls" }}
{{- end }}
{{- if eq .name "envelope" }}
{{- if .of.seal.existingSecret }}
{{ include "countersign.mount" "seal" }}
{{- end }}
{{- if .of.documentsVolume.existingClaim }}
- name: documents
  mountPath: {{ .of.settings.documents }}
{{- end }}
{{- else }}
{{- if .of.envelopeTls.existingSecret }}
{{ include "countersign.mount" "envelope-tls" }}
{{- end }}
{{- if .of.smtpCa.existingSecret }}
{{ include "countersign.mount" "smtp-ca" }}
{{- end }}
{{- if .of.mailVolume.existingClaim }}
- name: mails
  mountPath: {{ .of.settings.mailFolder }}
{{- end }}
{{- end }}
{{- with .of.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}
