"""exec, attach and port-forward: handshakes, what both ends get, what the record keeps, and how it ends."""

from __future__ import annotations

import base64
import hashlib
import json

import pytest
from support import tunnels
from support.tunnels import Opened, SpdySender, opened, replayed, switched, taken, upgrade

from ostiary_gateway.audit.stream_recording import Chunk, Kind, Recording
from ostiary_gateway.protocols.kubernetes import spdy
from ostiary_gateway.protocols.kubernetes import websocket as ws
from ostiary_gateway.protocols.kubernetes.streams import open_tunnel
from ostiary_gateway.protocols.kubernetes.wire import ResponseHead, WireError
from ostiary_policy.masking import DetectorMask, MaskPlan, Strategy

EXEC = "/api/v1/namespaces/shop/pods/box/exec?command=sh&stdin=true&stdout=true&stderr=true"
ATTACH = "/api/v1/namespaces/shop/pods/box/attach?stdout=true"
TTY = EXEC + "&tty=true"
FORWARD = "/api/v1/namespaces/shop/pods/box/portforward"
MASK = b"\x01\x02\x03\x04"
CARDS = MaskPlan(detectors=(DetectorMask("CreditCard", Strategy("Redact")),))
CARD = b"4111 1111 1111 1111"
EXIT_3 = json.dumps({
    "metadata": {}, "status": "Failure", "message": "command terminated with exit code 3", "reason": "NonZeroExitCode",
    "details": {"causes": [{"reason": "ExitCode", "message": "3"}]},
}).encode()  # fmt: skip


def chunks(found: Opened) -> list[tuple[Kind, bytes]]:
    said = Recording([bytes(found.recorded)]).chunks()
    return [(chunk.kind, chunk.data) for chunk in said if isinstance(chunk, Chunk)]


def joined(found: Opened) -> dict[Kind, bytes]:
    said: dict[Kind, bytes] = {}
    for kind, data in chunks(found):
        said[kind] = said.get(kind, b"") + data
    return said


def to_server(channel: int, data: bytes) -> bytes:
    return ws.encode(ws.BINARY, bytes((channel,)) + data, mask=MASK)


def to_client(channel: int, data: bytes) -> bytes:
    return ws.encode(ws.BINARY, bytes((channel,)) + data)


def messages(data: bytes) -> list[tuple[int, bytes]]:
    return [(frame.opcode, frame.payload) for frame in ws.FrameReader(masked=False).feed(data)]


def websocket_exec(plan: MaskPlan | None = None, *, target: str = EXEC, protocol: str = "v5.channel.k8s.io") -> Opened:
    return opened(upgrade(target, websocket=(protocol,)), switched(protocol), plan)


class SpdyExec:
    """An exec over SPDY with its streams open."""

    def __init__(self, plan: MaskPlan | None = None, protocol: str = "v4.channel.k8s.io") -> None:
        self.found = opened(upgrade(EXEC, spdy=(protocol,)), switched(protocol, spdy=True), plan)
        self.client, self.server = SpdySender(), SpdySender()
        for stream, name in ((1, "error"), (3, "stdin"), (5, "stdout"), (7, "stderr")):
            sent = self.client.open(stream, {"streamtype": name})
            assert self.found.client(sent) == sent
            assert self.found.server(replied := self.server.reply(stream)) == replied

    def streams(self, data: bytes) -> dict[int, tuple[bytes, bool]]:
        """What came by stream, and whether it ended."""
        said: dict[int, tuple[bytes, bool]] = {}
        for frame in spdy.FrameReader().feed(data):
            before, _ = said.get(frame.stream, (b"", False))
            if frame.kind == spdy.DATA:
                said[frame.stream] = before + frame.payload, frame.fin
        return said


# -- what kubectl says


