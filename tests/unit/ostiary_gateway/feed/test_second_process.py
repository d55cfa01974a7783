"""The second parser in a process of its own: the same answers, and none are lost when it is killed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ostiary_gateway.feed.second_process import SecondProcess
from ostiary_policy import second_parser

EXAMPLE = Path(__file__).parents[4] / "examples" / "first"
TEXTS = ["a.b", "a ?? b", 'x == "ü\\n"', "[1, 2", "sql.statements.exists(s, s.verb == 'DROP')", "a.?b", ""]


@pytest.fixture
def second() -> Iterator[SecondProcess]:
    made = SecondProcess()
    yield made
    made.stop()


def test_it_answers_as_this_process_would(second: SecondProcess) -> None:
    assert [second(text) for text in TEXTS] == [second_parser.read(text) for text in TEXTS]
    assert second("a ?? b") == (1, 4)


def test_when_it_is_killed_the_question_is_answered_here(second: SecondProcess) -> None:
    assert second("a") is None
    assert second._process is not None
    second._process.kill()
    second._process.wait()
    assert second("a ?? b") == (1, 4)
    assert second("a") is None


def test_after_a_stop_it_starts_again(second: SecondProcess) -> None:
    assert second("a") is None
    second.stop()
    second.stop()
    assert second("[1, 2") == second_parser.read("[1, 2")


def test_whoever_asks_in_the_block_is_answered_by_it() -> None:
    asked: list[str] = []

    def ask(text: str) -> None:
        asked.append(text)

    with second_parser.asked_by(ask):
        second_parser.complaint("one")
    second_parser.complaint("two")
    assert asked == ["one"]


FOR_LOADING = {"aiohttp", "asyncpg", "celpy", "lark", "prometheus_client", "pygments", "rich"}


def test_a_gateway_serves_without_what_only_loading_needs() -> None:
    """Memory at rest: these libraries take 30 MB and are of no use while statements are decided."""
    program = (
        "import asyncio, sys; from pathlib import Path\n"
        "import ostiary_cli.commands.serve, ostiary_gateway.feed.service\n"
        "import ostiary_gateway.protocols.postgres.lobby\n"
        "from ostiary_gateway.feed.directory import DirectoryFeed\n"
        "from ostiary_gateway.feed.loading import Loaded\n"
        f"outcome = asyncio.run(DirectoryFeed([Path({str(EXAMPLE)!r})]).load())\n"
        "assert isinstance(outcome, Loaded) and not outcome.problems, outcome\n"
        "print(*sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not FOR_LOADING & set(done.stdout.split())
