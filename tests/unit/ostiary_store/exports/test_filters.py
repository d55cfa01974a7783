"""Which lines a sink gets, and what of them."""

from __future__ import annotations

from typing import Any

import pytest
from support.export_items import EVERY

from ostiary_store.exports import jsonlines
from ostiary_store.exports.filters import shaped, wanted
from ostiary_store.settings import ExportSettings


def settings(**more: Any) -> ExportSettings:
    values = {"name": "siem", "type": "JSONLines", "url": "https://siem.example", **more}
    return ExportSettings.model_validate(values)


def gets(**more: Any) -> set[str]:
    return {name for name, item in EVERY.items() if wanted(item, settings(**more))}


def test_all_by_default() -> None:
    assert gets() == set(EVERY)


@pytest.mark.parametrize(
    ("connections", "all_"), [(["shop/db"], True), (["shop/*"], True), (["shop/other"], False), (["shop2/*"], False)]
)
def test_by_connection_also_of_what_the_gateway_itself_records(connections: list[str], all_: bool) -> None:
    assert gets(connections=connections) == (set(EVERY) if all_ else set())


def test_by_decision() -> None:
    assert gets(only=["Deny"]) == {"denied", "undecided", "refused login", "refused unknown", "gap"}
    assert gets(only=["RequireApproval"]) == {"approved", "not approved", "asking", "question", "gap"}


def test_without_statements_nothing_of_them_leaves() -> None:
    for item in EVERY.values():
        sent = jsonlines.encode(shaped(item, settings(statements=False)))
        for secret in (b"orders", b"division", b"22012", b"/srv", b"/etc/motd", b"kubectl"):
            assert secret not in sent
    assert b'"rule":"reads"' in jsonlines.encode(shaped(EVERY["denied"], settings(statements=False)))


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"url": "http://siem.example"}, "insecure: true"),
        ({"type": "OCSF", "responses": "decoded"}, "as JSONLines only"),
        ({"statements": False, "responses": "decoded"}, "responses without statements"),
    ],
)
def test_settings_that_cannot_be(more: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        settings(**more)
