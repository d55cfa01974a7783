"""Who a token stands for."""

from __future__ import annotations

import hashlib

import pytest

from ostiary_api.meta import ObjectMeta
from ostiary_api.secret import TOKEN_TYPE, Secret
from ostiary_gateway.identity.tokens import TokenIdentities


def secret(namespace: str, token: str, username: str, groups: str = "") -> Secret:
    digest = hashlib.sha256(token.encode()).hexdigest()
    data = {"username": username.encode(), "groups": groups.encode(), "sha256": digest.encode()}
    return Secret(metadata=ObjectMeta(name="t", namespace=namespace), type=TOKEN_TYPE, data=data)


def test_a_token_proves_its_user_and_groups() -> None:
    found = TokenIdentities([secret("shop", "s3cret", "planner", "agents, dev")]).find("shop", "s3cret")
    assert found is not None
    assert (found.subject["username"], found.subject["groups"]) == ("planner", ["agents", "dev"])


def test_whoever_writes_secrets_in_one_namespace_is_nobody_in_another() -> None:
    identities = TokenIdentities([secret("evil", "s3cret", "admin")])
    assert identities.find("shop", "s3cret") is None


@pytest.mark.parametrize("token", ["", "wrong", "s3cret ", "S3CRET", "x" * 9000])
def test_anything_else_is_nobody(token: str) -> None:
    assert TokenIdentities([secret("shop", "s3cret", "planner")]).find("shop", token) is None


def test_other_secrets_are_no_tokens() -> None:
    other = Secret(metadata=ObjectMeta(name="db", namespace="shop"), data={"password": b"s3cret"})
    assert TokenIdentities([other]).find("shop", "s3cret") is None
