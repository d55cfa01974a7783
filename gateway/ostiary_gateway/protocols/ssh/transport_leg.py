"""What both legs of a session share: packets after the login go raw to a receiver, the rest stays asyncssh's.

With transport.py the only module that touches asyncssh's private parts (2.24.1; test_transport_fence.py holds them to
it). Key exchange, authentication and the rules for their packets are asyncssh's. Of its connection protocol (RFC 4254)
nothing is left: messages 80 to 100 are given to `receiver` in their order, and what is sent is what its owner sends.
"""

from __future__ import annotations

import asyncio
import os
import struct
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

import asyncssh
from asyncssh.connection import SSHConnection
from asyncssh.encryption import Encryption, GCMEncryption
from asyncssh.packet import SSHPacket, String

from ostiary_gateway.leg import LegClosed

from .transport_seal import BLOCK, CHANNEL_DATA, TAG, Opener, Sealer
from .transport_seams import SHARED, VIEW, Farewell, Inlet, Receiver

MAX_EARLY_PACKET: Final = 40_000
"""Bytes of a packet before the login is over; RFC 4253, 6.1 asks for 35000."""
MAX_PACKET: Final = 128 * 1024
"""Bytes of a packet after it."""
CROWD: Final = 256
"""Packets of one read after which the others have their turn, and less is read at once from this peer."""
MOUTHFUL: Final = 16 * 1024
"""Bytes that are read at once of a peer whose packets are tiny."""
MAX_EARLY_PACKETS: Final = 400
"""Packets that a peer may send before its login is over."""
MAX_BACKLOG: Final = 256 * 1024
"""Bytes that wait while asyncssh is thinking about a packet; then nothing is read."""
MAX_WAITING: Final = 64
"""Packets that wait for a receiver; then nothing is read."""
MAX_UNREAD: Final = 4 * 2**20
"""Bytes that a peer has not read; beyond that nothing is read from it, whatever it asks."""
WRITE_HIGH: Final = 256 * 1024
"""Bytes in a socket's buffer at which its receiver is asked to pause."""
KEX_BYTES: Final = 64 * 1024
"""A peer may ask for new keys once for so many bytes, or once a second; beyond that it only burns our time."""
KEX_BURST: Final = 10.0
KEX_TIMEOUT: Final = 60.0
"""Seconds that a peer has for the exchange of keys, once there are some."""
MAX_HELD: Final = 2**20
"""Bytes that wait for new keys; then the receiver is asked to pause."""
MAX_DEFERRED: Final = 64 * 2**20
"""Bytes that wait for them at most: the peer does not want them."""
FAREWELL: Final = 2.0
"""Seconds in which a peer may read the last words."""
PING_AFTER: Final = 30.0
"""Seconds of silence after which a peer is asked whether it is there."""
PINGS: Final = 3
"""Questions without an answer after which it is not."""

_UINT32: Final = struct.Struct(">I")
_DATA: Final = struct.Struct(">II")
_IGNORE, _UNIMPLEMENTED, _DEBUG, KEXINIT = 2, 3, 4, 20
_GLOBAL_REQUEST, _REQUEST_SUCCESS, _REQUEST_FAILURE, _FIRST, _LAST = 80, 81, 82, 80, 100
_BY_RELAY, _BY_BACKLOG, _BY_UNREAD, _BY_WAITING, _BY_CROWD = 1, 2, 4, 8, 16
_PING: Final = b"\x50" + String(b"keepalive@openssh.com") + b"\x01"


