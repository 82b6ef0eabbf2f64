{{/*
One policy and its binding. Each file of this folder defines the template "daypass.policies.<name>", the spec without
failurePolicy, and calls this with (dict "name" <name> "root" $).

failurePolicy Fail: a rule that cannot be asked is a refusal. Audit beside Deny: refusals stand in the audit log too.
The digest says what the chart wrote. The operator computes it anew from what the API server holds, so that a policy
that was changed by hand counts as missing.
*/}}
{{- define "daypass.policy" -}}
{{- $name := printf "daypass-%s" .name -}}
{{- $spec := include (printf "daypass.policies.%s" .name) .root -}}
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata:
  name: {{ $name }}
  labels:
    {{- include "daypass.labels" .root | nindent 4 }}
  annotations:
    daypass.dev/digest: {{ include "daypass.policyDigest" $spec | quote }}
spec:
  failurePolicy: Fail
  {{- $spec | nindent 2 }}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  name: {{ $name }}
  labels:
    {{- include "daypass.labels" .root | nindent 4 }}
spec:
  policyName: {{ $name }}
  validationActions: [Deny, Audit]
{{- end }}

{{/*
SHA-256 over the lines that decide what a policy does, in a fixed order. src/guard/digest.rs does the same.
*/}}
{{- define "daypass.policyDigest" -}}
{{- $spec := fromYaml . -}}
{{- if $spec.Error }}{{ fail $spec.Error }}{{ end -}}
{{- $lines := list -}}
{{- range $spec.matchConstraints.resourceRules -}}
{{- $lines = append $lines (printf "rule %s %s %s %s" (join "," .apiGroups) (join "," .apiVersions) (join "," .resources) (join "," .operations)) -}}
{{- end -}}
{{- with $spec.matchConstraints.namespaceSelector -}}
{{- range $key, $value := .matchLabels -}}
{{- $lines = append $lines (printf "namespaces %s=%s" $key $value) -}}
{{- end -}}
{{- end -}}
{{- range $spec.matchConditions -}}
{{- $lines = append $lines (printf "condition %s %s" .name .expression) -}}
{{- end -}}
{{- range $spec.variables -}}
{{- $lines = append $lines (printf "variable %s %s" .name .expression) -}}
{{- end -}}
{{- range $spec.validations -}}
{{- $lines = append $lines (printf "validation %s|%s|%s" .expression .message (.messageExpression | default "")) -}}
{{- end -}}
{{- $lines | join "\n" | sha256sum -}}
{{- end }}

{{/* A CEL list of the strings given. */}}
{{- define "daypass.celList" -}}
[{{ range $index, $item := . }}{{ if $index }}, {{ end }}'{{ $item }}'{{ end }}]
{{- end }}

{{/* CEL: the controllers that clean up for everybody, under either way to run them. */}}
{{- define "daypass.garbageCollector" -}}
['system:serviceaccount:kube-system:generic-garbage-collector', 'system:kube-controller-manager']
{{- end }}

{{/* CEL: one owner, the Sandbox or EvalJob that controls it. The argument is the list of ownerReferences. */}}
{{- define "daypass.ownedByRun" -}}
{{ . }}.size() == 1 && {{ . }}.all(o, o.apiVersion == 'daypass.dev/v1alpha1' && o.kind in ['Sandbox', 'EvalJob'] &&
      has(o.controller) && o.controller && has(o.blockOwnerDeletion) && o.blockOwnerDeletion)
{{- end }}

{{/* CEL: no container of the list takes a variable from a run Secret. */}}
{{- define "daypass.noRunSecretInEnv" -}}
{{ . }}.all(c,
      (!has(c.env) || c.env.all(e, !has(e.valueFrom) || !has(e.valueFrom.secretKeyRef) ||
        !has(e.valueFrom.secretKeyRef.name) || !e.valueFrom.secretKeyRef.name.startsWith('daypass-run-'))) &&
      (!has(c.envFrom) || c.envFrom.all(e, !has(e.secretRef) ||
        !has(e.secretRef.name) || !e.secretRef.name.startsWith('daypass-run-'))))
{{- end }}

{{/* The variable `grantee`: the requester as the grant command takes it. A name that a shell would read otherwise is not put into a command. */}}
{{- define "daypass.grantee" -}}
- name: grantee
  expression: >-
    request.userInfo.username.startsWith('system:serviceaccount:') && request.userInfo.username.split(':').size() == 4 ?
    '--to-serviceaccount ' + request.userInfo.username.split(':')[2] + '/' + request.userInfo.username.split(':')[3] :
    '--to-user ' + (request.userInfo.username.matches('^[A-Za-z0-9._:@/+-]+$') ? request.userInfo.username : 'USER')
{{- end }}

{{/* CEL: what each reference of a list names, as TEAM/ACCESS NAME. The argument is the list. */}}
{{- define "daypass.named" -}}
{{ . }}.map(r, (has(r.team) ? r.team : request.namespace) + '/' + (has(r.store) && r.store != 'default' ? r.store + '.' : '') + r.name)
{{- end }}

{{/* The policies by name, without the prefix: the operator may read these. A test compares it with what is rendered. */}}
{{- define "daypass.policyNames" -}}
- operator-secrets
- operator-pods
- operator-tokens
- reserve-run-secrets
- keep-run-secrets-mortal
- reserve-run-pods
- pods-naming-run-secrets
- run-pods-fixed
- run-pods-bound
- exec-denied
- no-orphans
- submitted-by
- secret-authors
- use-sandbox
- use-evaljob
{{- end }}