@pytest.mark.parametrize("name", ["ws-exec", "spdy-exec", "ws-tty", "ws-forward", "spdy-forward"])
@pytest.mark.parametrize("size", [1, 3, 100, 1_000_000])
def test_what_kubectl_and_the_api_server_say_passes_as_it_is(name: str, size: int) -> None:
    talk = tunnels.captured(name)
    found = opened(talk.ask, talk.answer)
    for side in "><":
        sent = b"".join(data for each, data in talk.steps if each == side)
        assert sent
    got = replayed(found, tunnels.cut(talk.steps, size))
    for side in "><":
        assert b"".join(data for each, data in got if each == side) == b"".join(
            data for each, data in talk.steps if each == side
        )
    assert found.tunnel.over == ""


@pytest.mark.parametrize("name", ["ws-exec", "spdy-exec"])
def test_an_exec_of_kubectl_is_recorded_with_its_exit_code(name: str) -> None:
    talk = tunnels.captured(name)
    found = opened(talk.ask, talk.answer)
    replayed(found, talk.steps)
    found.tunnel.ended("server")
    said = joined(found)
    assert (said[Kind.STDIN], said[Kind.STDOUT], said[Kind.STDERR]) == (b"hello\n", b"hello\n", b"oops\n")
    assert Kind.CLOSED in said
    assert b"NonZeroExitCode" in said[Kind.ERROR]
    spoken = ("WebSocket", "v5.channel.k8s.io") if name == "ws-exec" else ("SPDY", "v4.channel.k8s.io")
    assert found.tunnel.end_detail() == {
        "transport": spoken[0], "protocol": spoken[1],
        "stdinBytes": 6, "stdoutBytes": 6, "stderrBytes": 5, "outcome": "ok", "exitCode": 3,
    }  # fmt: skip


def test_a_shell_of_kubectl_is_recorded_with_its_terminal() -> None:
    talk = tunnels.captured("ws-tty")
    found = opened(talk.ask, talk.answer)
    replayed(found, talk.steps)
    said = joined(found)
    assert said[Kind.STDIN] == b"echo hi\nexit\n\x04"
    assert b"hi\r\n" in said[Kind.STDOUT]
    detail = found.tunnel.end_detail()
    assert detail["exitCode"] == 0
    assert "x" in str(detail["terminal"])


@pytest.mark.parametrize("name", ["ws-forward", "spdy-forward"])
def test_a_port_forward_of_kubectl_is_counted_and_its_bytes_are_not_kept(name: str) -> None:
    talk = tunnels.captured(name)
    found = opened(talk.ask, talk.answer)
    replayed(found, talk.steps)
    found.tunnel.ended("client")
    detail = found.tunnel.end_detail()
    assert detail["outcome"] == "ok"
    assert detail["connections"] == (2 if name == "ws-forward" else 1)
    forwarded = detail["forwarded"]
    assert isinstance(forwarded, list)
    for connection in forwarded:
        assert connection["port"] == "8080"
        assert connection["toClient"] == 203
        assert connection["toUpstream"] > 80
        assert len(connection["sha256"]["toClient"]) == 64
    assert not found.recorded


# -- handshakes


def test_the_upgrade_goes_on_without_what_is_not_the_servers() -> None:
    ask = upgrade(EXEC, websocket=("base64url.bearer.authorization.k8s.io.c2VjcmV0, v5.channel.k8s.io", "unheard.of"))
    tunnel = open_tunnel(ask, MaskPlan(), None, now=tunnels.Clock())
    assert tunnel.request_headers == [
        (b"connection", b"Upgrade"), (b"upgrade", b"websocket"), (b"sec-websocket-version", b"13"),
        (b"sec-websocket-key", tunnels.KEY), (b"sec-websocket-protocol", b"v5.channel.k8s.io"),
    ]  # fmt: skip
    assert tunnel.accepted(switched("v5.channel.k8s.io")) == [
        (b"connection", b"Upgrade"), (b"upgrade", b"websocket"), (b"sec-websocket-accept", tunnels.ACCEPT),
        (b"sec-websocket-protocol", b"v5.channel.k8s.io"),
    ]  # fmt: skip


