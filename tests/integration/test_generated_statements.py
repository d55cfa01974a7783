"""Statements by a grammar, run by PostgreSQL as read-only: what is called readOnly is never refused there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from support import sqlgen
from support.servers import Server
from support.wire import Wire, errors

from ostiary_gateway.protocols.postgres.offline import sql_facts

DATABASE = "generated"
READ_ONLY_REFUSED = "25006"
PROFILE = settings(
    max_examples=300, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


@pytest.fixture
def session(pg18: Server) -> Iterator[Wire]:
    pg18.recreate(DATABASE)
    pg18.sql(sqlgen.SETUP, database=DATABASE)
    wire = Wire.login(pg18.host, pg18.port, user=pg18.user, password=pg18.password, database=DATABASE)
    yield wire
    wire.close()


def read_only(text: str) -> bool:
    return all(each["readOnly"] for each in sql_facts(text, database=DATABASE, user="agent")["statements"])


def outcome(session: Wire, text: str) -> str:
    """SQLSTATE of the first error, or empty. Nothing of it stays."""
    session.simple("RESET ALL; SET default_transaction_read_only = on")
    state = next((fields["C"] for fields in errors(session.simple(text))), "")
    session.simple("ROLLBACK")
    return state


def test_what_is_called_read_only_runs_where_nothing_may_be_written(session: Wire) -> None:
    outcomes: Counter[tuple[bool, str]] = Counter()

    @PROFILE
    @given(sqlgen.ANY)
    def check(text: str) -> None:
        says, state = read_only(text), outcome(session, text)
        outcomes[says, {"": "ran", READ_ONLY_REFUSED: "refused"}.get(state, "failed")] += 1
        assert not (says and state == READ_ONLY_REFUSED), text

    check()
    # It would prove nothing if little ran, or little were refused.
    assert outcomes[True, "ran"] > 80, outcomes
    assert outcomes[False, "refused"] > 50, outcomes


def test_what_wraps_a_write_is_refused_where_nothing_may_be_written_and_never_called_read_only(session: Wire) -> None:
    refused = 0
    for write in ("DELETE FROM t", "INSERT INTO t VALUES (7, 'x')", "UPDATE t SET b = 'x' WHERE a = 1"):
        for text in sqlgen.around(write):
            refused += outcome(session, text) == READ_ONLY_REFUSED
            assert not read_only(text)
    assert refused > 20
