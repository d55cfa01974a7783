"""The models take what the API server takes and refuse what it refuses, from the same two files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import PydanticUndefined
from support.resources import Refused, good, good_text, refused

from ostiary_api.approval import ApprovalRequest
from ostiary_api.connection import Connection
from ostiary_api.manifests import RESOURCES, parse
from ostiary_api.meta import LabelSelector, Model, Validation
from ostiary_api.policy import GatewayPolicy, Masking


def connection(name: str) -> Connection:
    return Connection.model_validate(good()[name])


def policy(name: str) -> GatewayPolicy:
    return GatewayPolicy.model_validate(good()[name])


def test_every_good_object_is_taken() -> None:
    found = parse(good_text())
    assert [str(problem) for problem in found.problems] == []
    assert {*found.connections, *found.policies, *found.approvals} == {f"default/{name}" for name in good()}


@pytest.mark.parametrize("case", refused(), ids=str)
def test_what_is_wrong_is_refused_with_its_reason(case: Refused) -> None:
    found = parse(json.dumps(case.manifest))
    assert not found.ok
    assert case.says in " ".join(problem.message for problem in found.problems)
    assert not {*found.connections, *found.policies, *found.approvals}


def test_every_rule_over_several_fields_has_an_object_that_breaks_it() -> None:
    shown = " ".join(case.says for case in refused())
    rules = {rule.message for model in models(Model) for rule in model.validations if rule.holds is not None}
    assert {rule for rule in rules if rule[:35] not in shown} == set()


def models(base: type[Model]) -> Iterator[type[Model]]:
    """Of resources. Settings of operator, store and notifications are models as well; their own tests are elsewhere."""
    for model in base.__subclasses__():
        if model.__module__.startswith("ostiary_api."):
            yield model
        yield from models(model)


@pytest.mark.parametrize("name", sorted(good()))
def test_an_object_written_back_is_the_same_object(name: str) -> None:
    item = RESOURCES[good()[name]["kind"]].model_validate(good()[name])
    again = type(item).model_validate(item.to_manifest())
    assert again == item
    assert again.revision == item.revision
    assert parse(json.dumps(item.to_manifest())).ok


def test_defaults_of_a_minimal_connection() -> None:
    spec = connection("minimal").spec
    assert spec.upstream_port == 5432
    assert spec.upstream.tls.mode == "VerifyFull"
    assert spec.listener.tls.mode == "Require"
    assert (spec.recording, spec.audit) == ("Full", "Strict")
    assert spec.limits.max_sessions == 100
    assert spec.limits.idle_timeout == 15 * 60.0
    assert spec.limits.max_request_bytes == 1024**2
    assert spec.limits.max_recorded_bytes == 1024**3
    assert spec.credentials.kind == "static"


def test_a_kubernetes_connection_without_a_server_is_for_the_cluster_it_runs_in() -> None:
    spec = connection("in-cluster").spec
    assert (spec.upstream.server, spec.upstream_port, spec.credentials.kind) == (None, 443, "impersonate")


def test_approval_has_the_documented_defaults() -> None:
    approval = policy("shop").spec.rules[2].approval
    assert approval is not None
    assert (approval.min_approvals, approval.pending_ttl, approval.grant_ttl, approval.wait) == (1, 900, 600, 30)
    assert approval.scope == "ExactRequest"


def test_an_approval_request_starts_without_decisions() -> None:
    request = ApprovalRequest.model_validate(good()["apr-1"])
    assert request.spec.decisions == ()
    assert request.status is None


@pytest.mark.parametrize(
    ("column", "parts"),
    [
        ("shop.customers.email", ("shop", "customers", "email")),
        ("customers.email", ("public", "customers", "email")),
        ("*.*.email", ("*", "*", "email")),
        ("customers.*", ("public", "customers", "*")),
        ('app."Card Data"."no.1 ""x"""', ("app", "Card Data", 'no.1 "x"')),
        ('"Kunden".Straße', ("public", "Kunden", "Straße")),
    ],
)
def test_a_column_has_a_schema_a_table_and_a_name(column: str, parts: tuple[str, str, str]) -> None:
    mask = Masking(column=column)
    assert mask.column_parts == parts
    assert mask.target == column


def test_defaults_written_out_do_not_change_the_revision() -> None:
    spelled = good()["minimal"]
    spelled["spec"] |= {"audit": "Strict", "limits": {"idleTimeout": "900s", "maxRequestBytes": 1048576}}
    assert Connection.model_validate(spelled).revision == connection("minimal").revision


