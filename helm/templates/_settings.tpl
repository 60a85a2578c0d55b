{{/* How values become environment variables. */}}

{{/* A setting's variable: pollMs is COUNTERSIGN_POLL_MS. */}}
{{- define "countersign.variable" -}}
{{- if eq . "otlpEndpoint" -}}
OTEL_EXPORTER_OTLP_ENDPOINT
{{- else -}}
COUNTERSIGN_{{ . | snakecase | upper }}
{{- end -}}
{{- end -}}

{{/* The settings of a service as the data of a ConfigMap: lists with commas, numbers without exponents. */}}
{{- define "countersign.settings" -}}
COUNTERSIGN_LISTEN: {{ printf "%s:%d" .root.Values.listenAddress (.of.service.port | int) | quote }}
{{- if .of.metrics.enabled }}
COUNTERSIGN_METRICS_LISTEN: {{ printf "%s:%d" .root.Values.listenAddress (.of.metrics.port | int) | quote }}
{{- end }}
{{- if eq .name "notifier" }}
COUNTERSIGN_ENVELOPE_URL: {{ include "countersign.url" (dict "root" .root "name" "envelope" "of" .root.Values.envelope) | quote }}
{{- end }}
{{- range $path, $file := include "countersign.files" . | fromYaml }}
{{ $path }}: {{ $file | quote }}
{{- end }}
{{- range $key, $value := .of.settings }}
{{- if not (or (kindIs "invalid" $value) (and (kindIs "string" $value) (eq $value ""))) }}
{{- if kindIs "slice" $value }}
{{- $parts := list }}
{{- range $value }}
{{- $parts = append $parts (ternary (. | int64 | toString) (. | toString) (kindIs "float64" .)) }}
{{- end }}
{{ include "countersign.variable" $key }}: {{ join "," $parts | quote }}
{{- else if kindIs "float64" $value }}
{{ include "countersign.variable" $key }}: {{ ternary ($value | int64 | toString) ($value | toString) (eq (floor $value) $value) | quote }}
{{- else }}
{{ include "countersign.variable" $key }}: {{ $value | toString | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Settings that name files out of Secrets. */}}
{{- define "countersign.files" -}}
{{- if .of.tls.existingSecret }}
COUNTERSIGN_TLS_CERT: /etc/countersign/tls/{{ .of.tls.certKey }}
COUNTERSIGN_TLS_KEY: /etc/countersign/tls/{{ .of.tls.keyKey }}
{{- with .of.tls.clientCaKey }}
COUNTERSIGN_TLS_CLIENT_CA: /etc/countersign/tls/{{ . }}
{{- end }}
{{- end }}
{{- if and (eq .name "envelope") .of.seal.existingSecret }}
COUNTERSIGN_SEAL_PKCS12: /etc/countersign/seal/{{ .of.seal.key }}
{{- with .of.seal.passphraseKey }}
COUNTERSIGN_SEAL_PASSPHRASE_FILE: /etc/countersign/seal/{{ . }}
{{- end }}
{{- with .of.seal.trustKey }}
COUNTERSIGN_SEAL_TRUST: /etc/countersign/seal/{{ . }}
{{- end }}
{{- with .of.seal.formerKey }}
COUNTERSIGN_SEAL_FORMER: /etc/countersign/seal/{{ . }}
{{- end }}
{{- end }}
{{- if eq .name "notifier" }}
{{- with .of.envelopeTls }}
{{- if .existingSecret }}
{{- if .caKey }}
COUNTERSIGN_ENVELOPE_CA: /etc/countersign/envelope-tls/{{ .caKey }}
{{- end }}
{{- if .certKey }}
COUNTERSIGN_CLIENT_CERT: /etc/countersign/envelope-tls/{{ .certKey }}
COUNTERSIGN_CLIENT_KEY: /etc/countersign/envelope-tls/{{ .keyKey }}
{{- end }}
{{- end }}
{{- end }}
{{- if .of.smtpCa.existingSecret }}
COUNTERSIGN_SMTP_CA: /etc/countersign/smtp-ca/{{ .of.smtpCa.key }}
{{- end }}
{{- end }}
{{- end -}}

{{/* One variable out of a Secret. */}}
{{- define "countersign.secretVariable" -}}
- name: {{ index . 0 }}
  valueFrom:
    secretKeyRef:
      name: {{ index . 1 }}
      key: {{ index . 2 }}
{{- end -}}

{{/* Where the database is: as the role that serves, or as the owner ("as"). */}}
{{- define "countersign.database" -}}
{{- $secret := .of.secret -}}
{{- if .root.Values.postgres.enabled -}}
{{- $role := index .root.Values.postgres.roles (printf "%s%s" .name (title .as)) -}}
{{ include "countersign.secretVariable" (list "DATABASE_USER" $role "username") }}
{{ include "countersign.secretVariable" (list "DATABASE_PASSWORD" $role "password") }}
- name: COUNTERSIGN_DATABASE_URL
  value: postgres://$(DATABASE_USER):$(DATABASE_PASSWORD)@{{ include "countersign.fullname" .root }}-postgres-rw:5432/countersign_{{ .name }}
{{- else -}}
{{- $key := ternary (default $secret.databaseUrlKey $secret.migrationDatabaseUrlKey) $secret.databaseUrlKey (eq .as "owner") -}}
{{ include "countersign.secretVariable" (list "COUNTERSIGN_DATABASE_URL" $secret.existingSecret $key) }}
{{- end -}}
{{- if include "countersign.databaseCa" . }}
- name: COUNTERSIGN_DATABASE_CA
  value: /etc/countersign/database-ca/ca.crt
{{- end }}
{{- end -}}

{{/* Secret with the CA of the database's certificate: the operator of an in-chart Postgres makes one. */}}
{{- define "countersign.databaseCa" -}}
{{- if .root.Values.postgres.enabled -}}
{{ include "countersign.fullname" .root }}-postgres-ca
{{- else -}}
{{ .of.databaseCa.existingSecret }}
{{- end -}}
{{- end -}}

{{/* All variables of the serving container that are secret. */}}
{{- define "countersign.secrets" -}}
{{- $secret := .of.secret -}}
{{ include "countersign.database" (merge (dict "as" "serving") .) }}
{{ include "countersign.secretVariable" (list "COUNTERSIGN_MASTER_KEY" $secret.existingSecret $secret.masterKeyKey) }}
{{- with $secret.masterKeyFormerKey }}
{{ include "countersign.secretVariable" (list "COUNTERSIGN_MASTER_KEY_FORMER" $secret.existingSecret .) }}
{{- end }}
{{- with .root.Values.serviceToken }}
{{- if .existingSecret }}
{{ include "countersign.secretVariable" (list "COUNTERSIGN_SERVICE_TOKEN" .existingSecret .key) }}
{{- end }}
{{- end }}
{{- with $secret.replicaUrlKey }}
{{ include "countersign.secretVariable" (list "COUNTERSIGN_REPLICA_URL" $secret.existingSecret .) }}
{{- end }}
{{- with $secret.operatorKeyKey }}
{{ include "countersign.secretVariable" (list "COUNTERSIGN_OPERATOR_KEY" $secret.existingSecret .) }}
{{- end }}
{{- with $secret.documentKeysKey }}
{{ include "countersign.secretVariable" (list "COUNTERSIGN_DOCUMENT_KEYS" $secret.existingSecret .) }}
{{- end }}
{{- with $secret.smtpUrlKey }}
{{ include "countersign.secretVariable" (list "COUNTERSIGN_SMTP_URL" $secret.existingSecret .) }}
{{- end }}
{{- end -}}
