"""The ValidatingAdmissionPolicies that guard ApprovalRequests: who asks, who answers, who counts, who deletes;
that guard the bundles of gateways, which say whether approvals count: only the operator writes and deletes them; and
that guard Connections, so that nobody gets a right by writing one.

They hold whatever a client does, because the API server asks them about every write. One name is wired in, the
operator's; everybody else is told by verbs: `serve` and `approve` on the Connection, and for deletion the right to
remove these policies, which who has it could do anyway (cluster administrators, the garbage collector).

Every field that the API server would fill in is written out, so that what is there can be compared with this.
"""

from __future__ import annotations

from typing import Any, Final

from ostiary_api.approval import ApprovalRequest
from ostiary_api.connection import Connection
from ostiary_api.meta import GROUP, VERSION
from ostiary_api.names import MANAGED_BY_LABEL, MANAGER

Manifest = dict[str, Any]

API: Final = "admissionregistration.k8s.io/v1"
ASK: Final = "approvals-ask.ostiary.dev"
ANSWER: Final = "approvals-answer.ostiary.dev"
STATUS: Final = "approvals-status.ostiary.dev"
DELETE: Final = "approvals-delete.ostiary.dev"
BUNDLES: Final = "bundles.ostiary.dev"
CONNECTIONS: Final = "connections.ostiary.dev"
NAMES: Final = (ASK, ANSWER, STATUS, DELETE, BUNDLES, CONNECTIONS)
"""Of the policies; each binding has its policy's name."""

SELFCHECK: Final = "ostiary-selfcheck"
"""Name of the request in the system namespace with which the operator tries forgeries, and of its Connection, which
there is not; nobody's question."""

_FINAL: Final = "['Denied', 'Expired', 'Consumed']"
_CONNECTION: Final = (
    "authorizer.group('ostiary.dev').resource('connections').namespace(request.namespace)\n"
    "  .name(object.spec.connectionRef.name).check('{verb}').allowed()"
)


def manifests(operator: str) -> list[Manifest]:
    """Policies and bindings, where `operator` is the user name of the operator's ServiceAccount."""
    policies = [_ask(operator), _answer(), _status(operator), _delete(operator), _bundles(operator), _connections()]
    return [each for policy in policies for each in (policy, _binding(policy["metadata"]["name"]))]


def _ask(operator: str) -> Manifest:
    return _policy(
        ASK, "CREATE", ApprovalRequest.plural,
        {
            "operator": f"request.userInfo.username == '{operator}'",
            "connection": "request.namespace + '/' + object.spec.connectionRef.name",
        },
        [
            _rule(
                _CONNECTION.format(verb="serve"),
                "only a gateway asks for approval",
                "'only a gateway of the Connection asks for approval, and ' + request.userInfo.username + "
                "' has not the verb serve on connections.ostiary.dev ' + variables.connection",
            ),
            _rule(
                f"!variables.operator || object.spec.connectionRef.name == '{SELFCHECK}'",
                "gateways ask; the operator, which gives them the verb serve, does not",
            ),
            _rule(
                "size(object.spec.decisions) == 0",
                "a question is asked without answers; approvers add theirs to spec.decisions",
            ),
            _rule(
                "object.metadata.?finalizers.orValue([]).size() == 0",
                "a question has no finalizers: it must be possible to delete it",
            ),
            _rule(
                "variables.operator || object.metadata.?ownerReferences.orValue([]).all(owner,\n"
                "  owner.kind == 'Connection' && owner.apiVersion.startsWith('ostiary.dev/')\n"
                "  && owner.name == object.spec.connectionRef.name)",
                "a question belongs to its Connection only: another owner could have it deleted",
            ),
        ],
    )  # fmt: skip


