"""What lint says of rules for the Kubernetes API that are probably not meant so."""

from __future__ import annotations

import pytest
from support.packs import KUBERNETES, pack
from support.policies import bundle, policy, rule

from ostiary_api.policy import GatewayPolicy
from ostiary_gateway.feed.kubernetes_notices import kubernetes_notices
from ostiary_gateway.feed.loading import Loaded, compile_texts

MANIFESTS = """
apiVersion: ostiary.dev/v1alpha1
kind: GatewayPolicy
metadata: {name: guard}
spec:
  rules:
  - {name: a, action: Allow, expression: "k8s.verb == 'get'"}
  - {name: b, action: Deny, expression: "k8s.verb == 'exec'"}
"""


def notices(expression: str, **spec: object) -> list[str]:
    built = bundle(policy("p", rule("r", "Deny", expression), match={"protocols": ["Kubernetes"]}, **spec))
    assert not built.problems, list(map(str, built.problems))
    (compiled,) = built.policies.values()
    return [f"{field}: {text}" for field, text in kubernetes_notices(compiled)]


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("k8s.verb == 'exec'", "k8s.verb is never 'exec': it is connect, with k8s.subresource == 'exec'"),
        ("k8s.verb in ['update', 'apply']", "k8s.verb is never 'apply': it is a patch or an update"),
        ("k8s.verb != 'Delete'", "k8s.verb is never 'Delete'"),
        ("k8s.resource == 'Deployment'", "k8s.resource is never 'Deployment': it is 'deployments'"),
        ("k8s.resource in ['pods', 'secret']", "k8s.resource is never 'secret': it is 'secrets'"),
        ("k8s.resource == 'deploy'", "k8s.resource is never 'deploy': it is 'deployments'"),
        ("k8s.resource == 'Gizmos'", "it is the plural, in lower case"),
        ("k8s.resource == 'pods/exec'", "the part behind the slash is k8s.subresource"),
        ("k8s.verb == 'create' && k8s.subresource == 'exec'", "this never holds: exec is the verb connect"),
        ("k8s.object.spec.replicas > 10", "k8s.object costs a question to the API server for each write"),
    ],
)
def test_what_is_probably_not_meant_is_noted(expression: str, says: str) -> None:
    (notice,) = notices(expression)
    assert notice.startswith("spec.rules[0].expression: ")
    assert says in notice


@pytest.mark.parametrize(
    "expression",
    [
        "k8s.verb in ['get', 'list', 'watch', 'connect', 'debug', 'evict', 'token']",
        "k8s.rbacVerb == 'create' && k8s.subresource == 'exec'",
        "k8s.resource == 'pods' && k8s.subresource == 'exec'",
        "k8s.resource == 'gizmos' || k8s.resource == ''",
        "k8s.verb == 'patch' && k8s.object.spec.replicas > 10",
        "k8s.verb == 'create' || k8s.subresource == 'exec'",
        "request.subject.name == 'exec'",
    ],
)
def test_what_is_right_is_not_noted(expression: str) -> None:
    assert notices(expression) == []


def test_variables_and_conditions_are_looked_at() -> None:
    found = notices(
        "variables.v",
        variables=[{"name": "v", "expression": "k8s.verb == 'scale'"}],
        matchConditions=[{"name": "c", "expression": "k8s.resource == 'Pod'"}],
    )
    assert [notice.split(": ")[0] for notice in found] == [
        "spec.matchConditions[0].expression",
        "spec.variables[0].expression",
    ]


@pytest.mark.parametrize("name", KUBERNETES)
def test_the_packs_have_none(name: str) -> None:
    (compiled,) = bundle(GatewayPolicy.model_validate(pack(name))).policies.values()
    assert list(kubernetes_notices(compiled)) == []


def test_lint_says_where() -> None:
    outcome = compile_texts({"guard.yaml": MANIFESTS}, complete=False)
    assert isinstance(outcome, Loaded)
    (notice,) = [each for each in outcome.notices if "never" in each.message]
    assert (notice.location.line, notice.field) == (8, "spec.rules[1].expression")