def test_the_versions_of_spdy_go_on_one_by_one() -> None:
    ask = upgrade(EXEC, spdy=("v4.channel.k8s.io", "v3.channel.k8s.io"))
    tunnel = open_tunnel(ask, MaskPlan(), None, now=tunnels.Clock())
    assert tunnel.request_headers == [
        (b"connection", b"Upgrade"), (b"upgrade", b"SPDY/3.1"), (b"x-stream-protocol-version", b"v4.channel.k8s.io"),
        (b"x-stream-protocol-version", b"v3.channel.k8s.io"),
    ]  # fmt: skip
    assert (b"x-stream-protocol-version", b"v3.channel.k8s.io") in tunnel.accepted(
        switched("v3.channel.k8s.io", spdy=True)
    )


@pytest.mark.parametrize(
    "target",
    [
        "/api/v1/namespaces/shop/pods?watch=true",
        "/api/v1/namespaces/shop/pods/box/log?follow=true",
        "/api/v1/namespaces/shop/pods/box/proxy/",
        "/api/v1/nodes/one/proxy/exec/shop/box/box",
        "/apis/example.dev/v1/namespaces/shop/pods/box/exec",
        "/version",
    ],
)
def test_nothing_else_can_be_upgraded(target: str) -> None:
    with pytest.raises(WireError, match="Only exec, attach and port-forward") as caught:
        open_tunnel(upgrade(target, websocket=("v4.channel.k8s.io",)), MaskPlan(), None, now=tunnels.Clock())
    assert caught.value.status == 400


@pytest.mark.parametrize("offered", [("unheard.of",), ("SPDY/3.1+portforward.k8s.io",), ("v6.channel.k8s.io",)])
def test_protocols_that_are_not_known_are_refused_before_the_upgrade(offered: tuple[str, ...]) -> None:
    """kubectl then falls back to SPDY, as it does for any refused WebSocket."""
    with pytest.raises(WireError, match="None of these protocols"):
        open_tunnel(upgrade(EXEC, websocket=offered), MaskPlan(), None, now=tunnels.Clock())


def test_a_websocket_that_is_none_is_refused() -> None:
    for name, value in ((b"sec-websocket-version", b"8"), (b"sec-websocket-key", b"short")):
        ask = upgrade(EXEC, websocket=("v5.channel.k8s.io",))
        ask.request.head.headers = [(each, value if each == name else old) for each, old in ask.request.head.headers]
        with pytest.raises(WireError, match="WebSocket"):
            open_tunnel(ask, MaskPlan(), None, now=tunnels.Clock())
    ask = upgrade(EXEC, websocket=("v5.channel.k8s.io",))
    ask.request.head.method = "POST"
    with pytest.raises(WireError, match="begins with a GET"):
        open_tunnel(ask, MaskPlan(), None, now=tunnels.Clock())


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (switched("v5.channel.k8s.io", spdy=True), "not asked for"),
        (switched("v4.channel.k8s.io"), "not offered"),
        (ResponseHead(101, b"", [(b"upgrade", b"websocket"), (b"sec-websocket-accept", b"x")], 0), "does not fit"),
        (
            ResponseHead(101, b"", [
                (b"upgrade", b"websocket"), (b"sec-websocket-accept", tunnels.ACCEPT),
                (b"sec-websocket-extensions", b"permessage-deflate"),
            ], 0), "extension",
        ),
    ],
)  # fmt: skip
def test_an_answer_to_the_upgrade_that_is_none_is_refused(answer: ResponseHead, what: str) -> None:
    tunnel = open_tunnel(upgrade(EXEC, websocket=("v5.channel.k8s.io",)), MaskPlan(), None, now=tunnels.Clock())
    with pytest.raises(WireError, match=what) as caught:
        tunnel.accepted(answer)
    assert caught.value.status == 502


# -- exec and attach


def test_the_oldest_websocket_clients_offer_nothing_and_get_channels() -> None:
    found = opened(upgrade(EXEC), switched(""))
    found.server(to_client(1, b"out"))
    found.server(to_client(3, b"it broke"))
    found.tunnel.ended("server")
    assert joined(found) == {Kind.STDOUT: b"out", Kind.ERROR: b"it broke"}
    assert found.tunnel.end_detail()["outcome"] == "error"
    assert found.tunnel.end_detail()["message"] == "it broke"


