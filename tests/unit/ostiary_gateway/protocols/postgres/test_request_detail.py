"""What the record keeps beside a request's text is the same, written as JSON at once or by way of a dict."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ostiary_gateway.audit.encoding import encode
from ostiary_gateway.protocols.postgres import request_detail, wire
from ostiary_gateway.protocols.postgres.questions import Ask, Stage
from ostiary_gateway.protocols.postgres.state import Portal, Prepared

VALUES = st.none() | st.sampled_from(
    (b"", b"1", b"a b", b'"', b"\\", b"\n", b"\x7f", "é".encode(), b"\xff", b"x" * 5000)
)
NAMES = st.sampled_from((b"", b"P0_1", b'a"b', "é".encode()))


def asked(name: bytes, bind: bytes, types: tuple[int, ...] = ()) -> Ask:
    statement = Prepared(name, "select", types)
    return Ask(Stage.RUN, "select", b"select", statement, Portal(b"", statement, bind))


def told(function: object, ask: Ask, full: bool) -> bytes | str:
    try:
        detail = function(ask, full)  # type: ignore[operator]
    except wire.ProtocolViolation as problem:
        return str(problem)
    return detail if isinstance(detail, bytes) else encode(detail)


@given(
    NAMES,
    st.lists(VALUES, max_size=4),
    st.lists(st.integers(0, 1), max_size=4),
    st.lists(st.integers(0, 1), max_size=2),
    st.lists(st.sampled_from((0, 16, 17, 23, 25)), max_size=4),
    st.booleans(),
    st.integers(-3, 0),
    st.binary(max_size=2),
)
def test_both_ways_say_the_same_of_any_bind(
    name: bytes,
    values: list[bytes | None],
    formats: list[int],
    results: list[int],
    types: list[int],
    full: bool,
    cut: int,
    more: bytes,
) -> None:
    body = wire.bind_message(b"", name, values, formats, results)[5:]
    ask = asked(name, body[: len(body) + cut] + more, tuple(types))
    assert told(request_detail.encoded, ask, full) == told(request_detail.of_request, ask, full)


def test_a_plain_bind_is_written_at_once() -> None:
    bind = wire.bind_message(b"", b"P0_1", [b"17", None, b"a b"])[5:]
    expected = b'{"statement":"P0_1","parameters":["17",null,"a b"]}'
    assert request_detail.encoded(asked(b"P0_1", bind), True) == expected
    assert request_detail.encoded(asked(b"P0_1", bind), False) == b'{"statement":"P0_1"}'
