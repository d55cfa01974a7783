{{/* Name of the store's Deployment, Service, ServiceAccount and ConfigMap. */}}
{{- define "ostiary.store.name" -}}
{{ include "ostiary.fullname" . }}-store
{{- end -}}

{{/* Labels that tell the store's pods from all others. */}}
{{- define "ostiary.store.selector" -}}
app.kubernetes.io/name: ostiary-store
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "ostiary.store.url" -}}
https://{{ include "ostiary.store.name" . }}.{{ .Release.Namespace }}.svc:8443
{{- end -}}

{{/* The Secrets that the chart makes where none is given. */}}
{{- define "ostiary.store.tlsSecret" -}}
{{ .Values.store.tls.secretRef.name | default (printf "%s-tls" (include "ostiary.store.name" .)) }}
{{- end -}}
{{- define "ostiary.store.sealSecret" -}}
{{ .Values.store.seal.secretRef.name | default (printf "%s-seal" (include "ostiary.store.name" .)) }}
{{- end -}}

{{/* The bucket, with its keys as files. */}}
{{- define "ostiary.store.recordings" -}}
{{- $bucket := omit .Values.store.recordings "secretRef" -}}
{{- with .Values.store.recordings.secretRef -}}
{{- $bucket = merge (dict
  "accessKeyFile" (printf "/run/ostiary/secrets/%s/%s" .name (.accessKey | default "accessKey"))
  "secretKeyFile" (printf "/run/ostiary/secrets/%s/%s" .name (.secretKey | default "secretKey"))) $bucket -}}
{{- end -}}
{{- toYaml $bucket -}}
{{- end -}}

{{/* The store's settings, as they are in its ConfigMap. */}}
{{- define "ostiary.store.settings" -}}
{{- $store := .Values.store -}}
{{- $settings := dict
  "store" (dict "urlFile" "/run/ostiary/database/url")
  "listen" "0.0.0.0:8443"
  "admin" "0.0.0.0:9911"
  "tls" (dict "cert" "/run/ostiary/tls/tls.crt" "key" "/run/ostiary/tls/tls.key")
  "gateways" (dict "tokenReview" true)
  "seal" (dict "keyFile" "/run/ostiary/seal/privateKey" "every" $store.seal.every) -}}
{{- if $store.recordings -}}
{{- $_ := set $settings "recordings" (include "ostiary.store.recordings" . | fromYaml) -}}
{{- end -}}
{{- range $key := list "retention" "anchors" "exports" -}}
{{- with get $store $key -}}
{{- $_ := set $settings $key . -}}
{{- end -}}
{{- end -}}
{{- toYaml (mergeOverwrite $settings (deepCopy $store.settings)) -}}
{{- end -}}

{{/* Secrets to mount below /run/ostiary/secrets, each once. */}}
{{- define "ostiary.store.secrets" -}}
{{- $names := .Values.store.secrets -}}
{{- with .Values.store.recordings.secretRef -}}
{{- $names = append $names .name -}}
{{- end -}}
{{- uniq $names | toJson -}}
{{- end -}}

{{/*
What operator, store and console have in common. ostiary.pod {root, part: values, selector: template of its labels}.
*/}}
{{- define "ostiary.pod.placement" -}}
{{- $part := .part -}}
{{- with .root.Values.images.pullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $part.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
topologySpreadConstraints:
{{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
- maxSkew: 1
  topologyKey: {{ . }}
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels: {{- include $.selector $.root | nindent 6 }}
{{- end }}
{{- with $part.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $part.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $part.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "ostiary.pod.security" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "ostiary.container.security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* The pod's own identity, mounted where it is needed only. */}}
{{- define "ostiary.pod.token" -}}
name: token
projected:
  sources:
  - serviceAccountToken: {path: token, expirationSeconds: 3607}
  - configMap: {name: kube-root-ca.crt, items: [{key: ca.crt, path: ca.crt}]}
  - downwardAPI: {items: [{path: namespace, fieldRef: {fieldPath: metadata.namespace}}]}
{{- end -}}