def test_the_identity_is_the_uid_where_there_is_one() -> None:
    manifest = good()["minimal"]
    assert connection("minimal").identity == "default/minimal"
    manifest["metadata"]["uid"] = "0b8e2d1c"
    assert Connection.model_validate(manifest).identity == "0b8e2d1c"


def test_any_change_of_the_spec_changes_the_revision() -> None:
    changed = good()["minimal"]
    changed["spec"]["listener"]["port"] = 5433
    assert Connection.model_validate(changed).revision != connection("minimal").revision


def test_a_changed_copy_has_its_own_revision() -> None:
    original = connection("minimal")
    revision = original.revision
    copied = original.model_copy(update={"spec": original.spec.model_copy(update={"audit": "Relaxed"})})
    assert copied.revision != revision
    assert original.revision == revision


def test_impersonate_without_fields_is_part_of_the_revision() -> None:
    other = good()["in-cluster"]
    other["spec"]["credentials"] = {"serviceAccountToken": {"name": "a"}}
    assert Connection.model_validate(other).revision != connection("in-cluster").revision


def test_a_resource_cannot_be_changed_after_it_was_checked() -> None:
    with pytest.raises(ValidationError):
        connection("minimal").spec.protocol = "SSH"


def test_a_null_is_an_absent_field_as_for_the_api_server() -> None:
    manifest = good()["minimal"]
    manifest["spec"]["limits"] = None
    manifest["spec"]["upstream"]["tls"] = {"mode": None}
    assert Connection.model_validate(manifest).spec == connection("minimal").spec


def test_a_status_of_a_newer_operator_is_read() -> None:
    manifest = good()["minimal"] | {"status": {"observedGeneration": 2, "invented": {"later": 1}}}
    status = Connection.model_validate(manifest).status
    assert status is not None
    assert status.observed_generation == 2


@pytest.mark.parametrize(
    ("selector", "labels", "selected"),
    [
        ({}, {}, True),
        ({"matchLabels": {"env": "prod"}}, {"env": "prod", "x": "y"}, True),
        ({"matchLabels": {"env": "prod"}}, {"env": "dev"}, False),
        ({"matchLabels": {"env": "prod"}}, {}, False),
        ({"matchExpressions": [{"key": "env", "operator": "In", "values": ["a", "b"]}]}, {"env": "b"}, True),
        ({"matchExpressions": [{"key": "env", "operator": "In", "values": ["a", "b"]}]}, {}, False),
        ({"matchExpressions": [{"key": "env", "operator": "NotIn", "values": ["a"]}]}, {}, True),
        ({"matchExpressions": [{"key": "env", "operator": "NotIn", "values": ["a"]}]}, {"env": "a"}, False),
        ({"matchExpressions": [{"key": "env", "operator": "Exists"}]}, {"env": ""}, True),
        ({"matchExpressions": [{"key": "env", "operator": "DoesNotExist"}]}, {"env": ""}, False),
        ({"matchLabels": {"a": "1"}, "matchExpressions": [{"key": "b", "operator": "Exists"}]}, {"a": "1"}, False),
    ],
)
def test_selectors_select_as_in_kubernetes(selector: dict[str, object], labels: dict[str, str], selected: bool) -> None:
    assert LabelSelector.model_validate(selector).matches(labels) is selected


def test_defaults_are_what_their_fields_take() -> None:
    for model in models(Model):
        for name, field in model.model_fields.items():
            if field.default not in (None, PydanticUndefined):
                adapter = TypeAdapter(Annotated[field.annotation, "field", *field.metadata])
                assert adapter.validate_python(field.default) == field.default, f"{model.__name__}.{name}"


def test_every_field_of_every_model_is_described() -> None:
    missing = [
        f"{model.__name__}.{name}"
        for model in models(Model)
        for name, field in model.model_fields.items()
        if not field.description
    ]
    assert missing == []


def test_every_rule_is_said_in_cel_and_in_python() -> None:
    rules: list[Validation] = [rule for model in models(Model) for rule in model.validations]
    assert all(rule.cel and rule.message for rule in rules)
    assert all(rule.holds is not None or "oldSelf" in rule.cel for rule in rules)


def test_python_may_use_attribute_names() -> None:
    class Holder(BaseModel):
        selector: LabelSelector

    assert Holder(selector=LabelSelector(match_labels={"a": "b"})).selector.matches({"a": "b"})
