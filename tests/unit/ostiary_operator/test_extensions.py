"""What the gateway's code offers is found by entry points; without it no policy is judged."""

from __future__ import annotations

import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from ostiary_api.cases import PolicyTest
from ostiary_operator import extensions
from ostiary_operator.extensions import FACT_SOURCES, MASK_CHECKS, PROTOCOLS, ExtensionError, load_from
from ostiary_policy.masking import DetectorMask, Strategy

DECLARED = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]["entry-points"]


def entries(group: str) -> list[EntryPoint]:
    """As pyproject.toml declares them."""
    return [EntryPoint(name, value, group) for name, value in DECLARED[group].items()]


SOURCES, CHECKS, SERVED = entries(FACT_SOURCES), entries(MASK_CHECKS), entries(PROTOCOLS)


def test_what_is_declared_can_be_loaded_and_works() -> None:
    loaded = load_from(SOURCES, CHECKS, SERVED)
    assert loaded.protocols == {"Kubernetes", "Postgres", "SSH"}
    test = PolicyTest.model_validate({"name": "a", "sql": "delete from t", "expect": "Deny"})
    connection = {"name": "db", "namespace": "shop", "labels": {}, "protocol": "Postgres"}
    facts = loaded.extensions.fact_sources["Postgres"](test, connection)  # type: ignore[arg-type]
    assert facts["text"] == "delete from t"
    over_ssh = PolicyTest.model_validate({"name": "a", "ssh": {"command": "ls"}, "expect": "Deny"})
    assert loaded.extensions.fact_sources["SSH"](over_ssh, connection)["command"] == "ls"  # type: ignore[arg-type]
    check = loaded.extensions.check_mask
    assert check is not None
    assert check(DetectorMask("Email", Strategy("Redact"))) is None
    assert check(DetectorMask("Nothing", Strategy("Redact"))) is not None


def test_an_installed_distribution_has_them() -> None:
    assert extensions.load().protocols == {"Kubernetes", "Postgres", "SSH"}


@pytest.mark.parametrize("group", [FACT_SOURCES, MASK_CHECKS, PROTOCOLS])
def test_without_them_nothing_is_judged(group: str) -> None:
    given = {FACT_SOURCES: SOURCES, MASK_CHECKS: CHECKS, PROTOCOLS: SERVED} | {group: []}
    with pytest.raises(ExtensionError, match=f"no entry point of group {group} .*install the whole distribution"):
        load_from(*given.values())


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("ostiary_gateway.nowhere:x", "cannot be loaded: No module named"),
        ("ostiary_gateway.feed.fact_sources:USER", "is no function"),
    ],
)
def test_one_that_does_not_work_is_named(value: str, says: str) -> None:
    with pytest.raises(ExtensionError, match=f"ostiary.fact_sources: Postgres .*{says}"):
        load_from([EntryPoint("Postgres", value, FACT_SOURCES)], CHECKS, SERVED)
