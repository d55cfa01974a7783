"""A bundle of the operator becomes what is served: nothing is compiled twice, and one fault stays one fault."""

from __future__ import annotations

from typing import Any

from support.feeds import bundle, connection, policy

from ostiary_api.bundle_feed import FeedBundle, Packed, RefusedPolicy, unpack
from ostiary_api.secret import Secret
from ostiary_gateway.feed.compiling import compile_feed, empty


def read(packed: Packed, previous: FeedBundle | None = None) -> FeedBundle:
    return unpack("app", packed.config_maps("app"), previous)


def secret(name: str, **values: str) -> Secret:
    metadata = {"namespace": "shop", "name": name}
    return Secret.model_validate({"metadata": metadata, "stringData": values})


DB = {("shop", "db"): secret("db", username="u", password="p")}
MASK: dict[str, Any] = {
    "action": "Mask",
    "masking": [{"detector": "Email", "strategy": {"type": "Pseudonym", "keyRef": {"name": "mask", "key": "hmac"}}}],
}


def test_a_policy_that_did_not_change_is_not_compiled_again() -> None:
    first = read(bundle(connection(), policy("a"), policy("b")))
    old = compile_feed(first, DB, {}, empty().bundle).bundle
    second = read(bundle(connection(), policy("a"), policy("b", "false")), first)
    new = compile_feed(second, DB, {}, old).bundle
    assert new.policies["shop", "a"] is old.policies["shop", "a"]
    assert new.policies["shop", "b"] is not old.policies["shop", "b"]
    assert new.revision != old.revision


def test_another_key_of_a_mask_compiles_its_policy_again() -> None:
    packed = read(bundle(connection(), policy("m", **MASK)))
    one, other = ({**DB, ("shop", "mask"): secret("mask", hmac=key)} for key in ("a" * 32, "b" * 32))
    old = compile_feed(packed, one, {}, None).bundle
    assert compile_feed(packed, one, {}, old).bundle.policies["shop", "m"] is old.policies["shop", "m"]
    new = compile_feed(packed, other, {}, old).bundle
    assert new.policies["shop", "m"] is not old.policies["shop", "m"]
    assert new.revision != old.revision


def test_a_mask_without_its_key_keeps_what_is_in_force_or_denies() -> None:
    packed = read(bundle(connection(), policy("m", **MASK)))
    found = compile_feed(packed, DB, {("shop", "mask"): "it does not exist"}, None)
    assert found.bundle.policies["shop", "m"].problems
    assert ("GatewayPolicy", "m") in [(each.kind, each.name) for each in found.problems]


def test_a_policy_that_never_was_accepted_denies_what_it_matches() -> None:
    refused = (RefusedPolicy("shop", "bad", "spec.rules[0].expression", "no such field"),)
    found = compile_feed(read(bundle(connection(), policy("bad"), refused=refused)), DB, {}, None)
    assert found.bundle.policies["shop", "bad"].rules == ()
    assert [(each.kind, each.field, each.message) for each in found.problems] == [
        ("GatewayPolicy", "spec.rules[0].expression", "no such field")
    ]


def test_a_connection_with_what_it_needs_is_open() -> None:
    found = compile_feed(read(bundle(connection())), DB, {}, None)
    assert (found.closed, found.problems) == ({}, ())


def test_the_system_namespace_is_that_of_the_header() -> None:
    """A priority is for its policies only."""
    high = policy("high").model_copy(update={"spec": policy().spec.model_copy(update={"priority": 5})})
    system = high.model_copy(update={"metadata": high.metadata.model_copy(update={"namespace": "ostiary-system"})})
    found = compile_feed(read(bundle(connection(), high, system)), DB, {}, None)
    assert found.bundle.policies["shop", "high"].problems
    assert not found.bundle.policies["ostiary-system", "high"].problems