def _answer() -> Manifest:
    return _policy(
        ANSWER, "UPDATE", ApprovalRequest.plural,
        {
            "answered": "oldObject.spec.decisions.map(d, d.approver)",
            "added": "object.spec.decisions.filter(d, !(d.approver in variables.answered))",
            "answers": "variables.added.size() > 0",
            "groups": "request.userInfo.?groups.orValue([])",
            "caretaker": _caretaker(ANSWER),
            "connection": "request.namespace + '/' + object.spec.connectionRef.name",
            "closed": "oldObject.?status.?conditions.orValue([])\n"
            "  .filter(c, c.status == 'True' && c.type in ['Approved', 'Denied', 'Expired', 'Consumed'])\n"
            "  .map(c, c.type)",
        },
        [
            _rule(
                "variables.added.all(d, d.approver == request.userInfo.username)",
                "answer in your own name",
                "'you are ' + request.userInfo.username + ', and the answer says ' + variables.added.filter(d, "
                "d.approver != request.userInfo.username)[0].approver + ': answer in your own name'",
            ),
            _rule(
                "!variables.answers || !(request.userInfo.username.startsWith('system:serviceaccount:')\n"
                "  || request.userInfo.username.startsWith('system:node:')\n"
                "  || request.userInfo.username == 'system:anonymous'\n"
                "  || variables.groups.exists(g,\n"
                "    g in ['system:serviceaccounts', 'system:nodes', 'system:unauthenticated']))",
                "people answer: no ServiceAccount, no node, nobody who has not logged in",
            ),
            _rule(
                "!variables.answers || request.userInfo.username != object.spec.requester.username\n"
                "  && request.userInfo.username != object.spec.requester.?onBehalfOf.orValue('')\n"
                "  && (request.userInfo.?uid.orValue('') == ''\n"
                "    || request.userInfo.?uid.orValue('') != object.spec.requester.?uid.orValue(''))",
                "nobody answers what they asked for themselves, or what was asked on their behalf",
            ),
            _rule(
                "!variables.answers || " + _CONNECTION.format(verb="approve"),
                "you have not the verb approve on the Connection",
                "request.userInfo.username + ' has not the verb approve on connections.ostiary.dev ' + "
                "variables.connection + ': who gives out roles in this namespace can grant it'",
            ),
            _rule(
                "!variables.answers || object.spec.approval.groups.exists(g, g in variables.groups)",
                "you are in none of the groups that may answer",
                "request.userInfo.username + ' is in none of the groups that may answer: ' + "
                "object.spec.approval.groups.join(', ')",
            ),
            _rule(
                "!variables.answers || variables.closed.size() == 0",
                "it is closed: an answer comes too late",
                "'it is closed (' + variables.closed.join(', ') + '): an answer comes too late'",
            ),
            _rule(
                "variables.caretaker || ["
                + ", ".join(
                    f"object.metadata.?{field} == oldObject.metadata.?{field}"
                    for field in ("labels", "annotations", "finalizers", "ownerReferences")
                )
                + "].all(same, same)",
                "labels, annotations, finalizers and ownerReferences of a question stay as they were made; answer "
                "with `kubectl ostiary approve`, or kubectl patch, instead of kubectl apply",
            ),
        ],
    )  # fmt: skip