@pytest.mark.parametrize("protocol", ["base64.channel.k8s.io", "v4.base64.channel.k8s.io"])
def test_base64_channels(protocol: str) -> None:
    found = websocket_exec(protocol=protocol)
    sent = ws.encode(ws.TEXT, b"0" + base64.b64encode(b"ls\n"), mask=MASK)
    assert found.client(sent) == sent
    said = ws.encode(ws.TEXT, b"1" + base64.b64encode(b"file"))
    assert found.server(said) == said
    assert joined(found) == {Kind.STDIN: b"ls\n", Kind.STDOUT: b"file"}
    assert found.client(ws.encode(ws.TEXT, b"0no base64!", mask=MASK)) == b""
    assert "not base64" in found.tunnel.over


def test_a_long_message_is_recorded_in_the_pieces_that_came() -> None:
    found = websocket_exec()
    payload = bytes(range(256)) * 4096
    sent = to_server(0, payload)
    got = b"".join(found.client(sent[at : at + 50_000]) for at in range(0, len(sent), 50_000))
    assert got == sent
    assert joined(found) == {Kind.STDIN: payload}
    assert len(chunks(found)) > 10


def test_sizes_of_the_terminal_are_kept() -> None:
    found = websocket_exec(target=TTY)
    found.client(to_server(4, b'{"Width":120,"Height":40}\n'))
    assert chunks(found) == [(Kind.RESIZE, b"\0\x78\0\x28")]
    assert found.tunnel.end_detail()["terminal"] == "120x40"


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (to_server(5, b"x"), "channel 5"),
        (to_server(255, b"\x09"), "close signal"),
        (to_server(255, b""), "close signal"),
        (ws.encode(ws.BINARY, b"\0x"), "without a mask"),
        (bytes((ws.BINARY, 0x82)) + MASK + b"\x01\x63", "several frames"),
    ],
)
def test_a_client_that_breaks_the_protocol_is_ended_and_nothing_of_it_is_passed_on(data: bytes, what: str) -> None:
    found = websocket_exec()
    assert found.client(data) == b""
    assert what in found.tunnel.over
    assert found.client(to_server(0, b"more")) == b""
    found.tunnel.ended("gateway", found.tunnel.over)
    [(_, status), (opcode, close)] = messages(found.shown())
    assert json.loads(status[1:])["message"] == found.tunnel.over
    assert (opcode, close[:2]) == (ws.CLOSE, (1000).to_bytes(2, "big"))
    assert found.tunnel.end_detail()["outcome"] == "lost"


def test_streams_of_spdy_that_nobody_opened_or_that_are_there_twice_end_it() -> None:
    assert "which nobody opened" in ended_by(server=spdy.data_frames(9, b"x")[0])
    assert "which nobody opened" in ended_by(client=spdy.data_frames(9, b"x")[0])
    exec_ = SpdyExec()
    exec_.found.client(exec_.client.open(9, {"streamtype": "stdout"}))
    assert "there twice" in exec_.found.tunnel.over
    exec_ = SpdyExec()
    exec_.found.client(exec_.client.open(9, {"streamtype": "stdlog"}))
    assert "unknown" in exec_.found.tunnel.over
    exec_ = SpdyExec()
    exec_.found.client(exec_.client.open(2, {"streamtype": "resize"}))
    assert "not a new one" in exec_.found.tunnel.over
    exec_ = SpdyExec()
    exec_.found.server(exec_.server.open(9, {"streamtype": "resize"}))
    assert "the server opens" in exec_.found.tunnel.over


def ended_by(*, client: bytes = b"", server: bytes = b"") -> str:
    found = SpdyExec().found
    found.client(client)
    found.server(server)
    return found.tunnel.over


