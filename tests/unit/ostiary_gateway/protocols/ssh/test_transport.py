"""What two legs say to each other: packets in their order, under every cipher, across new keys, with back-pressure."""

from __future__ import annotations

import asyncio
import itertools
import os

import pytest
from support.ssh_legs import PATIENCE, DataEar, Ear, data, flood, legs

from ostiary_gateway.protocols.ssh import transport_leg
from ostiary_gateway.protocols.ssh.transport_offers import CIPHERS

ETM, PLAIN_MAC = "hmac-sha2-256-etm@openssh.com", "hmac-sha2-512"
MEGABYTE = 2**20


async def test_what_comes_after_the_login_is_given_raw_and_nothing_is_answered_by_itself() -> None:
    async with legs() as talk:
        opening = b"\x5a\x00\x00\x00\x07session" + bytes(12)
        forward = b"\x50\x00\x00\x00\x0dtcpip-forward\x01\x00\x00\x00\x00\x00\x00\x00\x16"
        talk.target.send(opening)
        talk.target.send(forward)
        talk.target.send(b"\x62\x00\x00\x00\x63\x00\x00\x00\x04exec\x01")
        assert await talk.at_client.heard(3) == [
            opening, forward, b"\x62\x00\x00\x00\x63\x00\x00\x00\x04exec\x01",
        ]  # fmt: skip

        talk.client.send(b"\x52")
        assert await talk.at_target.heard(1) == [b"\x52"]
        assert talk.at_target.lost_by is None


async def test_packets_that_come_before_there_is_a_receiver_are_kept_for_it() -> None:
    async with legs(attended=False) as talk:
        for number in range(200):
            talk.target.send(data(number, b"x"))
        await asyncio.sleep(0.05)
        ear = Ear()
        talk.client.receiver = ear
        packets = await ear.heard(200)
        assert packets == [data(number, b"x") for number in range(200)]


@pytest.mark.parametrize("mac", [ETM, PLAIN_MAC])
@pytest.mark.parametrize("cipher", CIPHERS)
async def test_every_cipher_carries_both_ways_across_many_key_exchanges(cipher: str, mac: str) -> None:
    content, count = os.urandom(16_384), 320
    async with legs(cipher=cipher, mac=mac, rekey=MEGABYTE) as talk:
        assert talk.client.ciphers == talk.target.ciphers == (cipher, cipher)
        exchanged = _count_key_exchanges(talk.client)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(flood(talk.target, talk.at_target, content, count))
            tasks.create_task(flood(talk.client, talk.at_client, content, count))
            for ear in (talk.at_client, talk.at_target):
                assert await ear.heard(count) == [data(number % 7, content) for number in range(count)]
        assert len(exchanged) >= 3


async def test_a_client_that_prefers_a_slow_cipher_and_can_do_a_quick_one_gets_the_quick_one() -> None:
    everything = ["chacha20-poly1305@openssh.com", "aes128-ctr", "aes256-gcm@openssh.com", "aes128-gcm@openssh.com"]
    async with legs(ciphers=everything, rekey=MEGABYTE) as talk:
        assert talk.client.ciphers == ("aes256-gcm@openssh.com", "aes256-gcm@openssh.com")
        await flood(talk.target, talk.at_target, bytes(30_000), 100)
        await talk.at_client.heard(100)
        assert talk.client.ciphers == ("aes256-gcm@openssh.com", "aes256-gcm@openssh.com")


async def test_no_packet_of_the_connection_protocol_is_sent_while_new_keys_are_agreed_on() -> None:
    """RFC 4253, 7.1: between KEXINIT and NEWKEYS nothing of it may be sent."""
    async with legs() as talk:
        sent: list[int] = []
        sealer = talk.client._send_encryption
        seal = sealer.seal

        def noted(payload: bytes) -> bytes:
            sent.append(payload[0])
            return bytes(seal(payload))

        sealer.seal = noted
        talk.client._send_kexinit()
        talk.client._kexinit_sent = True
        talk.client.send_data(1, b"waits")
        talk.client.send(b"\x52")
        assert sent == [20]
        assert await talk.at_target.heard(2) == [data(1, b"waits"), b"\x52"]
        assert sent[:3] == [20, 31, 21]


