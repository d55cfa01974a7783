{{/* Name of the console's Deployment, Service, ServiceAccount and ConfigMap. */}}
{{- define "ostiary.console.name" -}}
{{ include "ostiary.fullname" . }}-console
{{- end -}}

{{/* Labels that tell the console's pods from all others. */}}
{{- define "ostiary.console.selector" -}}
app.kubernetes.io/name: ostiary-console
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "ostiary.console.sessionSecret" -}}
{{ .Values.console.sessionKey.secretRef.name | default (printf "%s-sessions" (include "ostiary.console.name" .)) }}
{{- end -}}

{{/* Keys of that Secret, as JSON. */}}
{{- define "ostiary.console.sessionKeys" -}}
{{ .Values.console.sessionKey.secretRef.keys | default (list "key") | toJson }}
{{- end -}}

{{/* The console's settings, as they are in its ConfigMap. */}}
{{- define "ostiary.console.settings" -}}
{{- $console := .Values.console -}}
{{- $keys := list -}}
{{- range include "ostiary.console.sessionKeys" . | fromJsonArray -}}
{{- $keys = append $keys (printf "/run/ostiary/sessions/%s" .) -}}
{{- end -}}
{{- $issuers := list -}}
{{- range $console.oidc -}}
{{- $issuer := omit . "clientSecretRef" -}}
{{- with .clientSecretRef -}}
{{- $issuer = merge (dict "clientSecretFile" (printf "/run/ostiary/secrets/%s/%s" .name (.key | default "clientSecret"))) $issuer -}}
{{- end -}}
{{- $issuers = append $issuers $issuer -}}
{{- end -}}
{{- $store := dict "urlFile" "/run/ostiary/database/url" -}}
{{- if .Values.store.recordings -}}
{{- $_ := set $store "recordings" (include "ostiary.store.recordings" . | fromYaml) -}}
{{- end -}}
{{- $settings := dict
  "listen" "0.0.0.0:8443"
  "admin" "0.0.0.0:9911"
  "url" $console.url
  "store" $store
  "sessions" (dict "keyFiles" $keys "idle" $console.signin.idle "absolute" $console.signin.absolute)
  "cluster" true
  "signin" (dict "tokens" $console.signin.tokens) -}}
{{- with $issuers -}}
{{- $_ := set $settings.signin "oidc" . -}}
{{- end -}}
{{- with $console.trustedProxies -}}
{{- $_ := set $settings "trustedProxies" . -}}
{{- end -}}
{{- with $console.hosts -}}
{{- $_ := set $settings "hosts" . -}}
{{- end -}}
{{- if $console.tls.secretRef.name -}}
{{- $_ := set $settings "tls" (dict "cert" "/run/ostiary/tls/tls.crt" "key" "/run/ostiary/tls/tls.key") -}}
{{- else -}}
{{- $_ := set $settings "behindProxy" true -}}
{{- end -}}
{{- toYaml (mergeOverwrite $settings (deepCopy $console.settings)) -}}
{{- end -}}

{{/* Secrets to mount below /run/ostiary/secrets, each once, as JSON. */}}
{{- define "ostiary.console.secrets" -}}
{{- $names := .Values.console.secrets -}}
{{- with .Values.store.recordings.secretRef -}}
{{- $names = append $names .name -}}
{{- end -}}
{{- range .Values.console.oidc -}}
{{- with .clientSecretRef -}}
{{- $names = append $names .name -}}
{{- end -}}
{{- end -}}
{{- uniq $names | toJson -}}
{{- end -}}