def test_what_became_of_it() -> None:
    def outcome(by: str, *, target: str = EXEC, status: bytes = b"") -> tuple[object, object]:
        found = websocket_exec(target=target)
        if status:
            found.server(to_client(3, status))
        found.tunnel.ended(by)  # type: ignore[arg-type]
        detail = found.tunnel.end_detail()
        return detail["outcome"], detail.get("exitCode", detail.get("message"))

    assert outcome("server", status=b'{"metadata":{},"status":"Success"}') == ("ok", 0)
    assert outcome("server", status=EXIT_3) == ("ok", 3)
    assert outcome("server", status=b'{"status":"Failure","message":"container not found"}') == (
        "error", "container not found",
    )  # fmt: skip
    assert outcome("server", status=b"[]") == ("error", "[]")
    assert outcome("server") == ("lost", None), "no word of how it ended"
    assert outcome("client") == ("lost", None)
    assert outcome("client", target=ATTACH) == ("ok", None), "who leaves an attach has seen enough"


# -- the gateway ends it


def test_kubectl_is_told_on_the_status_channel_why_a_websocket_ends() -> None:
    found = websocket_exec()
    found.server(to_client(1, b"so far"))
    found.tunnel.ended("gateway", "Policy changed. [01-7]")
    [(_, status), (opcode, close)] = messages(found.shown())
    assert status[:1] == b"\x03"
    said = json.loads(status[1:])
    assert (said["kind"], said["status"], said["code"], said["message"]) == (
        "Status", "Failure", 403, "Policy changed. [01-7]",
    )  # fmt: skip
    assert (opcode, close) == (ws.CLOSE, (1000).to_bytes(2, "big") + b"Policy changed. [01-7]")
    assert chunks(found)[-1] == (Kind.NOTE, b"Policy changed. [01-7]")
    found.tunnel.ended("server")
    assert found.shown() == b"", "once"


def test_no_word_of_the_gateways_stands_inside_a_message_of_the_servers() -> None:
    found = websocket_exec()
    long = to_client(1, bytes(1_000_000))
    assert found.server(long[:500_000]) == long[:500_000]
    found.tunnel.ended("gateway", "Over.")
    assert found.shown() == b""
    found = websocket_exec()
    found.server(ws.close_frame(1000, ""))
    found.tunnel.ended("gateway", "Over.")
    assert found.shown() == b"", "nothing follows a close frame"


def test_a_status_that_was_said_is_not_said_again() -> None:
    found = websocket_exec()
    found.server(to_client(3, EXIT_3))
    found.tunnel.ended("gateway", "Over.")
    assert [opcode for opcode, _ in messages(found.shown())] == [ws.CLOSE]
    assert found.tunnel.end_detail()["exitCode"] == 3


def test_kubectl_is_told_on_the_error_stream_why_spdy_ends() -> None:
    exec_ = SpdyExec()
    exec_.found.server(spdy.data_frames(7, b"", fin=True)[0])
    exec_.found.tunnel.ended("gateway", "Policy changed.")
    data = exec_.found.shown()
    said = exec_.streams(data)
    assert json.loads(said[1][0])["message"] == "Policy changed."
    assert said[1][1], "the error stream ends"
    assert said[5] == (b"", True)
    assert 7 not in said, "stderr had ended"
    assert data.endswith(spdy.goaway(7))


def test_a_port_forward_is_told_on_each_error_stream() -> None:
    found = opened(upgrade(FORWARD, spdy=("portforward.k8s.io",)), switched("portforward.k8s.io", spdy=True))
    client = SpdySender()
    for stream, kind in ((1, "error"), (3, "data"), (5, "error"), (7, "data")):
        found.client(client.open(stream, {"streamtype": kind, "port": "80", "requestid": "0"}))
    found.server(spdy.data_frames(1, b"", fin=True)[0])
    found.tunnel.ended("gateway", "Over.")
    assert found.shown() == spdy.data_frames(5, b"Over.", fin=True)[0] + spdy.goaway(7)
    assert found.tunnel.end_detail()["outcome"] == "lost"


