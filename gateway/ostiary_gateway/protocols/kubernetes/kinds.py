"""The kinds that Kubernetes itself serves, and how the resource of any other kind is called by rule.

For tests and explanations, where no API server can be asked. A gateway takes the resource from the URL, and needs none
of this.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of the API: where it is served. `short`: what kubectl also calls it."""

    group: str
    version: str
    resource: str
    kind: str
    namespaced: bool
    short: tuple[str, ...] = ()


# One line a group version: resource Kind short,names for those with namespaces; after `|` those without.
_TABLE = """
/v1: bindings Binding; configmaps ConfigMap cm; endpoints Endpoints ep; events Event ev; limitranges LimitRange limits;
 persistentvolumeclaims PersistentVolumeClaim pvc; pods Pod po; podtemplates PodTemplate;
 replicationcontrollers ReplicationController rc; resourcequotas ResourceQuota quota; secrets Secret;
 serviceaccounts ServiceAccount sa; services Service svc
 | componentstatuses ComponentStatus cs; namespaces Namespace ns; nodes Node no; persistentvolumes PersistentVolume pv
apps/v1: controllerrevisions ControllerRevision; daemonsets DaemonSet ds; deployments Deployment deploy;
 replicasets ReplicaSet rs; statefulsets StatefulSet sts |
batch/v1: cronjobs CronJob cj; jobs Job |
autoscaling/v2: horizontalpodautoscalers HorizontalPodAutoscaler hpa |
policy/v1: poddisruptionbudgets PodDisruptionBudget pdb |
networking.k8s.io/v1: ingresses Ingress ing; networkpolicies NetworkPolicy netpol
 | ingressclasses IngressClass; ipaddresses IPAddress ip; servicecidrs ServiceCIDR
rbac.authorization.k8s.io/v1: rolebindings RoleBinding; roles Role
 | clusterrolebindings ClusterRoleBinding; clusterroles ClusterRole
storage.k8s.io/v1: csistoragecapacities CSIStorageCapacity
 | csidrivers CSIDriver; csinodes CSINode; storageclasses StorageClass sc; volumeattachments VolumeAttachment;
 volumeattributesclasses VolumeAttributesClass vac
coordination.k8s.io/v1: leases Lease |
discovery.k8s.io/v1: endpointslices EndpointSlice |
events.k8s.io/v1: events Event |
scheduling.k8s.io/v1: | priorityclasses PriorityClass pc
node.k8s.io/v1: | runtimeclasses RuntimeClass
certificates.k8s.io/v1: | certificatesigningrequests CertificateSigningRequest csr
admissionregistration.k8s.io/v1: | mutatingadmissionpolicies MutatingAdmissionPolicy;
 mutatingadmissionpolicybindings MutatingAdmissionPolicyBinding;
 mutatingwebhookconfigurations MutatingWebhookConfiguration; validatingadmissionpolicies ValidatingAdmissionPolicy;
 validatingadmissionpolicybindings ValidatingAdmissionPolicyBinding;
 validatingwebhookconfigurations ValidatingWebhookConfiguration
apiextensions.k8s.io/v1: | customresourcedefinitions CustomResourceDefinition crd,crds
apiregistration.k8s.io/v1: | apiservices APIService
authentication.k8s.io/v1: | selfsubjectreviews SelfSubjectReview; tokenreviews TokenReview
authorization.k8s.io/v1: localsubjectaccessreviews LocalSubjectAccessReview
 | selfsubjectaccessreviews SelfSubjectAccessReview; selfsubjectrulesreviews SelfSubjectRulesReview;
 subjectaccessreviews SubjectAccessReview
flowcontrol.apiserver.k8s.io/v1: | flowschemas FlowSchema; prioritylevelconfigurations PriorityLevelConfiguration
resource.k8s.io/v1: resourceclaims ResourceClaim; resourceclaimtemplates ResourceClaimTemplate
 | deviceclasses DeviceClass; resourceslices ResourceSlice
metrics.k8s.io/v1beta1: pods PodMetrics | nodes NodeMetrics
"""


def _read(table: str) -> tuple[Kind, ...]:
    found: list[Kind] = []
    for line in table.replace("\n ", " ").strip().splitlines():
        where, _, entries = line.partition(": ")
        group, _, version = where.partition("/")
        for side, namespaced in zip(entries.split("|"), (True, False), strict=False):
            for entry in filter(None, (entry.split() for entry in side.split(";"))):
                short = tuple(entry[2].split(",")) if len(entry) > 2 else ()
                found.append(Kind(group, version, entry[0], entry[1], namespaced, short))
    return tuple(found)


KINDS: tuple[Kind, ...] = _read(_TABLE)
"""Those of Kubernetes 1.36 that are served by default, each in the version that is preferred; pods and nodes of
metrics-server too. Checked against a real API server's discovery in the tests."""

_BY_KIND: Mapping[tuple[str, str], Kind] = {(each.group, each.kind): each for each in KINDS}
_BY_RESOURCE: Mapping[tuple[str, str], Kind] = {(each.group, each.resource): each for each in KINDS}
_BY_NAME: dict[str, Kind] = {}
for _each in KINDS:
    # Of two groups that have the same name, the one that stands first is what kubectl takes: events of the core group.
    for _name in (_each.resource, _each.kind.lower(), *_each.short):
        _BY_NAME.setdefault(_name, _each)


def of_kind(group: str, kind: str) -> Kind | None:
    """A kind by its own name: `apps`, `Deployment`."""
    return _BY_KIND.get((group, kind))


def of_resource(group: str, resource: str) -> Kind | None:
    """A kind by its resource: `apps`, `deployments`."""
    return _BY_RESOURCE.get((group, resource))


def of_name(name: str) -> Kind | None:
    """A kind by what people call it on a command line: plural, singular or short, in any case."""
    return _BY_NAME.get(name.lower())


def plural(kind: str) -> str:
    """The resource of a kind that is not known, as UnsafeGuessKindToResource of k8s.io/apimachinery guesses it."""
    name = kind.lower()
    if name.endswith("endpoints"):
        return name
    if name.endswith("s"):
        return f"{name}es"
    if name.endswith("y"):
        return f"{name[:-1]}ies"
    return f"{name}s"