async def test_legs_that_wait_for_each_other_get_new_keys_all_the_same() -> None:
    """Between two peers each leg stops reading while the other is full."""
    async with legs() as talk:
        for leg in (talk.client, talk.target):
            leg.pause_reading()
        for leg, ear in ((talk.client, talk.at_client), (talk.target, talk.at_target)):
            leg._send_kexinit()
            leg._kexinit_sent = True
            while not ear.paused:
                leg.send_data(1, bytes(32_768))
        await talk.at_client.until(lambda: not talk.at_client.paused)
        await talk.at_target.until(lambda: not talk.at_target.paused)
        assert talk.client._stopped
        assert talk.target._stopped


async def test_a_peer_that_never_agrees_on_new_keys_is_given_up() -> None:
    async with legs() as talk:
        assert talk.target._transport is not None
        talk.target._transport.pause_reading()
        talk.client._send_kexinit()
        talk.client._kexinit_sent = True
        talk.client.upkeep(talk.client.heard + 20)
        assert talk.at_client.lost_by is None
        talk.client.upkeep(talk.client.heard + 120)
        assert await talk.at_client.gone() == "new keys were not agreed on in time"


async def test_channel_data_comes_by_its_own_door_where_there_is_one() -> None:
    async with legs(ear=DataEar) as talk:
        ear = talk.at_client
        assert isinstance(ear, DataEar)
        for size in (0, 1, 15, 16, 17, 32_768):
            talk.target.send_data(size, b"y" * size)
        talk.target.send(b"\x60\x00\x00\x00\x01")
        await ear.heard(7)
        assert ear.data_of == [(size, b"y" * size) for size in (0, 1, 15, 16, 17, 32_768)]
        assert ear.packets == [b"\x60\x00\x00\x00\x01"]