class _Silent:
    """asyncssh's logger, when nobody listens: it would make up its lines before it drops them."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return _say_nothing

    def get_child(self, *_: object, **__: object) -> _Silent:
        return self


def _say_nothing(*_: object, **__: object) -> None:
    return None


_SILENT: Final = cast(Any, _Silent())


class _Channels(dict[int, Any]):
    """Where asyncssh looks a channel up: each leads back to the leg, which passes the packet on."""

    def __init__(self, leg: Leg) -> None:
        self._leg = leg

    def __missing__(self, number: int) -> Leg:
        return self._leg


class Leg(SSHConnection):
    """What both legs share."""

    left: bytes = b""
    """The beginning of a packet whose rest has not come."""
    appetite: int = len(VIEW)
    """Bytes that are read at once."""
    heard: float = 0.0
    """When the peer last sent something (time.monotonic)."""
    received: int = 0
    """Bytes that came after the login."""
    entered: asyncio.Future[None]
    """Done when the login is over; else it raises LegClosed."""
    _receiver: Receiver | None = None
    _door: Callable[[int, memoryview], None] | None = None
    _gone: str | None = None
    _early = 0
    _pauses = 0
    _stopped = False
    _deferred = 0
    _holding = False
    _kex_began = 0.0
    _aborting = False
    _writable = True
    _fast = False
    _delivered = False
    _unanswered = 0
    _rekeyed = 0.0
    _kex_credit = KEX_BURST
    _kex_at = 0.0

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self.entered = loop.create_future()
        self._parted: asyncio.Future[None] = loop.create_future()
        self._logger = _SILENT
        self._channels = _Channels(self)
        self._max_recv_pktlen = MAX_EARLY_PACKET
        self._waiting: list[bytes] = []
        self._asked: deque[bool] = deque()
        self.heard = self._kex_at = time.monotonic()

    # -- what the owner of a leg uses

    @property
    def receiver(self) -> Receiver | None:
        return self._receiver

    @receiver.setter
    def receiver(self, receiver: Receiver) -> None:
        """Packets that came before are given to it at once."""
        self._receiver = receiver
        self._door = getattr(receiver, "data", None)
        waiting, self._waiting = self._waiting, []
        for payload in waiting:
            receiver.packet(payload)
        if waiting:
            receiver.batch_done()
        if not self._writable or self._holding:
            receiver.pause()
        self._unpause(_BY_WAITING)
        if self._gone is not None:
            self._loop.call_soon(receiver.lost, self._gone)

    @property
    def peer(self) -> str:
        """The peer's IP address."""
        return self._peer_addr

    @property
    def peer_version(self) -> str:
        """The peer's version line, printable."""
        line = self._client_version if self._server else self._server_version
        return line.decode("ascii", "replace")[:255]

    @property
    def ciphers(self) -> tuple[str, str]:
        """What is sent with, and what is received with."""
        both = self._enc_alg_cs.decode("ascii"), self._enc_alg_sc.decode("ascii")
        return both if not self._server else (both[1], both[0])

    def send(self, payload: bytes | bytearray) -> None:
        """One packet, message number first. It waits where new keys are being agreed on."""
        if payload[0] == _GLOBAL_REQUEST and _wants_reply(payload):
            self._asked.append(False)
        self._send_raw(payload)

    def send_data(self, channel: int, data: bytes | bytearray | memoryview) -> None:
        """CHANNEL_DATA: `send`, without putting the packet together first."""
        sealer = self._send_encryption
        if type(sealer) is not Sealer or not self._kex_complete or self._rekey_bytes_sent >= self._rekey_bytes:
            head = bytes((CHANNEL_DATA,)) + _UINT32.pack(channel) + _UINT32.pack(len(data))
            self._send_raw(head + data)
            return
        transport = self._transport
        if transport is None:
            return
        length, body = sealer.seal_data(channel, data)
        self._rekey_bytes_sent += len(body)
        self._send_seq = (self._send_seq + 1) & 0xFFFFFFFF
        transport.writelines((length, body))

    def pause_reading(self) -> None:
        self._pause(_BY_RELAY)

    def resume_reading(self) -> None:
        self._unpause(_BY_RELAY)

    def disconnect(self, code: int, reason: str, lang: str = "en") -> None:
        """SSH_MSG_DISCONNECT, then the end."""
        if self._transport is not None:
            self._send_disconnect(code, reason, lang)
            self._force_close(None)

    def abort(self) -> None:
        """Ends it at once, without a word."""
        self._aborting = True
        self._force_close(None)

    async def parted(self) -> None:
        """After `disconnect`: until the peer has had time for the last words."""
        if self._transport is None:
            await asyncio.wait((self._parted,), timeout=FAREWELL + 1)

    def upkeep(self, now: float) -> None:
        """Now and then: asks a silent peer whether it is there, and gives up on one that never answers."""
        if self._transport is None or not self._auth_complete:
            return
        if not self._kex_complete and now - self._kex_began > KEX_TIMEOUT:
            self.connection_lost(asyncssh.ConnectionLost("new keys were not agreed on in time"))
        elif now - self.heard < PING_AFTER:
            self._unanswered = 0
        elif self._unanswered >= PINGS:
            self.connection_lost(asyncssh.ConnectionLost("the peer does not answer any more"))
        elif now - self.heard >= PING_AFTER * (self._unanswered + 1):
            self._unanswered += 1
            self._asked.append(True)
            self._send_raw(_PING)

    # -- packets out

    def _send_raw(self, payload: bytes | bytearray) -> None:
        self.send_packet(payload[0], bytes(payload[1:]))

    def send_packet(self, pkttype: int, *args: bytes, handler: object = None) -> None:
        """asyncssh's, without a MSG_IGNORE before every packet: ciphers in CBC mode need that, and are not offered."""
        if (
            self._auth_complete
            and self._kex_complete
            and (self._rekey_bytes_sent >= self._rekey_bytes or time.monotonic() >= self._rekey_time)
        ):
            self._send_kexinit()
            self._kexinit_sent = True
        if (
            ((pkttype in _AFTER_KEX or pkttype > 49) and not self._kex_complete)
            or (pkttype == 53 and not (self._auth_in_progress or self._auth_complete))
            or (pkttype > 79 and not self._auth_complete)
        ):
            self._defer(pkttype, args)
            return
        payload = b"".join((bytes((pkttype,)), *args))
        sealer = self._send_encryption
        if type(sealer) is Sealer:
            data = sealer.seal(payload)
        else:
            data = self._sealed_otherwise(payload)
        self._send(data)
        if self._send_seq == 0xFFFFFFFF and sealer is None:
            raise asyncssh.ProtocolError("Sequence rollover before kex complete")
        self._send_seq = 0 if pkttype == 21 and self._strict_kex else (self._send_seq + 1) & 0xFFFFFFFF
        if self._kex_complete:
            self._rekey_bytes_sent += len(data)

    def _sealed_otherwise(self, payload: bytes) -> bytes:
        block = self._send_blocksize
        padding = -(self._send_enchdrlen + len(payload)) % block
        if padding < 4:
            padding += block
        packet = bytes((padding,)) + payload + os.urandom(padding)
        head = _UINT32.pack(len(packet))
        if self._send_encryption is None:
            return head + packet
        parts: tuple[bytes, bytes] = self._send_encryption.encrypt_packet(self._send_seq, head, packet)
        return b"".join(parts)

    def _send_kexinit(self) -> None:
        super()._send_kexinit()
        self._kex_began = time.monotonic()
        self._read_or_not()

    def _defer(self, pkttype: int, args: tuple[bytes, ...]) -> None:
        """RFC 4253, 7.1: it waits for the new keys, or for the end of the login."""
        self._deferred_packets.append((pkttype, args))
        self._deferred += sum(map(len, args))
        if self._deferred > MAX_DEFERRED:
            self.connection_lost(asyncssh.ConnectionLost("new keys were not agreed on in time"))
        elif self._deferred > MAX_HELD and not self._holding:
            self._holding = True
            if self._receiver is not None:
                self._receiver.pause()

    def _send_deferred_packets(self) -> None:
        if self._kex_complete:
            self._deferred = 0
        super()._send_deferred_packets()
        if not self._kex_complete:
            return
        self._read_or_not()
        if self._holding and not self._deferred:
            self._holding = False
            if self._receiver is not None and self._writable:
                self._receiver.resume()

    def log_sent_packet(self, *_: object, **__: object) -> None:
        """asyncssh's makes up its line even if nobody listens."""

    def log_received_packet(self, *_: object, **__: object) -> None:
        """The same."""

    # -- packets in

    def data_received(self, data: bytes, datatype: object = None) -> None:
        """Until the login is over."""
        if self._transport is None:
            return
        self._inpbuf += data
        self._recv_data()

    def took(self, count: int) -> None:
        """So many bytes more are in the shared buffer, after what was left."""
        end = len(self.left) + count
        self.left = b""
        if self._transport is None:
            return
        self.heard = time.monotonic()
        self.received += count
        opener = self._recv_encryption
        if not self._fast or type(opener) is not Opener:
            self._inpbuf += bytes(VIEW[:end])
            self._recv_data()
            return
        at, packets = self._run(opener, end)
        self._recv_seq = (self._recv_seq + packets) & 0xFFFFFFFF
        if at < 0 or self._transport is None:
            return
        if self._fast:
            if at < end:
                self.left = bytes(VIEW[at:end])
            self._batch_over()
            if packets > CROWD:
                self.appetite = MOUTHFUL
                self._pause(_BY_CROWD)
                self._loop.call_soon(self._unpause, _BY_CROWD)
            elif self.appetite != len(VIEW) and packets < CROWD // 4:
                self.appetite = len(VIEW)
            return
        # A packet for asyncssh: it goes on from there, until there is nothing of its own to do.
        self._inpbuf = bytes(VIEW[at:end])
        self._recv_data()

    def _run(self, opener: Opener, end: int) -> tuple[int, int]:
        """Opens the packets of the shared buffer up to `end`; where it stopped (-1: closed), and how many they were."""
        at = packets = 0
        receiver, door = self._receiver, self._door
        while end - at >= 4:
            size = _UINT32.unpack_from(SHARED, at)[0]
            if size > MAX_PACKET or size % BLOCK or size < BLOCK:
                self._refuse(asyncssh.ProtocolError("Bad packet length"))
                return -1, packets
            stop = at + 4 + size + TAG
            if stop > end:
                break
            plain = opener.open(VIEW[at : at + 4], VIEW[at + 4 : stop])
            if plain is None:
                self._refuse(asyncssh.MACError("MAC verification failed"))
                return -1, packets
            padding = plain[0]
            if padding < 4 or padding + 2 > size:
                self._refuse(asyncssh.ProtocolError("Bad padding"))
                return -1, packets
            number = plain[1]
            if number == CHANNEL_DATA and door is not None and size - padding >= 10:
                channel, length = _DATA.unpack_from(plain, 2)
                if length != size - padding - 10:
                    self._refuse(asyncssh.ProtocolError("Bad length of channel data"))
                    return -1, packets
                door(channel, memoryview(plain)[10 : 10 + length])
                if self._transport is None:
                    return -1, packets
            elif receiver is not None and _LAST >= number > _REQUEST_FAILURE:
                receiver.packet(plain[1:-padding])
                if self._transport is None:
                    return -1, packets
            elif _FIRST <= number <= _LAST:
                self._deliver(plain[1:-padding])
                receiver, door = self._receiver, self._door
            elif number not in _IDLE:
                opener.rewind()
                self._fast = False
                break
            packets += 1
            at = stop
        if packets:
            self._delivered = True
            self._auth_final = True
        return at, packets

    def _refuse(self, problem: asyncssh.DisconnectError) -> None:
        self._send_disconnect(problem.code, problem.reason, problem.lang)
        self._force_close(problem)

    def _deliver(self, payload: bytes) -> None:
        if _REQUEST_SUCCESS <= payload[0] <= _REQUEST_FAILURE and self._asked and self._asked.popleft():
            return
        if self._receiver is not None:
            self._receiver.packet(payload)
            return
        self._waiting.append(payload)
        if len(self._waiting) >= MAX_WAITING:
            self._pause(_BY_WAITING)

    def _batch_over(self) -> None:
        if self._delivered:
            self._delivered = False
            if self._receiver is not None:
                self._receiver.batch_done()
        transport = self._transport
        if not self._writable and transport is not None and transport.get_write_buffer_size() > MAX_UNREAD:
            self._pause(_BY_UNREAD)

    def _recv_data(self) -> None:
        super()._recv_data()
        self._batch_over()
        if self._transport is None:
            return
        if len(self._inpbuf) > MAX_BACKLOG:
            self._pause(_BY_BACKLOG)
        elif self._pauses & _BY_BACKLOG:
            self._unpause(_BY_BACKLOG)
        self._quicken()

    def _finish_recv_packet(
        self, pkttype: int, seq: int, _task: asyncio.Task[None] | None = None, is_async: bool = False
    ) -> None:
        super()._finish_recv_packet(pkttype, seq, _task, is_async)
        if is_async:
            self._quicken()

    def _quicken(self) -> None:
        """From asyncssh's way to the quick one, between two packets."""
        if self._auth_complete and type(self._recv_encryption) is Opener and self._recv_handler in self._between:
            self.left, self._inpbuf, self._packet = self._packet + self._inpbuf, b"", b""
            self._recv_handler = self._recv_pkthdr
            self._fast = True

    @property
    def _between(self) -> tuple[Callable[[], bool], ...]:
        """What asyncssh waits with for a packet, or for its rest."""
        return self._recv_pkthdr, self._recv_packet

    def process_packet(self, pkttype: int, pktid: int, packet: SSHPacket) -> bool | Awaitable[None]:
        """asyncssh's own packets go their way; of the others those that RFC 4254 knows go to the receiver."""
        if pkttype >= _FIRST:
            if pkttype > _LAST:
                return False
            self._deliver(packet.get_full_payload())
            self._delivered = True
            return True
        if not self._auth_complete:
            self._early += 1
            if self._early > MAX_EARLY_PACKETS:
                raise asyncssh.ProtocolError("Too many packets before the login")
        elif pkttype == KEXINIT:
            self._charge_kex()
        return super().process_packet(pkttype, pktid, packet)

    def _charge_kex(self) -> None:
        """A key exchange costs us milliseconds, and its peer one packet."""
        if self._kexinit_sent:
            return
        now = time.monotonic()
        earned = (self.received - self._rekeyed) / KEX_BYTES + (now - self._kex_at) + self._rekey_bytes_sent / KEX_BYTES
        self._kex_credit = min(KEX_BURST, self._kex_credit + earned) - 1
        self._rekeyed, self._kex_at = self.received, now
        if self._kex_credit < 0:
            raise asyncssh.ProtocolError("Too many key exchanges")

    # asyncssh sets these when new keys are in force: its AES-GCM gives its key to one of ours, and is used no more.

    @property
    def _send_encryption(self) -> Any:
        return self._sealer

    @_send_encryption.setter
    def _send_encryption(self, encryption: Encryption | None) -> None:
        self._sealer: Any = _ours(encryption, Sealer)

    @property
    def _recv_encryption(self) -> Any:
        return self._opener

    @_recv_encryption.setter
    def _recv_encryption(self, encryption: Encryption | None) -> None:
        self._opener: Any = _ours(encryption, Opener)

    # -- the socket

    def logged_in(self) -> None:
        self._max_recv_pktlen = MAX_PACKET
        self.heard = time.monotonic()
        if self._transport is not None:
            self._transport.set_write_buffer_limits(WRITE_HIGH)
            self._transport.set_protocol(Inlet(self))
        if not self.entered.done():
            self.entered.set_result(None)

    def pause_writing(self) -> None:
        self._writable = False
        if self._receiver is not None:
            self._receiver.pause()

    def resume_writing(self) -> None:
        self._writable = True
        self._unpause(_BY_UNREAD)
        if self._receiver is not None and not self._holding:
            self._receiver.resume()

    def _pause(self, reason: int) -> None:
        self._pauses |= reason
        self._read_or_not()

    def _unpause(self, reason: int) -> None:
        if self._pauses & reason:
            self._pauses &= ~reason
            self._read_or_not()

    def _read_or_not(self) -> None:
        """While new keys are agreed on, a leg reads even if its receiver is full: both legs may be at it, each with the
        other's packets, and would wait for each other for ever."""
        pauses = self._pauses if self._kex_complete else self._pauses & ~_BY_RELAY
        stop = bool(pauses)
        if stop is self._stopped or self._transport is None or self._transport.is_closing():
            return
        self._stopped = stop
        if stop:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def _force_close(self, exc: Exception | None) -> None:
        """asyncssh's aborts the transport at once, and with it what it has just told the peer."""
        transport, self._transport = self._transport, None
        if transport is None:
            return
        if transport.is_closing() or self._aborting:
            transport.abort()
            self._parted.set_result(None)
        else:
            transport.set_protocol(Farewell(transport, self._parted))
            if self._stopped:
                transport.resume_reading()
            transport.write_eof()
            self._loop.call_later(FAREWELL, transport.abort)
        self._loop.call_soon(self._cleanup, exc)

    def _cleanup(self, exc: Exception | None) -> None:
        super()._cleanup(exc)
        self.left = b""
        self._deferred_packets = []
        self._channels = {}
        problem = "" if exc is None else str(exc) or type(exc).__name__
        if not self.entered.done():
            self.entered.set_exception(LegClosed(problem or "the connection was closed"))
            self.entered.exception()
        if self._gone is None:
            self._gone = problem
            if self._receiver is not None:
                self._receiver.lost(problem)


_AFTER_KEX: Final = frozenset({4, 5, 6})
_IDLE: Final = frozenset({_IGNORE, _UNIMPLEMENTED, _DEBUG})


def _ours(encryption: Encryption | None, kind: type[Sealer | Opener]) -> object:
    if type(encryption) is not GCMEncryption:
        return encryption
    cipher = encryption._cipher
    return kind(cipher._key, cipher._iv)


def _wants_reply(payload: bytes | bytearray) -> bool:
    """Of a GLOBAL_REQUEST."""
    if len(payload) < 6:
        return False
    at = 5 + int(_UINT32.unpack_from(payload, 1)[0])
    return at < len(payload) and payload[at] != 0
