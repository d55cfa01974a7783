"""Logs: one JSON object a line off a terminal, from our loggers and from the standard library's."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator

import pytest
import structlog

from ostiary_api.logs import configure, get_logger


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_json_lines_carry_fields_level_and_time() -> None:
    out = io.StringIO()
    configure("info", stream=out)
    get_logger("ostiary.feed").info("bundle loaded", revision="abc", policies=3)
    logging.getLogger("other").warning("from %s", "elsewhere")
    ours, theirs = (json.loads(line) for line in out.getvalue().splitlines())
    assert (ours["event"], ours["level"], ours["logger"]) == ("bundle loaded", "info", "ostiary.feed")
    assert (ours["revision"], ours["policies"]) == ("abc", 3)
    assert ours["timestamp"].endswith("Z")
    assert (theirs["event"], theirs["level"]) == ("from elsewhere", "warning")


def test_text_for_people_is_short_and_has_the_same_fields() -> None:
    out = io.StringIO()
    configure("info", json=False, stream=out)
    get_logger("ostiary.feed").info("bundle loaded", revision="abc")
    assert re.fullmatch(r"\d\d:\d\d:\d\dZ \[info\] bundle loaded revision=abc\n", out.getvalue())


def test_what_is_below_the_level_is_left_out() -> None:
    out = io.StringIO()
    configure("warning", stream=out)
    get_logger("ostiary").info("chatter")
    assert out.getvalue() == ""


def test_an_exception_stays_on_its_line() -> None:
    out = io.StringIO()
    configure("info", stream=out)
    try:
        raise ValueError("broken")
    except ValueError:
        get_logger("ostiary").exception("failed")
    (line,) = out.getvalue().splitlines()
    assert "ValueError: broken" in json.loads(line)["exception"]


def test_libraries_are_not_asked_for_details() -> None:
    out = io.StringIO()
    configure("debug", stream=out)
    explain = logging.getLogger("celpy.evaluation")
    explain.debug("resolve_name: select secret from customers")
    explain.info("chatter")
    get_logger("ostiary_gateway.feed").debug("ours")
    (line,) = out.getvalue().splitlines()
    assert json.loads(line)["event"] == "ours"