async def test_others_have_their_turn_between_the_tiny_packets_of_one_peer() -> None:
    async with legs() as talk:
        ear = talk.at_client
        turns: list[int] = []

        async def beside() -> None:
            while ear.count < 20_000:
                turns.append(ear.count)
                await asyncio.sleep(0)

        others = asyncio.create_task(beside())
        for number in range(20_000):
            talk.target.send(data(number, b"x"))
            if number % 4000 == 0:
                await asyncio.sleep(0)
        await ear.heard(20_000)
        await others
        held = [after - before for before, after in itertools.pairwise(turns)]
        first = transport_leg.VIEW.nbytes // len(data(0, b"x"))
        assert max(held) <= first, "not even the first time is more than one read taken"
        assert sum(each > transport_leg.MOUTHFUL // len(data(0, b"x")) for each in held) <= 2, held
        assert ear.packets[:100] == [data(number, b"x") for number in range(100)]

        await flood(talk.target, talk.at_target, bytes(30_000), 50)
        await ear.heard(20_050)
        assert talk.client.appetite == transport_leg.VIEW.nbytes, "who sends large ones is read as before"


async def test_channel_data_whose_length_is_a_lie_ends_the_connection() -> None:
    async with legs(ear=DataEar) as talk:
        talk.target.send(b"\x5e\x00\x00\x00\x01\x00\x00\x00\x09short")
        assert await talk.at_client.gone() == "Bad length of channel data"
        assert "Bad length of channel data" in await talk.at_target.gone()


async def test_messages_that_nobody_knows_are_answered_as_unimplemented_and_nothing_else() -> None:
    async with legs() as talk:
        for number in (101, 127, 128, 200, 255):
            talk.target.send_packet(number, b"\x00\x00\x00\x00")
        talk.target.send(data(1, b"goes on"))
        assert await talk.at_client.heard(1) == [data(1, b"goes on")]
        talk.client.send(data(2, b"back"))
        assert await talk.at_target.heard(1) == [data(2, b"back")]


async def test_ignore_and_debug_are_dropped() -> None:
    async with legs() as talk:
        talk.target.send_packet(2, b"\x00\x00\x00\x03abc")
        talk.target.send_packet(4, b"\x01\x00\x00\x00\x01x\x00\x00\x00\x00")
        talk.target.send(data(1, b"then"))
        assert await talk.at_client.heard(1) == [data(1, b"then")]


async def test_a_goodbye_is_heard_on_the_other_side_as_a_clean_end() -> None:
    async with legs() as talk:
        talk.target.disconnect(11, "bye")
        assert await talk.at_client.gone() == ""
        assert await talk.at_target.gone() == ""


async def test_a_disconnect_with_a_reason_arrives_after_what_was_sent_before_it() -> None:
    async with legs() as talk:
        for _ in range(50):
            talk.client.send_data(1, b"z" * 30_000)
        talk.client.disconnect(12, "there are too many")
        assert "there are too many" in await talk.at_target.gone()
        assert talk.at_target.count == 50


async def test_a_connection_that_breaks_is_no_clean_end() -> None:
    async with legs() as talk:
        assert talk.target._transport is not None
        talk.target._transport.abort()
        assert await talk.at_client.gone() != ""


async def test_a_receiver_that_comes_too_late_is_told_that_the_leg_is_gone() -> None:
    async with legs(attended=False) as talk:
        talk.target.disconnect(11, "bye")
        await asyncio.sleep(0.05)
        ear = Ear()
        talk.client.receiver = ear
        assert await ear.gone() == ""


async def test_a_peer_that_does_not_read_makes_the_sender_pause_and_later_go_on() -> None:
    async with legs() as talk:
        talk.client.pause_reading()
        sent = 0
        while not talk.at_target.paused:
            talk.target.send_data(1, bytes(32_768))
            sent += 1
            await asyncio.sleep(0)
            assert sent < 2000
        assert talk.at_client.count < sent
        talk.client.resume_reading()
        await talk.at_client.heard(sent)
        await talk.at_target.until(lambda: not talk.at_target.paused)


async def test_who_never_reads_the_answers_is_not_read_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport_leg, "MAX_UNREAD", MEGABYTE)
    async with legs() as talk:
        assert talk.target._transport is not None
        talk.target._transport.pause_reading()

        class Answering(Ear):
            def packet(self, payload: bytes) -> None:
                super().packet(payload)
                talk.client.send(b"\x64" + bytes(3000))

        talk.client.receiver = ear = Answering()
        for _ in range(40_000):
            talk.target.send(b"\x62" + bytes(20))
            await asyncio.sleep(0)
            if talk.client._pauses:
                break
        assert talk.client._pauses
        before = ear.count
        for _ in range(100):
            talk.target.send(b"\x62" + bytes(20))
            await asyncio.sleep(0)
        assert ear.count == before
        assert talk.client._transport is not None
        assert talk.client._transport.get_write_buffer_size() < 2 * MEGABYTE


async def test_a_silent_peer_is_asked_whether_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    async with legs() as talk:
        now = talk.client.heard
        talk.client.upkeep(now + 31)
        assert await talk.at_target.heard(1) == [b"\x50\x00\x00\x00\x15keepalive@openssh.com\x01"]
        talk.client.send(b"\x50\x00\x00\x00\x01x\x01")
        talk.target.send(b"\x52")
        talk.target.send(b"\x51own")
        assert await talk.at_client.heard(1) == [b"\x51own"], "the answer to its own question is nobody else's"


async def test_a_peer_that_never_answers_is_given_up() -> None:
    async with legs() as talk:
        now = talk.client.heard
        for seconds in (31, 61, 91, 121):
            talk.client.upkeep(now + seconds)
        assert "does not answer" in await talk.at_client.gone()


async def test_a_peer_that_asks_for_new_keys_all_the_time_is_refused() -> None:
    async with legs() as talk:
        for _ in range(30):
            if talk.at_client.lost_by is not None:
                break
            if talk.target._kex_complete and talk.target._transport is not None:
                talk.target._send_kexinit()
                talk.target._kexinit_sent = True
            async with asyncio.timeout(PATIENCE):
                while not talk.target._kex_complete and talk.target._transport is not None:
                    await asyncio.sleep(0.001)
        assert await talk.at_client.gone() == "Too many key exchanges"


def _count_key_exchanges(leg: transport_leg.Leg) -> list[int]:
    found: list[int] = []
    charge = leg._charge_kex

    def charged() -> None:
        found.append(1)
        charge()

    leg._charge_kex = charged  # type: ignore[method-assign]
    return found