def _status(operator: str) -> Manifest:
    return _policy(
        STATUS, "UPDATE", f"{ApprovalRequest.plural}/status",
        {
            "operator": f"request.userInfo.username == '{operator}'",
            "old": "oldObject.?status.?conditions.orValue([])",
            "new": "object.?status.?conditions.orValue([])",
            "was": "variables.old.filter(c, c.status == 'True').map(c, c.type)",
            "became": "variables.new.filter(c, c.status == 'True' && !(c.type in variables.was)).map(c, c.type)",
            "counted": "oldObject.?status.?approvals.orValue([])",
            "answers": "object.?status.?approvals.orValue([])",
        },
        [
            _rule(
                "variables.operator || " + _CONNECTION.format(verb="serve"),
                "the operator counts the answers and writes the status; approvers add theirs to spec.decisions",
            ),
            _rule(
                "variables.operator || variables.became == ['Consumed'] && 'Approved' in variables.was\n"
                f"  && !variables.was.exists(t, t in {_FINAL})",
                "a gateway may use up a grant, from Approved to Consumed, and write nothing else of the status",
            ),
            _rule(
                "variables.operator || variables.new.size() == variables.old.size() + 1\n"
                "  && variables.old.all(c, c in variables.new)\n"
                "  && object.?status.?state.orValue('Consumed') == 'Consumed'\n"
                "  && ["
                + ", ".join(
                    f"object.?status.?{field} == oldObject.?status.?{field}"
                    for field in ("approvals", "expiresAt", "grantExpiresAt", "observedGeneration", "told")
                )
                + "].all(same, same)",
                "a gateway that uses up a grant changes nothing else of the status",
            ),
            _rule(
                "variables.operator || oldObject.?status.?grantExpiresAt.hasValue()\n"
                "  && object.?status.?consumedAt.hasValue() && !oldObject.?status.?consumedAt.hasValue()\n"
                "  && object.status.consumedAt < oldObject.status.grantExpiresAt",
                "a grant is used once, with the time in consumedAt, before it expires",
            ),
            _rule(
                "!variables.operator || !('Consumed' in variables.became)\n"
                "  && object.?status.?consumedAt == oldObject.?status.?consumedAt",
                "a gateway says that a grant was used, nobody else",
            ),
            _rule(
                f"variables.was.filter(t, t in {_FINAL}).all(t, variables.became.size() == 0\n"
                "  && variables.new.exists(c, c.type == t && c.status == 'True'))",
                "what is denied, expired or consumed stays so",
            ),
            _rule(
                "variables.answers.all(a, object.spec.decisions.exists(d, d.approver == a.approver\n"
                "  && d.verdict == a.verdict && d.?reason.orValue('') == a.?reason.orValue('')))",
                "an answer is counted that nobody gave: each is in spec.decisions as it was given",
            ),
            _rule(
                "variables.counted.all(a, a in variables.answers)",
                "an answer that was counted stays counted",
            ),
            _rule(
                "variables.answers.all(a, a.approver != object.spec.requester.username\n"
                "  && a.approver != object.spec.requester.?onBehalfOf.orValue(''))",
                "an answer of who asked does not count",
            ),
            _rule(
                "!('Approved' in variables.became)\n"
                "  || variables.answers.size() >= object.spec.approval.?minApprovals.orValue(1)\n"
                "  && variables.answers.all(a, a.verdict == 'Approve') && object.?status.?grantExpiresAt.hasValue()",
                "it is approved only when as many people as it needs have approved, and none has denied",
            ),
            _rule(
                "!('Denied' in variables.became)\n"
                "  || variables.answers.exists(a, a.verdict == 'Deny') && !('Approved' in variables.was)",
                "it is denied only when somebody has denied it, before it was approved",
            ),
            _rule(
                "(!oldObject.?status.?expiresAt.hasValue()\n"
                "    || object.?status.?expiresAt == oldObject.?status.?expiresAt)\n"
                "  && (!oldObject.?status.?grantExpiresAt.hasValue()\n"
                "    || object.?status.?grantExpiresAt == oldObject.?status.?grantExpiresAt)",
                "a time that was set stays: neither a question nor a grant is made longer",
            ),
        ],
    )  # fmt: skip


def _delete(operator: str) -> Manifest:
    return _policy(
        DELETE, "DELETE", ApprovalRequest.plural,
        {
            "operator": f"request.userInfo.username == '{operator}'",
            "caretaker": _caretaker(DELETE),
            "closed": "oldObject.?status.?conditions.orValue([])\n"
            f"  .exists(c, c.status == 'True' && c.type in {_FINAL})",
        },
        [
            _rule(
                "variables.caretaker || variables.operator && variables.closed",
                "a question is not deleted: the operator removes those that are closed, some time after",
            ),
        ],
    )  # fmt: skip


def _bundles(operator: str) -> Manifest:
    """Gateways take no ConfigMap without the label, so who may write ConfigMaps cannot write one beside it either."""
    bundles = _policy(
        BUNDLES, "CREATE", "configmaps",
        {"operator": f"request.userInfo.username == '{operator}'", "caretaker": _caretaker(BUNDLES)},
        [
            _rule(
                "variables.operator || variables.caretaker",
                "a bundle of policies is written by the operator only; change Connections and GatewayPolicies instead. "
                f"It is one by its label {MANAGED_BY_LABEL}: {MANAGER}",
            ),
        ],
    )  # fmt: skip
    constraints = bundles["spec"]["matchConstraints"]
    # Of an update the API server takes the old and the new object: the label cannot be taken away first.
    constraints["objectSelector"] = {"matchLabels": {MANAGED_BY_LABEL: MANAGER}}
    constraints["resourceRules"][0] |= {
        "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE", "DELETE"],
    }  # fmt: skip
    return bundles


