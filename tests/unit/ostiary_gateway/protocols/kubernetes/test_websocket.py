"""WebSocket frames as they pass: what is read, and what is refused."""

from __future__ import annotations

import pytest

from ostiary_gateway.protocols.kubernetes import websocket as ws
from ostiary_gateway.protocols.kubernetes.websocket import Frame, FrameReader, WebSocketError

MASK = b"\x37\xfa\x21\x3d"
HELLO = bytes.fromhex("818537fa213d7f9f4d5158")
"""The masked "Hello" of RFC 6455, section 5.7."""


def read(data: bytes, *, masked: bool = True, cut: int = 0, fragments: bool = True) -> list[Frame]:
    reader = FrameReader(masked=masked, fragments=fragments)
    if not cut:
        return list(reader.feed(data))
    return [frame for at in range(0, len(data), cut) for frame in reader.feed(data[at : at + cut])]


def test_the_examples_of_the_rfc() -> None:
    [masked] = read(HELLO)
    assert (masked.opcode, masked.payload, masked.raw, masked.first, masked.last) == (
        ws.TEXT,
        b"Hello",
        HELLO,
        True,
        True,
    )
    [plain] = read(bytes.fromhex("810548656c6c6f"), masked=False)
    assert plain.payload == b"Hello"
    first, second = read(bytes.fromhex("010348656c80026c6f"), masked=False)
    assert (first.payload, first.first, first.last) == (b"Hel", True, False)
    assert (second.payload, second.opcode, second.first, second.last) == (b"lo", ws.TEXT, False, True)
    [ping] = read(bytes.fromhex("890548656c6c6f"), masked=False)
    assert (ping.opcode, ping.payload) == (ws.PING, b"Hello")
    [pong] = read(bytes.fromhex("8a8537fa213d7f9f4d5158"))
    assert (pong.opcode, pong.payload) == (ws.PONG, b"Hello")
    assert read(bytes.fromhex("827e0100") + bytes(256), masked=False)[0].payload == bytes(256)
    assert read(bytes.fromhex("827f0000000000010000") + bytes(65536), masked=False)[0].payload == bytes(65536)


@pytest.mark.parametrize("cut", [1, 2, 3, 7, 1000])
def test_the_same_however_it_is_cut(cut: int) -> None:
    sent = [ws.encode(ws.BINARY, bytes([1]) + b"x" * size, mask=MASK) for size in (0, 1, 124, 125, 126, 65534, 65535)]
    data = b"".join([*sent, HELLO])
    whole, pieces = read(data), read(data, cut=cut)
    assert [(frame.opcode, frame.payload, frame.raw) for frame in whole] == [
        (frame.opcode, frame.payload, frame.raw) for frame in pieces
    ]
    assert b"".join(frame.raw for frame in pieces) == data


def test_a_long_frame_goes_on_in_pieces_and_waits_for_nothing() -> None:
    payload = bytes(range(256)) * 2048
    data = ws.encode(ws.BINARY, payload, mask=MASK)
    reader = FrameReader(masked=True)
    [begun] = reader.feed(data[:1000])
    assert begun.first
    assert not begun.last
    assert not reader.between_messages
    rest = list(reader.feed(data[1000:]))
    assert b"".join(frame.raw for frame in [begun, *rest]) == data
    assert b"".join(frame.payload for frame in [begun, *rest]) == payload
    assert rest[-1].last
    assert not rest[-1].first
    assert reader.between_messages


def test_control_frames_stand_between_the_parts_of_a_message() -> None:
    part = bytes.fromhex("010348656c")
    ping = bytes.fromhex("8900")
    found = read(part + ping + bytes.fromhex("80026c6f"), masked=False)
    assert [(frame.opcode, frame.payload) for frame in found] == [(ws.TEXT, b"Hel"), (ws.PING, b""), (ws.TEXT, b"lo")]


def test_a_message_without_bytes_is_a_message() -> None:
    [frame] = read(b"\x82\x00", masked=False)
    assert (frame.payload, frame.first, frame.last) == (b"", True, True)


@pytest.mark.parametrize(
    ("data", "masked", "what", "code"),
    [
        (bytes.fromhex("8105"), True, "without a mask", 1002),
        (bytes.fromhex("818500000000"), False, "with a mask", 1002),
        (bytes.fromhex("c100"), False, "reserved bit", 1002),
        (bytes.fromhex("8300"), False, "opcode 3", 1002),
        (bytes.fromhex("8b00"), False, "opcode 11", 1002),
        (bytes.fromhex("0900"), False, "control frame", 1002),
        (bytes.fromhex("897e0080"), False, "control frame", 1002),
        (bytes.fromhex("8000"), False, "continuation of nothing", 1002),
        (bytes.fromhex("0100") + bytes.fromhex("8100"), False, "inside another", 1002),
        (bytes.fromhex("827e007d"), False, "shortest form", 1002),
        (bytes.fromhex("827f000000000000ffff"), False, "shortest form", 1002),
        (bytes.fromhex("827f8000000000000000"), False, "the most are", 1009),
        (bytes.fromhex("827f0000000002000001"), False, "the most are", 1009),
        (bytes.fromhex("880103"), False, "half a code", 1002),
        (bytes.fromhex("8800") + bytes.fromhex("8100"), False, "after the close frame", 1002),
    ],
)
def test_what_breaks_the_protocol_is_refused(data: bytes, masked: bool, what: str, code: int) -> None:
    with pytest.raises(WebSocketError, match=what) as caught:
        read(data, masked=masked)
    assert caught.value.code == code


def test_a_client_of_channels_sends_each_message_as_one_frame() -> None:
    """The API server's reader takes every frame for a message with a channel of its own; others would not."""
    fragment = bytes((ws.BINARY, 0x80 | 2)) + MASK + ws.unmasked(b"\0a", MASK)
    with pytest.raises(WebSocketError, match="several frames"):
        read(fragment, fragments=False)
    assert read(fragment)[0].last is False


def test_what_comes_before_a_bad_frame_was_read() -> None:
    reader = FrameReader(masked=False)
    found = reader.feed(bytes.fromhex("8101618300"))
    assert next(found).payload == b"a"
    with pytest.raises(WebSocketError):
        next(found)


def test_frames_of_the_gateways_own() -> None:
    for size in (0, 125, 126, 65535, 65536):
        payload = b"p" * size
        assert read(ws.encode(ws.BINARY, payload), masked=False)[0].payload == payload
        assert b"".join(frame.payload for frame in read(ws.encode(ws.BINARY, payload, mask=MASK))) == payload
    [close] = read(ws.close_frame(ws.POLICY, "é" * 100), masked=False)
    assert close.payload[:2] == (1008).to_bytes(2, "big")
    assert len(close.payload) <= 125
    assert close.payload[2:].decode() == "é" * 61
    assert ws.accept_value(b"dGhlIHNhbXBsZSBub25jZQ==") == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def test_the_mask_goes_on_where_it_stopped() -> None:
    data = bytes(range(100))
    whole = ws.unmasked(data, MASK)
    assert b"".join(ws.unmasked(data[at : at + 7], MASK, at) for at in range(0, 100, 7)) == whole
    assert ws.unmasked(whole, MASK) == data