def test_a_tunnelled_port_forward_is_told_inside_its_messages() -> None:
    protocol = "SPDY/3.1+portforward.k8s.io"
    found = opened(upgrade(FORWARD, websocket=(protocol,)), switched(protocol))
    client = SpdySender()
    sent = client.open(1, {"streamtype": "error", "port": "80", "requestid": "0"})
    found.client(b"".join(ws.encode(ws.BINARY, sent[at : at + 3], mask=MASK) for at in range(0, len(sent), 3)))
    found.tunnel.ended("gateway", "Over.")
    [(_, said), (opcode, close)] = messages(found.shown())
    assert said == spdy.data_frames(1, b"Over.", fin=True)[0] + spdy.goaway(1)
    assert (opcode, close) == (ws.CLOSE, (1008).to_bytes(2, "big") + b"Over.")


# -- port-forward


def test_connections_are_told_apart_and_digested() -> None:
    found = opened(upgrade(FORWARD, spdy=("portforward.k8s.io",)), switched("portforward.k8s.io", spdy=True))
    client, server = SpdySender(), SpdySender()
    for number in range(150):
        stream = 4 * number + 1
        for each, kind in ((stream, "error"), (stream + 2, "data")):
            found.client(client.open(each, {"streamtype": kind, "port": "80", "requestid": str(number)}))
            found.server(server.reply(each))
        found.client(spdy.data_frames(stream + 2, b"GET /", fin=True)[0])
        found.server(spdy.data_frames(stream + 2, b"answer %d" % number, fin=True)[0])
        for end in (found.client, found.server):
            end(spdy.data_frames(stream, b"", fin=True)[0])
    assert found.tunnel.over == ""
    detail = found.tunnel.end_detail()
    assert (detail["connections"], detail["toUpstreamBytes"]) == (150, 750)
    forwarded = detail["forwarded"]
    assert isinstance(forwarded, list)
    assert len(forwarded) == 100, "the others are in the sums"
    assert forwarded[7] == {
        "port": "80", "toUpstream": 5, "toClient": 8,
        "sha256": {
            "toUpstream": hashlib.sha256(b"GET /").hexdigest(), "toClient": hashlib.sha256(b"answer 7").hexdigest(),
        },
    }  # fmt: skip


def test_what_the_kubelet_could_not_reach_is_kept() -> None:
    found = opened(upgrade(FORWARD, spdy=("portforward.k8s.io",)), switched("portforward.k8s.io", spdy=True))
    found.client(SpdySender().open(1, {"streamtype": "error", "port": "81", "requestid": "0"}))
    found.server(spdy.data_frames(1, b"connection refused", fin=True)[0])
    assert found.tunnel.end_detail()["errors"] == ["connection refused"]


@pytest.mark.parametrize(
    ("headers", "what"),
    [
        ({"streamtype": "data"}, "neither data nor error"),
        ({"streamtype": "data", "port": "http"}, "neither data nor error"),
        ({"streamtype": "stdout", "port": "80"}, "neither data nor error"),
        ({"port": "80"}, "neither data nor error"),
    ],
)
def test_streams_that_are_no_port_forward_end_it(headers: dict[str, str], what: str) -> None:
    found = opened(upgrade(FORWARD, spdy=("portforward.k8s.io",)), switched("portforward.k8s.io", spdy=True))
    assert found.client(SpdySender().open(1, headers)) == b""
    assert what in found.tunnel.over


def test_a_flood_of_streams_ends_it() -> None:
    found = opened(upgrade(FORWARD, spdy=("portforward.k8s.io",)), switched("portforward.k8s.io", spdy=True))
    client = SpdySender()
    for number in range(4097):
        found.client(client.open(2 * number + 1, {"streamtype": "error", "port": "80"}))
    assert "more than 4096 streams" in found.tunnel.over


def test_the_kubelets_channels_are_counted_by_port() -> None:
    protocol = "v4.channel.k8s.io"
    found = opened(upgrade(FORWARD + "?ports=80,81", websocket=(protocol,)), switched(protocol))
    found.server(to_client(0, b"\x50\0") + to_client(1, b"\x50\0") + to_client(2, b"\x51\0") + to_client(3, b"\x51\0"))
    found.client(to_server(2, b"GET /"))
    detail = found.tunnel.end_detail()
    forwarded = detail["forwarded"]
    assert isinstance(forwarded, list)
    assert [(each["port"], each["toUpstream"], each["toClient"]) for each in forwarded] == [("80", 0, 2), ("81", 5, 2)]
    found.client(to_server(4, b"x"))
    assert "channel 4" in found.tunnel.over


