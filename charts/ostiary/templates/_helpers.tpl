{{/* The first part of the names of cluster-wide objects. */}}
{{- define "ostiary.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "ostiary.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: ostiary
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end -}}

{{/* Labels that tell the operator's pods from all others. */}}
{{- define "ostiary.operator.selector" -}}
app.kubernetes.io/name: ostiary-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Name of the operator's Deployment, ServiceAccount, Service, ConfigMap and Lease. */}}
{{- define "ostiary.operator.name" -}}
{{ include "ostiary.fullname" . }}-operator
{{- end -}}

{{/* The user name that the API server knows the operator by. */}}
{{- define "ostiary.operator.username" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ include "ostiary.operator.name" . }}
{{- end -}}

{{/* ostiary.image {image: …, root: $}: a reference, by digest where there is one. */}}
{{- define "ostiary.image" -}}
{{- $registry := .root.Values.images.registry | trimSuffix "/" -}}
{{- if $registry }}{{ $registry }}/{{ end }}{{ .image.repository }}
{{- if .image.digest }}@{{ .image.digest }}{{ else }}:{{ .image.tag | default .root.Chart.AppVersion }}{{ end -}}
{{- end -}}

{{/* The operator's settings, as they are in its ConfigMap. */}}
{{- define "ostiary.operator.settings" -}}
{{- $gateway := .Values.gateway -}}
{{- $settings := dict
  "watchNamespaces" .Values.watchNamespaces
  "gatewaysBinding" (printf "%s-gateways" (include "ostiary.fullname" .))
  "resyncPeriod" .Values.operator.resyncPeriod
  "log" .Values.operator.log
  "leaderElection" (merge (dict "leaseName" (include "ostiary.operator.name" .)) .Values.operator.leaderElection)
  "gateway" (dict
    "image" (include "ostiary.image" (dict "image" $gateway.image "root" .))
    "imagePullPolicy" .Values.images.pullPolicy
    "imagePullSecrets" .Values.images.pullSecrets
    "clusterRole" (printf "%s-gateway" (include "ostiary.fullname" .))
    "serviceAccountTokens" $gateway.serviceAccountTokens
    "logLevel" $gateway.logLevel
    "drainSeconds" ($gateway.drainSeconds | int)
    "dataSizeLimit" $gateway.dataSizeLimit
    "resources" $gateway.resources
    "nodeSelector" $gateway.nodeSelector
    "tolerations" $gateway.tolerations
    "affinity" $gateway.affinity
    "topologySpreadConstraints" $gateway.topologySpreadConstraints
    "priorityClassName" $gateway.priorityClassName
    "runtimeClassName" $gateway.runtimeClassName
    "podAnnotations" $gateway.podAnnotations
    "podLabels" $gateway.podLabels
    "networkPolicy" $gateway.networkPolicy
    "autoscaling" $gateway.autoscaling
    "metricsAnnotations" .Values.metrics.annotations) -}}
{{- if .Values.store.enabled -}}
{{- $store := dict "url" (include "ostiary.store.url" .) "caFile" "/run/ostiary/store/ca.crt" -}}
{{- with .Values.store.keepLocal -}}
{{- $_ := set $store "keepLocal" . -}}
{{- end -}}
{{- $_ := set $settings.gateway "store" $store -}}
{{- end -}}
{{- if .Values.console.enabled -}}
{{- $_ := set $settings.gateway "consoleAccount" (printf "%s/%s" .Release.Namespace (include "ostiary.console.name" .)) -}}
{{- end -}}
{{- toYaml (mergeOverwrite $settings (deepCopy .Values.operator.settings)) -}}
{{- end -}}
