"""SPDY frames as they pass: what is read, and what is refused."""

from __future__ import annotations

import hashlib
import zlib

import pytest
from support.tunnels import SpdySender as Sender
from support.tunnels import control

from ostiary_gateway.protocols.kubernetes import spdy
from ostiary_gateway.protocols.kubernetes.spdy import Frame, FrameReader, SpdyError


def read(data: bytes, cut: int = 0) -> list[Frame]:
    reader = FrameReader()
    if not cut:
        return list(reader.feed(data))
    return [frame for at in range(0, len(data), cut) for frame in reader.feed(data[at : at + cut])]


def test_the_dictionary_is_that_of_the_specification() -> None:
    assert len(spdy.DICTIONARY) == 1423
    assert zlib.adler32(spdy.DICTIONARY) == 0xE3C6A7C2, "the id that every SPDY/3 compressor writes"
    assert hashlib.sha256(spdy.DICTIONARY).hexdigest().startswith("51d27341373f923f")


@pytest.mark.parametrize("cut", [0, 1, 5, 64])
def test_an_exec_from_its_streams_to_its_end(cut: int) -> None:
    client = Sender()
    sent = [
        client.open(1, {"streamtype": "error"}),
        client.open(3, {"streamtype": "stdin"}),
        client.open(5, {"streamtype": "stdout"}, flags=spdy.FIN),
        *spdy.data_frames(3, b"ls\n"),
        *spdy.data_frames(3, b"", fin=True),
        control(spdy.PING, (7).to_bytes(4, "big")),
        control(spdy.WINDOW_UPDATE, (3).to_bytes(4, "big") + (1024).to_bytes(4, "big")),
        control(spdy.SETTINGS, (1).to_bytes(4, "big") + bytes(8)),
        control(spdy.HEADERS, (3).to_bytes(4, "big") + client.block({"more": "yes"})),
        control(spdy.RST_STREAM, (5).to_bytes(4, "big") + (5).to_bytes(4, "big")),
        spdy.goaway(5),
    ]
    found = read(b"".join(sent), cut)
    assert [frame.raw for frame in found] == sent
    assert [frame.headers for frame in found[:3]] == [{b"streamtype": name} for name in (b"error", b"stdin", b"stdout")]
    assert [(frame.kind, frame.stream, frame.payload, frame.fin) for frame in found[2:5]] == [
        (spdy.SYN_STREAM, 5, b"", True), (spdy.DATA, 3, b"ls\n", False), (spdy.DATA, 3, b"", True),
    ]  # fmt: skip
    assert [frame.kind for frame in found[5:]] == [
        spdy.PING, spdy.WINDOW_UPDATE, spdy.SETTINGS, spdy.HEADERS, spdy.RST_STREAM, spdy.GOAWAY,
    ]  # fmt: skip
    assert found[8].headers == {b"more": b"yes"}
    assert (found[9].stream, found[9].status) == (5, 5)


def test_a_reply_has_headers_of_its_own_direction() -> None:
    server = Sender()
    [first, second] = read(server.reply(1) + server.reply(3, {"a": "b\0c"}))
    assert first.headers == {}
    assert second.headers == {b"a": b"b\0c"}


def test_a_long_data_frame_goes_on_in_pieces_and_waits_for_nothing() -> None:
    payload = bytes(range(256)) * 2048
    data = (9).to_bytes(4, "big") + bytes((spdy.FIN,)) + len(payload).to_bytes(3, "big") + payload
    reader = FrameReader()
    [begun] = reader.feed(data[:1000])
    assert (begun.stream, begun.payload, begun.fin) == (9, payload[:992], False)
    assert not reader.between_frames
    rest = list(reader.feed(data[1000:]))
    assert b"".join(frame.raw for frame in [begun, *rest]) == data
    assert rest[-1].fin
    assert reader.between_frames


def test_data_frames_of_the_gateways_own_are_cut_and_end_the_stream_once() -> None:
    found = read(b"".join(spdy.data_frames(5, b"z" * 70_000, fin=True)))
    assert [(len(frame.payload), frame.fin) for frame in found] == [(32768, False), (32768, False), (4464, True)]
    assert spdy.data_frames(5, b"") == []


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (bytes(8), "stream 0"),
        ((1).to_bytes(4, "big") + b"\x02" + bytes(3), "flags 0x2"),
        (control(spdy.PING, bytes(4), version=2), "version 2"),
        (control(5, bytes(8)), "type 5"),
        (control(10, bytes(8)), "type 10"),
        (control(spdy.SYN_STREAM, b"")[:5] + (40_000).to_bytes(3, "big"), "40000 bytes"),
        (control(spdy.PING, bytes(8)), "type 6 with 8 bytes"),
        (control(spdy.RST_STREAM, bytes(4)), "type 3 with 4 bytes"),
        (control(spdy.GOAWAY, bytes(4)), "type 7 with 4 bytes"),
        (control(spdy.SYN_STREAM, bytes(9)), "type 1 with 9 bytes"),
        (control(spdy.SETTINGS, (2).to_bytes(4, "big") + bytes(8)), "not as many"),
        (control(spdy.SYN_REPLY, bytes(4) + Sender().block({})), "headers on stream 0"),
        (control(spdy.SYN_REPLY, (1).to_bytes(4, "big") + b"no zlib"), "decompressed"),
        (control(spdy.SYN_REPLY, (1).to_bytes(4, "big") + zlib.compress(bytes(4))), "decompressed|has ended"),
        (Sender().open(1, {"Upper": "x"}), "lower case"),
        (control(spdy.SYN_REPLY, (1).to_bytes(4, "big") + Sender().block([("a", "1"), ("a", "2")])), "twice"),
        (control(spdy.SYN_REPLY, (1).to_bytes(4, "big") + Sender().block([("", "1")])), "empty"),
        (control(spdy.SYN_REPLY, (1).to_bytes(4, "big") + Sender().compressed(b"\0\0")), "longer or shorter"),
        (control(spdy.SYN_REPLY, (1).to_bytes(4, "big") + Sender().compressed(bytes(8))), "longer or shorter"),
        (control(spdy.SYN_REPLY, (1).to_bytes(4, "big") + Sender().compressed(b"\0\0\0\1\0\0\0\xffa")), "outside"),
    ],
)
def test_what_breaks_the_protocol_is_refused(data: bytes, what: str) -> None:
    with pytest.raises(SpdyError, match=what):
        read(data)


def test_a_header_block_that_swells_is_refused_before_it_is_there() -> None:
    bomb = Sender().compressed(bytes(8 << 20))
    assert len(bomb) < spdy.MAX_CONTROL
    with pytest.raises(SpdyError, match="more than 65536 bytes"):
        read(control(spdy.SYN_STREAM, (1).to_bytes(4, "big") + bytes(6) + bomb))
