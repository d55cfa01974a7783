"""A recorded exec: what was written is what is read, however the record keeps it."""

from __future__ import annotations

import json
import re

import pytest

from ostiary_gateway.audit.asciinema import cast
from ostiary_gateway.audit.stream_recording import (
    Broken,
    Chunk,
    Kind,
    Recording,
    Writer,
    is_recording,
    size_data,
    terminal_size,
)

SHELL = [
    (10.0, Kind.RESIZE, size_data(120, 40)),
    (10.25, Kind.STDOUT, b"$ "),
    (11.5, Kind.STDIN, b"ls\r"),
    (11.500001, Kind.STDOUT, b"ls\r\ncaf" + b"\xc3"),
    (12.0, Kind.STDOUT, b"\xa9\r\n"),
    (13.0, Kind.RESIZE, size_data(80, 25)),
    (14.0, Kind.CLOSED, b""),
    (15.0, Kind.ERROR, b'{"status":"Success"}'),
]


def recorded(frames: list[tuple[float, Kind, bytes]], *, tty: bool = True) -> bytes:
    writer = Writer(10.0, tty=tty)
    return writer.header + b"".join(writer.frame(*frame) for frame in frames)


def chunks(data: bytes) -> list[Chunk | Broken]:
    return list(Recording([data]).chunks())


@pytest.mark.parametrize("cut", [1, 3, 1000])
def test_what_was_written_is_read(cut: int) -> None:
    data = recorded(SHELL)
    recording = Recording(data[at : at + cut] for at in range(0, len(data), cut))
    assert recording.tty
    found = [chunk for chunk in recording.chunks() if isinstance(chunk, Chunk)]
    assert [(chunk.kind, chunk.data) for chunk in found] == [(kind, data) for _, kind, data in SHELL]
    assert [chunk.at for chunk in found] == pytest.approx([at - 10.0 for at, _, _ in SHELL], abs=2e-6)
    assert found[0].size == (120, 40)


def test_a_frame_costs_a_few_bytes() -> None:
    writer = Writer(0.0, tty=True)
    assert len(writer.frame(0.05, Kind.STDOUT, b"x")) == 6
    assert len(writer.frame(3600.0, Kind.STDOUT, bytes(32768))) == 32768 + 9


def test_rounding_does_not_add_up() -> None:
    writer = Writer(0.0, tty=False)
    data = writer.header + b"".join(writer.frame(index * 0.0000014, Kind.STDOUT, b"x") for index in range(1, 1001))
    assert isinstance(last := chunks(data)[-1], Chunk)
    assert last.at == pytest.approx(0.0014, abs=1e-6)


def test_a_recording_that_was_cut_says_so_and_one_that_is_none_too() -> None:
    data = recorded(SHELL)
    for end in range(8, len(data)):
        found = chunks(data[:end])
        whole = [chunk for chunk in found if isinstance(chunk, Chunk)]
        assert [chunk.data for chunk in whole] == [data for _, _, data in SHELL[: len(whole)]]
    assert isinstance(chunks(data[:-1])[-1], Broken)
    for other in (b"", b"OSTR", b"{}", b"OSTR\x02\0\0\0", b"T\0\0\0\0\0\0\0\0"):
        assert not Recording([other]).known
        assert [type(item) for item in chunks(other)] == [Broken]
    assert is_recording(data)
    assert not is_recording(b'{"kind":"PodList"}')


def test_hostile_lengths_end_the_reading() -> None:
    header = Writer(0.0, tty=False).header
    assert chunks(header + b"\0\1" + b"\xff" * 12) == [Broken("the recording ends inside a frame")]
    assert chunks(header + b"\0\1\xff\xff\xff\xff\x7fxx") == [Broken("the recording ends inside a frame")]
    assert chunks(header + b"\0\x63\1x\0\1\1y") == [Chunk(0.0, Kind.STDOUT, b"y")], (
        "kinds of later gateways are skipped"
    )


def test_sizes_are_read_from_what_kubectl_sends() -> None:
    assert terminal_size(b'{"Width":120,"Height":40}\n') == (120, 40)
    assert terminal_size(b'{"Height": 40, "Width": 120}') == (120, 40)
    assert terminal_size(b'{"Width":120}') is None
    assert terminal_size(b"") is None
    assert size_data(100_000, 3) == b"\xff\xff\0\3"


def events(lines: list[bytes]) -> list[list[object]]:
    return [json.loads(line) for line in lines[1:]]


def test_a_cast_is_asciicast_v2() -> None:
    found = [chunk for chunk in chunks(recorded(SHELL)) if isinstance(chunk, Chunk)]
    lines = list(cast(found, started=1796000000.75, title="kubectl exec shop", tty=True))
    header = json.loads(lines[0])
    assert (header["version"], header["width"], header["height"]) == (2, 120, 40)
    assert header["timestamp"] == 1796000000
    assert isinstance(header["title"], str)
    assert events(lines) == [
        [0.25, "o", "$ "],
        [1.5, "i", "ls\r"],
        [1.500001, "o", "ls\r\ncaf"],
        [2.0, "o", "é\r\n"],
        [3.0, "r", "80x25"],
        [5.0, "m", '{"status":"Success"}'],
    ]
    for line in lines:
        assert line.endswith(b"\n")
        assert line.count(b"\n") == 1, "one event a line"


def test_a_size_that_comes_after_some_output_is_the_casts_size_too() -> None:
    late = [Chunk(0.1, Kind.STDOUT, b"$ "), Chunk(0.2, Kind.RESIZE, size_data(100, 30))]
    lines = list(cast(late, started=0, title="t", tty=True))
    assert json.loads(lines[0])["width"] == 100
    assert events(lines) == [[0.1, "o", "$ "]]


def test_without_a_terminal_lines_begin_at_the_left_and_the_size_is_a_common_one() -> None:
    frames = [
        Chunk(0.1, Kind.STDOUT, b"a\nb\n"),
        Chunk(0.2, Kind.STDERR, b"bad \xff\n"),
        Chunk(0.3, Kind.STDIN, b"x\n"),
    ]
    lines = list(cast(frames, started=0, title="t", tty=False, input=False))
    assert (json.loads(lines[0])["width"], json.loads(lines[0])["height"]) == (80, 24)
    assert events(lines) == [[0.1, "o", "a\r\nb\r\n"], [0.2, "o", "bad \ufffd\r\n"]]


def test_control_characters_stay_inside_their_line() -> None:
    [_, line] = cast([Chunk(0.0, Kind.STDOUT, bytes(range(32)) + b"\x7f\xc2\x85")], started=0, title="t", tty=True)
    assert not re.search(rb"[\x00-\x09\x0b-\x1f]", line)
    assert json.loads(line)[2].encode() == bytes(range(32)) + b"\x7f\xc2\x85"