def _connections() -> Manifest:
    """A gateway's own ServiceAccount may make tokens and, where an administrator says so, impersonate: whoever writes
    the Connection chooses with its authentication who gets the use of that, and so must have it already."""
    connections = _policy(
        CONNECTIONS, "CREATE", Connection.plural,
        {
            "changed": "request.operation == 'CREATE' || object.spec != oldObject.spec",
            "tokens": "object.spec.credentials.?serviceAccountToken.hasValue()\n"
            "  && !object.spec.credentials.serviceAccountToken.?secretRef.hasValue()",
            "name": "object.spec.credentials.?serviceAccountToken.?name.orValue('')",
            "home": "object.spec.credentials.?serviceAccountToken.?namespace.orValue(request.namespace)",
            "impersonates": "object.spec.credentials.?impersonate.hasValue()\n"
            "  && !object.spec.credentials.impersonate.?secretRef.hasValue()",
        },
        [
            _rule(
                "!variables.changed || !variables.tokens\n"
                "  || authorizer.group('').resource('serviceaccounts').subresource('token')\n"
                "    .namespace(variables.home).name(variables.name).check('create').allowed()",
                "who lets agents act as a ServiceAccount must be allowed to make its tokens",
                "request.userInfo.username + ' may not create serviceaccounts/token of ' + variables.home + '/' + "
                "variables.name + ', which credentials.serviceAccountToken would let agents use: whoever gives out "
                "roles in namespace ' + variables.home + ' can grant it'",
            ),
            _rule(
                "!variables.changed || !variables.impersonates\n"
                "  || authorizer.group('ostiary.dev').resource('connections').namespace(request.namespace)\n"
                "    .name(object.metadata.name).check('impersonate').allowed()",
                "who lets a gateway impersonate agents must have the verb impersonate on the Connection",
                "request.userInfo.username + ' has not the verb impersonate on connections.ostiary.dev ' + "
                "request.namespace + '/' + object.metadata.name + ', which credentials.impersonate needs: a cluster "
                "administrator can grant it'",
            ),
        ],
    )  # fmt: skip
    connections["spec"]["matchConstraints"]["resourceRules"][0]["operations"] = ["CREATE", "UPDATE"]
    return connections


def _caretaker(name: str) -> str:
    """Who could remove the policy itself: cluster administrators, the garbage and the namespace collector."""
    return (
        "authorizer.group('admissionregistration.k8s.io').resource('validatingadmissionpolicies')\n"
        f"  .name('{name}').check('delete').allowed()"
    )


def _rule(expression: str, message: str, told: str = "") -> Manifest:
    """`told`: CEL that gives the message, with names in it."""
    rule = {"expression": expression, "message": message, "reason": "Forbidden"}
    return {**rule, "messageExpression": told} if told else rule


def _policy(
    name: str, operation: str, resource: str, variables: dict[str, str], validations: list[Manifest]
) -> Manifest:
    return {
        "apiVersion": API,
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/part-of": "ostiary"}},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {
                "matchPolicy": "Equivalent",
                "namespaceSelector": {},
                "objectSelector": {},
                "resourceRules": [
                    {
                        "apiGroups": [GROUP],
                        "apiVersions": [VERSION],
                        "operations": [operation],
                        "resources": [resource],
                        "scope": "*",
                    }
                ],
            },
            "variables": [{"name": key, "expression": value} for key, value in variables.items()],
            "validations": validations,
        },
    }


def _binding(name: str) -> Manifest:
    return {
        "apiVersion": API,
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/part-of": "ostiary"}},
        "spec": {"policyName": name, "validationActions": ["Deny"]},
    }
