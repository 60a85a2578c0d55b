{{/* What no schema can say of values: each failure names the value and what is wrong. */}}
{{- define "countersign.checks" -}}
{{- $envelope := .Values.envelope -}}
{{- if not $envelope.settings.documents -}}
{{- fail "envelope.settings.documents: must say where documents lie: a bucket (s3://…, gs://…, az://…) or a folder" -}}
{{- end -}}
{{- $folder := not (contains "://" $envelope.settings.documents) -}}
{{- if and $folder (not $envelope.documentsVolume.existingClaim) -}}
{{- fail "envelope.documentsVolume.existingClaim: is needed where envelope.settings.documents is a folder: the container's own is read-only" -}}
{{- end -}}
{{- if and (not $folder) $envelope.documentsVolume.existingClaim -}}
{{- fail "envelope.documentsVolume.existingClaim: is of no use where envelope.settings.documents is no folder" -}}
{{- end -}}
{{- if and (not $envelope.seal.existingSecret) (not $envelope.settings.unsealed) -}}
{{- fail "envelope.seal.existingSecret: is needed: the key of the seals (or envelope.settings.unsealed=true, and nothing is sealed)" -}}
{{- end -}}
{{- if and (not .Values.serviceToken.existingSecret) (not $envelope.settings.serviceIdentities) -}}
{{- fail "serviceToken.existingSecret: is needed where envelope.settings.serviceIdentities names no notifier" -}}
{{- end -}}
{{- if and $envelope.settings.serviceIdentities (not $envelope.tls.clientCaKey) -}}
{{- fail "envelope.tls.clientCaKey: is needed with envelope.settings.serviceIdentities: without it no certificate is looked at" -}}
{{- end -}}
{{- if and .Values.notifier.settings.mailFolder (not .Values.notifier.mailVolume.existingClaim) -}}
{{- fail "notifier.mailVolume.existingClaim: is needed with notifier.settings.mailFolder: the container's own file system is read-only" -}}
{{- end -}}
{{- if and .Values.postgres.enabled (eq .Values.migrate.mode "hook") -}}
{{- fail "migrate.mode: must be init with postgres.enabled: a hook runs before there is a database" -}}
{{- end -}}
{{- range $name := list "envelope" "notifier" -}}
{{- if and $.Values.alerts.enabled (not (index $.Values $name).metrics.enabled) -}}
{{- fail (printf "%s.metrics.enabled: must be true with alerts.enabled: an alert would say that nothing is told" $name) -}}
{{- end -}}
{{- $of := index $.Values $name -}}
{{- if and $of.tls.clientCaKey (not $of.tls.existingSecret) -}}
{{- fail (printf "%s.tls.existingSecret: is needed with %s.tls.clientCaKey" $name $name) -}}
{{- end -}}
{{- if and $of.metrics.serviceMonitor.enabled (not $of.metrics.enabled) -}}
{{- fail (printf "%s.metrics.enabled: must be true with %s.metrics.serviceMonitor.enabled" $name $name) -}}
{{- end -}}
{{- if gt ($of.autoscaling.minReplicas | int) ($of.autoscaling.maxReplicas | int) -}}
{{- fail (printf "%s.autoscaling.maxReplicas: is less than minReplicas" $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
