"""Whatever either end of a stream sends, in whatever pieces: the same goes on, or it ends there; little is held."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from support import tunnels
from support.fuzzing import Target
from support.tunnels import Opened, opened, switched, upgrade

from ostiary_gateway.audit.asciinema import cast
from ostiary_gateway.audit.stream_recording import Chunk, Recording
from ostiary_gateway.protocols.kubernetes import spdy, websocket
from ostiary_gateway.protocols.kubernetes.spdy import SpdyError
from ostiary_gateway.protocols.kubernetes.websocket import WebSocketError
from ostiary_policy.masking import DetectorMask, MaskPlan, Strategy

EXEC = "/api/v1/namespaces/shop/pods/box/exec?command=sh&tty=true"
FORWARD = "/api/v1/namespaces/shop/pods/box/portforward?ports=80,81"
MASKED = MaskPlan(detectors=(DetectorMask("CreditCard", Strategy("Redact")), DetectorMask("Email", Strategy("Redact"))))
KINDS = [
    (EXEC, "v5.channel.k8s.io", False),
    (EXEC, "v4.channel.k8s.io", True),
    (FORWARD, "SPDY/3.1+portforward.k8s.io", False),
    (FORWARD, "portforward.k8s.io", True),
    (EXEC, "v4.base64.channel.k8s.io", False),
    (FORWARD, "v4.channel.k8s.io", False),
    (EXEC, "channel.k8s.io", False),
    (EXEC, "channel.k8s.io", True),
]

Frames = tuple[list[tuple[object, ...]], str]


def frames(reader: object, data: bytes, size: int, view: Callable[[object], tuple[object, bytes, object]]) -> Frames:
    """Frames, the data of neighbours of one kind joined; why it ended, if it did. What was given out is what came."""
    found: list[tuple[object, ...]] = []
    raw = bytearray()
    try:
        for at in range(0, len(data), size):
            for frame in reader.feed(data[at : at + size]):  # type: ignore[attr-defined]
                raw += frame.raw
                kind, payload, end = view(frame)
                if found and found[-1][0] == kind and not found[-1][2]:
                    payload = found.pop()[1] + payload  # type: ignore[operator]
                found.append((kind, payload, end))
    except (WebSocketError, SpdyError) as problem:
        assert data.startswith(raw)
        return found, str(problem)
    assert data.startswith(raw), "what is given out is not what came"
    held = len(reader._buffer)  # type: ignore[attr-defined]
    assert held == len(data) - len(raw)
    return found, ""


def run_websocket(data: bytes) -> Frames | None:
    if not data:
        return None
    masked, fragments = bool(data[0] & 1), bool(data[0] & 2)

    def view(frame: object) -> tuple[object, bytes, object]:
        assert isinstance(frame, websocket.Frame)
        assert frame.opcode in (1, 2, 8, 9, 10)
        return frame.opcode, frame.payload, frame.last

    def new() -> websocket.FrameReader:
        return websocket.FrameReader(masked=masked, fragments=fragments)

    whole = frames(new(), data[1:], len(data), view)
    assert frames(new(), data[1:], 1, view) == whole
    assert frames(new(), data[1:], data[0] // 4 + 1, view) == whole
    return whole


def run_spdy(data: bytes) -> Frames:
    def view(frame: object) -> tuple[object, bytes, object]:
        assert isinstance(frame, spdy.Frame)
        if frame.kind == spdy.DATA:
            return frame.stream, frame.payload, frame.fin
        assert not frame.payload
        return frame.kind, repr((frame.stream, frame.headers, frame.status)).encode(), True

    whole = frames(spdy.FrameReader(), data, len(data) or 1, view)
    assert frames(spdy.FrameReader(), data, 1, view) == whole
    assert frames(spdy.FrameReader(), data, 13, view) == whole
    return whole


def parts(data: bytes) -> Iterator[tuple[str, bytes]]:
    """What is said in turns: two bytes of side and length, then so much."""
    at = 0
    while at + 2 <= len(data):
        head = int.from_bytes(data[at : at + 2], "big")
        yield "<" if head & 0x8000 else ">", data[at + 2 : at + 2 + (head & 0x7FFF)]
        at += 2 + (head & 0x7FFF)


def begun(data: bytes) -> Opened:
    target, protocol, over_spdy = KINDS[data[0] % len(KINDS)]
    ask = upgrade(target, spdy=(protocol,)) if over_spdy else upgrade(target, websocket=(protocol,))
    return opened(ask, switched(protocol, spdy=over_spdy), MASKED if data[0] & 0x80 else None)


def run_tunnel(data: bytes) -> object:
    """The first byte tells which tunnel it is, and whether output is masked."""
    if not data:
        return None
    seen = []
    for size in (1 << 15, 1, 7):
        found = begun(data)
        got = tunnels.replayed(found, tunnels.cut(list(parts(data[1:])), size), lambda tunnel=found: clocked(tunnel))
        sides = [b"".join(sent for each, sent in got if each == side) for side in "><"]
        said = [b"".join(sent for each, sent in parts(data[1:]) if each == side) for side in "><"]
        assert said[0].startswith(sides[0]), "the server gets what the client said"
        if not data[0] & 0x80:
            assert said[1].startswith(sides[1]), "and without a mask the client what the server said"
        over = found.tunnel.over
        found.tunnel.ended("gateway" if over else "client", over)
        readable(found)
        detail = found.tunnel.end_detail()
        seen.append((sides[0], sides[1] if not data[0] & 0x80 else b"", over, detail))
    # Where it ends, the other side may have got more or less of the same: what each said is cut at other places.
    if not seen[0][2]:
        assert seen[0][2] == seen[1][2] == seen[2][2]
        assert seen[0][:2] == seen[1][:2] == seen[2][:2]
        if not data[0] & 0x80:
            assert seen[0][3] == seen[1][3] == seen[2][3]
    return seen[0]


def clocked(found: Opened) -> None:
    found.clock.at += 0.001
    found.tunnel.tick()


def readable(found: Opened) -> None:
    """What is recorded can be read, and shown."""
    if found.recorded:
        recording = Recording([bytes(found.recorded)])
        chunks = list(recording.chunks())
        assert all(isinstance(chunk, Chunk) for chunk in chunks)
        list(cast((each for each in chunks if isinstance(each, Chunk)), started=0, title="", tty=recording.tty))


def run_recording(data: bytes) -> object:
    """A recording that somebody has changed, or that ends anywhere."""
    chunks = list(Recording([data]).chunks())
    assert chunks == list(Recording(data[at : at + 1] for at in range(len(data))).chunks())
    good = [chunk for chunk in chunks if isinstance(chunk, Chunk)]
    assert len(chunks) - len(good) <= 1
    return list(cast(good, started=0, title="", tty=True))


WEBSOCKET = Target("websocket", run_websocket)
SPDY = Target("spdy", run_spdy)
TUNNELS = Target("tunnels", run_tunnel, longest=16384)
RECORDINGS = Target("recordings", run_recording)


def test_websocket_frames() -> None:
    WEBSOCKET.replay(3000)


def test_spdy_frames() -> None:
    SPDY.replay(3000)


def test_tunnels() -> None:
    TUNNELS.replay(1000)


def test_recordings() -> None:
    RECORDINGS.replay(2000)
