"""`kubectl auth can-i` and `whoami` through a gateway: RBAC's answer and the policies' word, in one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
import pytest
from support.kubernetes_sites import agent, connection
from support.policies import CLIENT, NOON, bound, bundle, policy, request, rule

from ostiary_gateway.identity.proof import Identity
from ostiary_gateway.protocols.kubernetes.access_reviews import shaper_for
from ostiary_gateway.protocols.kubernetes.facts import kubernetes_facts, policy_verb
from ostiary_gateway.protocols.kubernetes.questions import Ask, Unmaskable
from ostiary_gateway.protocols.kubernetes.request_info import request_info
from ostiary_gateway.protocols.kubernetes.wire import Request, RequestHead
from ostiary_policy.decision import Decision, Needs
from ostiary_policy.policy_set import PolicySet

ACCESS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
RULES = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
SUBJECT = "/apis/authentication.k8s.io/v1/selfsubjectreviews"

POLICY = policy(
    "agents",
    rule("no-secrets", "Deny", "k8s.resource == 'secrets'", message="Secrets are not read.", hint="Ask for a mount."),
    rule("no-exec", "Deny", "k8s.verb == 'connect' && k8s.namespace == 'prod'", message="No exec in production."),
    rule("no-metrics", "Deny", "k8s.path == '/metrics'", message="Not for agents."),
    rule(
        "scale", "RequireApproval",
        "k8s.resource == 'deployments' && k8s.verb != 'delete' && !k8s.readOnly && k8s.object.spec.replicas > 20",
        approval={"groups": ["ops", "dba"]},
    ),
    rule("deletes", "RequireApproval", "k8s.verb == 'delete'", approval={"groups": ["ops"]}),
    rule("rest", "Allow", "k8s.resource != 'nodes'"),
    match={"protocols": ["Kubernetes"]},
)  # fmt: skip


class Gate:
    """Decides by the policies, and nothing more."""

    def __init__(self, identity: Identity) -> None:
        made = connection({"impersonate": {}}, namespace="default")
        built = bundle(POLICY, connections=[made])
        assert not built.problems, built.problems
        self.identity = identity
        self.policies: PolicySet = bound(built, "cluster").for_subject(identity.subject, CLIENT)

    def decide(self, protocol_facts: Mapping[str, object]) -> Decision | Needs:
        return self.policies.decide({"request": request(self.identity.subject), **protocol_facts}, NOON)


GATE = Gate(agent())


def ask(target: str, body: bytes = b"", method: str = "POST") -> Ask:
    info = request_info(method, target.encode())
    head = RequestHead(method, target.encode(), [(b"content-type", b"application/json")])
    facts: dict[str, object] = dict(kubernetes_facts(info, dry_run=False))
    return Ask(Request(head, body), info, policy_verb(info), f"{method} {target}", facts)


def answered(target: str, answer: Any, body: bytes = b"") -> Any:
    shaper = shaper_for(ask(target, body), GATE)
    assert shaper is not None
    mask = shaper(201, b"application/json; charset=utf-8")
    assert mask is not None
    data = orjson.dumps(answer)
    out = [*mask.feed(data[:7]), *mask.feed(data[7:]), *mask.finish()]
    return orjson.loads(b"".join(out))


def may(verb: str, resource: str, *, rbac: bool = True, reason: str = "", **more: str) -> Any:
    """The status of a SelfSubjectAccessReview that RBAC allows."""
    kind, _, subresource = resource.partition("/")
    attributes = {"verb": verb, "resource": kind, **({"subresource": subresource} if subresource else {}), **more}
    told = {"allowed": rbac, **({"reason": reason} if reason else {})}
    return answered(ACCESS, {"spec": {"resourceAttributes": attributes}, "status": told})["status"]


def test_what_both_allow_is_allowed_and_says_by_whom() -> None:
    assert may("get", "pods", namespace="prod", reason="RBAC: allowed by RoleBinding x") == {
        "allowed": True, "reason": "allowed by policy (RBAC: allowed by RoleBinding x)",
    }  # fmt: skip


def test_what_rbac_does_not_allow_stays_refused_in_its_words() -> None:
    assert may("get", "pods", rbac=False, reason="no") == {"allowed": False, "reason": "no"}
    assert may("get", "secrets", rbac=False) == {"allowed": False}


def test_what_a_policy_denies_says_which_rule_and_what_to_do_instead() -> None:
    assert may("list", "secrets", namespace="prod", reason="RBAC: yes") == {
        "allowed": False, "denied": True,
        "reason": "Secrets are not read. (rule default/agents#no-secrets) Ask for a mount.",
    }  # fmt: skip


def test_what_no_rule_allows_is_denied() -> None:
    status = may("get", "nodes")
    assert status["denied"]
    assert status["reason"].startswith("No rule allows this.")


@pytest.mark.parametrize(
    ("verb", "resource"),
    [("create", "pods/exec"), ("get", "pods/exec"), ("create", "pods/portforward"), ("create", "services/proxy")],
)
def test_it_is_asked_by_the_verb_that_policies_have(verb: str, resource: str) -> None:
    assert may(verb, resource, namespace="prod")["denied"]
    assert may(verb, resource, namespace="test")["allowed"]


def test_what_waits_for_a_person_is_allowed_and_says_for_whom() -> None:
    assert may("delete", "pods", group="", version="v1")["reason"] == (
        "each such request waits for approval by a member of ops (rule default/agents#deletes)"
    )


def test_what_depends_on_the_object_is_allowed_and_says_so() -> None:
    status = may("patch", "deployments/scale", group="apps", version="v1", namespace="prod")
    assert status["allowed"]
    assert status["reason"] == "allowed as far as it is known without the object: rules read k8s.object"


def test_every_verb_is_as_good_as_its_worst() -> None:
    assert may("*", "nodes")["denied"]
    assert "approval" in may("*", "pods")["reason"]


@pytest.mark.parametrize("more", [{"resource": "*"}, {"resource": "pods", "group": "*"}, {"resource": "pods/*"}])
def test_nobody_knows_about_every_kind_at_once(more: dict[str, str]) -> None:
    resource = more.pop("resource")
    status = may("get", resource, **more)
    assert status["allowed"] is False
    assert "denied" not in status
    assert "ask about one" in status["reason"]


def test_what_is_no_verb_of_a_request_is_rbacs_business() -> None:
    assert may("bind", "clusterroles", reason="RBAC: yes") == {"allowed": True, "reason": "RBAC: yes"}


def test_nobody_impersonates_through_a_gateway() -> None:
    assert may("impersonate", "users")["denied"]


@pytest.mark.parametrize(("path", "allowed"), [("/metrics", False), ("/healthz", True), ("/api/*", False)])
def test_paths_that_are_no_resources_are_decided_too(path: str, allowed: bool) -> None:
    spec = {"nonResourceAttributes": {"path": path, "verb": "get"}}
    assert answered(ACCESS, {"spec": spec, "status": {"allowed": True}})["status"]["allowed"] is allowed


def listed(rules: list[Any], paths: list[Any] | None = None, body: bytes = b'{"spec":{"namespace":"prod"}}') -> Any:
    answer = {"spec": {}, "status": {"resourceRules": rules, "nonResourceRules": paths or [], "incomplete": False}}
    return answered(RULES, answer, body)["status"]


def test_a_list_leaves_out_what_policies_deny_and_says_that_it_is_not_all() -> None:
    reading = {"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods", "secrets"]}
    exec_ = {"verbs": ["create", "get"], "apiGroups": [""], "resources": ["pods/exec"]}
    names = {"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["a", "b"]}
    fine = {"verbs": ["get", "patch"], "apiGroups": ["apps"], "resources": ["deployments", "deployments/scale"]}
    status = listed([reading, exec_, names, fine], [{"verbs": ["get"], "nonResourceURLs": ["/metrics", "/healthz"]}])
    assert status["resourceRules"] == [{"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]}, fine]
    assert status["nonResourceRules"] == [{"verbs": ["get"], "nonResourceURLs": ["/healthz"]}]
    assert status["incomplete"]
    assert status["evaluationError"] == "policies of the gateway may say more: ask kubectl auth can-i VERB RESOURCE"


def test_a_list_is_about_the_namespace_of_the_question_in_json_and_in_protobuf() -> None:
    exec_ = {"verbs": ["create"], "apiGroups": [""], "resources": ["pods/exec"]}
    assert listed([exec_])["resourceRules"] == []
    assert listed([exec_], body=b'{"spec":{"namespace":"test"}}')["resourceRules"] == [exec_]
    for namespace, kept in ((b"prod", []), (b"test", [exec_])):
        # What kubectl 1.36 sends: runtime.Unknown{typeMeta, raw: SelfSubjectRulesReview{metadata, spec{namespace}}}.
        spec = b"\x0a" + bytes([len(namespace)]) + namespace
        raw = b"\x0a\x02\x0a\x00" + b"\x12" + bytes([len(spec)]) + spec
        kind = b"\x0a\x1aauthorization.k8s.io/v1xxx\x12\x03abc"
        body = b"k8s\0" + b"\x0a" + bytes([len(kind)]) + kind + b"\x12" + bytes([len(raw)]) + raw
        assert listed([exec_], body=body)["resourceRules"] == kept


@pytest.mark.parametrize("body", [b"", b"k8s\0", b"k8s\0\xff", b"k8s\0\x12\xff\xff", b"spec: {namespace: prod}", b"[]"])
def test_a_list_for_a_namespace_that_is_not_understood_stays_and_says_so(body: bytes) -> None:
    exec_ = {"verbs": ["create"], "apiGroups": [""], "resources": ["pods/exec"]}
    status = listed([exec_], body=body)
    assert status["incomplete"]


def test_wildcards_of_a_list_stay() -> None:
    everything = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}
    assert listed([everything])["resourceRules"] == [everything]


def test_who_one_is_is_who_the_gateway_knows_and_as_whom_it_asks() -> None:
    upstream = {"username": "system:serviceaccount:prod:agent", "groups": ["system:serviceaccounts:prod"], "uid": "u"}
    status = answered(SUBJECT, {"status": {"userInfo": upstream}})["status"]
    assert status["userInfo"] == {
        "username": "system:serviceaccount:demo:planner", "uid": "u-1",
        "groups": ["system:serviceaccounts", "system:serviceaccounts:demo", "system:authenticated"],
        "extra": {"ostiary.dev/upstream-user": ["system:serviceaccount:prod:agent"]},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("target", "method"),
    [
        (ACCESS, "GET"),
        ("/apis/authorization.k8s.io/v1/subjectaccessreviews", "POST"),
        ("/apis/example.com/v1/selfsubjectaccessreviews", "POST"),
        ("/api/v1/namespaces/a/pods", "POST"),
    ],
)
def test_other_requests_pass(target: str, method: str) -> None:
    assert shaper_for(ask(target, method=method), GATE) is None


def test_an_error_passes_and_what_is_no_json_does_not() -> None:
    shaper = shaper_for(ask(ACCESS), GATE)
    assert shaper is not None
    assert shaper(403, b"application/json") is None
    with pytest.raises(Unmaskable):
        shaper(201, b"application/vnd.kubernetes.protobuf")
    for body in (b"{", b"[]", b"\xff"):
        mask = shaper(201, b"application/json")
        assert mask is not None
        assert mask.feed(body) == []
        with pytest.raises(Unmaskable):
            mask.finish()


def test_an_answer_without_end_is_given_up() -> None:
    shaper = shaper_for(ask(RULES), GATE)
    assert shaper is not None
    mask = shaper(201, b"application/json")
    assert mask is not None
    with pytest.raises(Unmaskable, match="larger than 8 MiB"):
        for _ in range(10):
            mask.feed(bytes(1 << 20))