# -- masks


def test_a_value_across_messages_is_masked_and_nothing_else_changes() -> None:
    found = websocket_exec(CARDS)
    got = found.server(to_client(1, b"first line\ncard: 4111 1111 "))
    got += found.server(to_client(1, b"1111 1111\nlast line\n"))
    found.tunnel.ended("server")
    got += found.shown()
    shown = b"".join(payload[1:] for _, payload in messages(got))
    assert CARD not in shown
    assert shown.startswith(b"first line\ncard: ")
    assert shown.endswith(b"\nlast line\n")
    assert joined(found)[Kind.STDOUT] == shown, "the record holds what the client saw"
    assert found.tunnel.end_detail()["stdoutBytes"] == len(shown)


def test_what_is_held_back_goes_after_50_ms_at_a_terminal() -> None:
    found = websocket_exec(CARDS, target=TTY)
    assert found.server(to_client(1, b"$ ")) == b""
    assert found.tunnel.due == pytest.approx(0.05)
    found.clock.at += 0.049
    found.tunnel.tick()
    assert found.shown() == b""
    found.clock.at += 0.002
    found.tunnel.tick()
    assert found.shown() == to_client(1, b"$ ")
    assert found.tunnel.due is None


def test_the_echo_of_what_was_typed_waits_for_nothing() -> None:
    found = websocket_exec(CARDS, target=TTY)
    for key in (b"l", b"s", b" ", b"4"):
        found.client(to_server(0, key))
        assert found.server(to_client(1, key)) == to_client(1, key)
    found.client(to_server(0, b"\r"))
    assert found.server(to_client(1, b"\r\n")) == to_client(1, b"\r\n")
    assert found.tunnel.due is None


def test_output_before_the_status_and_before_the_end_comes_before_it() -> None:
    found = websocket_exec(CARDS)
    got = found.server(to_client(1, b"no newline") + to_client(3, EXIT_3) + ws.close_frame(1000, ""))
    assert [payload[:11] for _, payload in messages(got)] == [b"\x01no newline", b"\x03" + EXIT_3[:10], b"\x03\xe8"]


def test_masks_over_spdy_keep_the_order_and_the_ends_of_streams() -> None:
    exec_ = SpdyExec(CARDS)
    got = exec_.found.server(spdy.data_frames(5, b"a\n" + CARD)[0])
    got += exec_.found.server(spdy.data_frames(7, b"err")[0])
    got += exec_.found.server(spdy.data_frames(5, b"", fin=True)[0] + spdy.data_frames(7, b"", fin=True)[0])
    said = exec_.streams(got)
    assert said[5][0].startswith(b"a\n")
    assert CARD not in said[5][0]
    assert said[5][1]
    assert said[7] == (b"err", True)


def test_a_status_that_repeats_a_value_is_masked() -> None:
    found = websocket_exec(CARDS)
    said = json.dumps({"status": "Failure", "message": f"no such file: {CARD.decode()}"}).encode()
    [(_, shown)] = messages(found.server(to_client(3, said)))
    assert CARD not in shown
    assert json.loads(shown[1:])["message"].startswith("no such file: ")
    assert found.server(to_client(3, EXIT_3)) == to_client(3, EXIT_3), "and one that does not is as it was"


def test_bytes_that_are_no_text_are_as_they_were() -> None:
    found = websocket_exec(CARDS)
    data = bytes(range(256)) * 50
    got = b"".join(found.server(to_client(1, data[at : at + 999])) for at in range(0, len(data), 999))
    found.tunnel.ended("server")
    got += taken(found.tunnel.to_client)
    assert b"".join(payload[1:] for _, payload in messages(got)) == data
