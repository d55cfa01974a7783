"""A gateway's record on its way to a store that fails in every way: each block arrives once, and none is lost."""

from __future__ import annotations

import asyncio
import hashlib
import os
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from support.certificates import make_authority

from ostiary_gateway.audit import chain, layout
from ostiary_gateway.audit.blocks import FIRST
from ostiary_gateway.audit.event import SessionOpened
from ostiary_gateway.audit.recorder import FileRecorder
from ostiary_gateway.audit.shipper import Left, Shipper, Who
from ostiary_gateway.audit.shipping import Announcement, whole_blocks
from ostiary_gateway.audit.store_client import ShipTo
from ostiary_store.model import AnotherGateway, Moved, Place, RecordRef, StoreError
from ostiary_store.service.counts import Counts
from ostiary_store.service.identities import TokenFile
from ostiary_store.service.intake import Intake

MIB = 1 << 20


class Store:
    """Takes blocks in, in memory, and fails as it is told."""

    def __init__(self) -> None:
        self.taken: dict[bytes, bytes] = {}
        self.records: dict[bytes, RecordRef] = {}
        self.places: dict[bytes, Place] = {}
        self.away = ""
        self.deaf = 0
        """So often something is taken in, and the answer is lost."""
        self.batches = 0

    async def place(self, record: RecordRef) -> Place:
        if self.away:
            raise StoreError(self.away)
        known = self.records.setdefault(record.uuid, record)
        if known.gateway != record.gateway:
            raise AnotherGateway("this record is that of another gateway")
        self.taken.setdefault(record.uuid, record.header)
        return self.places.setdefault(record.uuid, Place(FIRST, 0, chain.genesis(record.header), 0))

    async def take(self, record: RecordRef, place: Place, data: bytes) -> Place:
        stands = await self.place(record)
        if stands != place:
            raise Moved(stands)
        size = whole_blocks(data, len(data))
        if size < len(data):
            raise ValueError("no whole blocks")
        number, link, at = place.number, place.link, 0
        while at < size:
            head = layout.BLOCK.unpack_from(data, at)
            if head[8] != link or head[6] != number:
                raise ValueError(f"block {head[6]} does not follow")
            end = at + layout.BLOCK.size + head[5]
            link, number, at = data[end : end + 32], number + 1, end + 32
        self.taken[record.uuid] += data
        self.places[record.uuid] = Place(place.position + size, number, link, 0)
        self.batches += 1
        if self.deaf:
            self.deaf -= 1
            raise StoreError("the answer is lost")
        return self.places[record.uuid]


class Service:
    """The intake over a Store, which can be stopped and started at the same port."""

    def __init__(self, store: Store, folder: Path, tls: ssl.SSLContext | None = None) -> None:
        self.store = store
        self.counts = Counts()
        self.port = 0
        self.most = 64 * MIB
        self._tls = tls
        self._tokens = folder / "tokens"
        self._tokens.write_text(
            f"# gateways\n{hashlib.sha256(b'right').hexdigest()} host\n{hashlib.sha256(b'prod').hexdigest()}\tprod/*\n"
        )
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        intake = Intake(
            self.store, TokenFile(self._tokens), self.counts, max_body=self.most, in_flight=2 * self.most
        )  # fmt: skip
        self._runner = web.AppRunner(intake.application(), shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self._tls)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    made = Service(Store(), tmp_path)
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def recorder(tmp_path: Path) -> AsyncIterator[FileRecorder]:
    made = await FileRecorder.open(tmp_path / "audit.db")
    yield made
    await made.close()


def told(recorder: FileRecorder, name: str, size: int = 200) -> None:
    """A session that says something."""
    detail = {"noise": os.urandom(size).hex()}
    session = recorder.session_opened(
        SessionOpened(name, time.time(), "prod/app", "Postgres", {"username": "planner"}, {}, detail, "Full")
    )
    session.closed(time.time(), "done", 0)


def token(folder: Path, text: str = "right") -> Path:
    path = folder / "token"
    path.write_text(text + "\n")
    return path


@asynccontextmanager
async def shipping(
    service: Service, recorder: FileRecorder, folder: Path, *, to: ShipTo | None = None, grace: float = 5.0
) -> AsyncIterator[Shipper]:
    to = to or ShipTo(f"http://127.0.0.1:{service.port}", token=token(folder))
    shipper = Shipper(to, [recorder], Who("host", "host"))
    shipper.start()
    try:
        yield shipper
    finally:
        await asyncio.to_thread(shipper.stop, grace)


async def until(true: Callable[[], object], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.01)


def whole(service: Service, recorder: FileRecorder) -> bool:
    """The store has the file, byte for byte."""
    (taken,) = service.store.taken.values()
    return taken == recorder.path.read_bytes()[: recorder.position]


async def test_what_is_recorded_is_soon_in_the_store(service: Service, recorder: FileRecorder, tmp_path: Path) -> None:
    async with shipping(service, recorder, tmp_path) as shipper:
        for number in range(20):
            told(recorder, f"s{number}")
            await asyncio.sleep(0.02)
        begun = time.monotonic()
        await until(lambda: shipper.waiting <= 0 and recorder.queued == 0)
        assert time.monotonic() - begun < 1.0
        assert whole(service, recorder)
    assert service.counts.batches == shipper.shipped.batches == service.store.batches


async def test_what_is_left_goes_when_the_gateway_stops(
    service: Service, recorder: FileRecorder, tmp_path: Path
) -> None:
    async with shipping(service, recorder, tmp_path):
        for number in range(300):
            told(recorder, f"s{number}", 20_000)
        await recorder.close()
    assert whole(service, recorder)


async def test_a_store_that_is_away_holds_nobody_longer_than_the_grace(
    service: Service, recorder: FileRecorder, tmp_path: Path
) -> None:
    await service.stop()
    async with shipping(service, recorder, tmp_path, grace=0.5) as shipper:
        told(recorder, "s1")
        await until(lambda: shipper.shipped.trouble)
        assert "cannot be reached" in shipper.message()
        begun = time.monotonic()
    assert time.monotonic() - begun < 2.0


async def test_it_goes_on_when_the_store_is_there_again(
    service: Service, recorder: FileRecorder, tmp_path: Path
) -> None:
    async with shipping(service, recorder, tmp_path) as shipper:
        told(recorder, "s1")
        await until(lambda: service.store.batches)
        await service.stop()
        told(recorder, "s2", 100_000)
        await until(lambda: shipper.shipped.trouble)
        await service.start()  # a new process: it does not know the record any more
        await until(lambda: shipper.waiting <= 0 and not shipper.shipped.trouble)
        assert whole(service, recorder)
        assert shipper.message() == ""


async def test_nothing_arrives_twice_when_answers_are_lost(
    service: Service, recorder: FileRecorder, tmp_path: Path
) -> None:
    service.store.deaf = 3
    async with shipping(service, recorder, tmp_path) as shipper:
        for number in range(5):
            told(recorder, f"s{number}")
            await asyncio.sleep(0.15)
        await until(lambda: shipper.waiting <= 0 and recorder.queued == 0, 20)
        assert whole(service, recorder)


async def test_the_store_says_how_far_it_is_to_a_gateway_that_starts(
    service: Service, recorder: FileRecorder, tmp_path: Path
) -> None:
    told(recorder, "s1", 50_000)
    async with shipping(service, recorder, tmp_path) as shipper:
        await until(lambda: service.store.batches and shipper.waiting <= 0)
    told(recorder, "s2", 50_000)
    async with shipping(service, recorder, tmp_path) as shipper:
        await until(lambda: shipper.waiting <= 0 and recorder.queued == 0)
        assert whole(service, recorder)
        assert shipper.shipped.bytes < recorder.position - 50_000


async def test_a_block_that_is_larger_than_a_batch_goes_alone(
    service: Service, recorder: FileRecorder, tmp_path: Path
) -> None:
    told(recorder, "s1", 5 * MIB)
    told(recorder, "s2")
    async with shipping(service, recorder, tmp_path) as shipper:
        await until(lambda: recorder.queued == 0 and shipper.waiting <= 0, 20)
        assert whole(service, recorder)


async def test_a_wrong_token_ships_nothing_and_says_so(
    service: Service, recorder: FileRecorder, tmp_path: Path
) -> None:
    to = ShipTo(f"http://127.0.0.1:{service.port}", token=token(tmp_path, "wrong"))
    async with shipping(service, recorder, tmp_path, to=to, grace=0.2) as shipper:
        await until(lambda: shipper.shipped.trouble)
        assert "401" in shipper.shipped.trouble
        assert "not known here" in shipper.shipped.trouble
        token(tmp_path, "right")  # it is renewed: taken at the next refusal
        await until(lambda: not shipper.shipped.trouble)
    assert service.counts.refused["token"] > 0


async def test_a_token_ships_only_the_record_of_its_gateway(
    service: Service, recorder: FileRecorder, tmp_path: Path
) -> None:
    to = ShipTo(f"http://127.0.0.1:{service.port}", token=token(tmp_path, "prod"))
    shipper = Shipper(to, [recorder], Who("host", "host"))
    shipper.start()
    await until(lambda: shipper.shipped.trouble)
    assert "403" in shipper.shipped.trouble
    await asyncio.to_thread(shipper.stop, 0.1)
    assert not service.store.taken


async def test_a_record_is_never_taken_in_under_another_name(
    service: Service, recorder: FileRecorder, tmp_path: Path
) -> None:
    async with shipping(service, recorder, tmp_path) as shipper:
        await until(lambda: shipper.waiting <= 0)
    to = ShipTo(f"http://127.0.0.1:{service.port}", token=token(tmp_path, "prod"))
    thief = Shipper(to, [recorder], Who("prod/app", "pod"))
    thief.start()
    await until(lambda: thief.shipped.trouble)
    assert "403" in thief.shipped.trouble
    assert "that of another gateway" in thief.shipped.trouble
    await asyncio.to_thread(thief.stop, 0.1)


async def test_an_older_copy_of_the_record_is_not_mixed_with_what_the_store_has(
    service: Service, tmp_path: Path
) -> None:
    recorder = await FileRecorder.open(tmp_path / "audit.db")
    told(recorder, "s1")
    async with shipping(service, recorder, tmp_path) as shipper:
        await until(lambda: shipper.waiting <= 0 and recorder.queued == 0)
        old = {file.name: file.read_bytes() for file in tmp_path.iterdir() if file.suffix in (".log", ".db")}
        told(recorder, "s2", 10_000)
        await recorder.close()
    for name, content in old.items():
        (tmp_path / name).write_bytes(content)
    for file in tmp_path.glob("audit.db-*"):
        file.unlink()
    again = await FileRecorder.open(tmp_path / "audit.db")
    async with shipping(service, again, tmp_path, grace=0.1) as shipper:
        await until(lambda: shipper.shipped.trouble)
        assert "an older copy was put back" in shipper.shipped.trouble
        told(again, "s3", 30_000)
        await asyncio.sleep(1)
        assert "run ostiary verify" in shipper.shipped.trouble or "older copy" in shipper.shipped.trouble
    await again.close()


async def test_the_record_of_an_earlier_worker_goes_too(service: Service, tmp_path: Path) -> None:
    recorder = await FileRecorder.open(tmp_path / "audit-2.db")
    told(recorder, "s1")
    await recorder.close()
    shipper = Shipper(
        ShipTo(f"http://127.0.0.1:{service.port}", token=token(tmp_path)), [Left(tmp_path / "audit-2.db")],
        Who("host", "host"),
    )  # fmt: skip
    shipper.start()
    await until(lambda: shipper.waiting <= 0)
    assert await asyncio.to_thread(shipper.stop, 1.0)
    assert whole(service, recorder)


async def test_the_servers_certificate_is_checked(tmp_path: Path, recorder: FileRecorder) -> None:
    ours = make_authority(tmp_path / "tls")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(ours.server.certificate, ours.server.key)
    async with AsyncExitStack() as stack:
        service = Service(Store(), tmp_path, context)
        await service.start()
        stack.push_async_callback(service.stop)
        url = f"https://localhost:{service.port}"
        wrong = ShipTo(url, ours.other, token(tmp_path))
        async with shipping(service, recorder, tmp_path, to=wrong, grace=0.1) as shipper:
            await until(lambda: shipper.shipped.trouble)
            assert "its certificate is not accepted" in shipper.shipped.trouble
        missing = ShipTo(url, tmp_path / "none.crt", token(tmp_path))
        async with shipping(service, recorder, tmp_path, to=missing, grace=0.1) as shipper:
            await until(lambda: shipper.shipped.trouble)
            assert "none.crt cannot be used" in shipper.shipped.trouble
        async with shipping(service, recorder, tmp_path, to=ShipTo(url, ours.ca, token(tmp_path))) as right:
            told(recorder, "s1")
            await until(lambda: right.waiting <= 0 and recorder.queued == 0)
            assert whole(service, recorder)


@pytest.mark.parametrize(
    "url", ["ftp://x", "https://", "http://store.example", "https://me@store", "https://store?x=y", ""]
)
def test_a_url_that_cannot_be_used_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"URL of a store|without TLS"):
        ShipTo(url)


async def ask(service: Service, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, str]:
    import aiohttp

    async with aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{service.port}{path}"
        headers = {"Authorization": "Bearer right", **headers}
        async with session.request(method, url, data=body, headers=headers) as answer:
            return answer.status, await answer.text()


UUID = "00" * 16


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "said"),
    [
        ("PUT", f"/v1/records/{UUID}", b"", 400, "not JSON"),
        ("PUT", f"/v1/records/{UUID}", b"[]", 400, "not a JSON object"),
        ("PUT", f"/v1/records/{UUID}", b'{"header": "zz"}', 400, "header must be 64 bytes"),
        ("PUT", f"/v1/records/{UUID}", b"x" * 100_000, 413, "More than"),
        ("PUT", "/v1/records/zz", b"{}", 404, ""),
        ("POST", f"/v1/records/{UUID}/blocks", b"", 400, "position"),
        ("POST", f"/v1/records/{UUID}/blocks?position=-1", b"", 400, "position"),
        ("POST", f"/v1/records/{UUID}/blocks?position=64", b"", 404, "Announce the record first"),
        ("GET", f"/v1/records/{UUID}", b"", 405, ""),
    ],
)
async def test_what_is_no_request_is_refused(
    service: Service, method: str, path: str, body: bytes, status: int, said: str
) -> None:
    found, text = await ask(service, method, path, body)
    assert (found, said in text) == (status, True), text


async def test_damaged_blocks_are_refused(service: Service, recorder: FileRecorder, tmp_path: Path) -> None:
    async with shipping(service, recorder, tmp_path) as shipper:
        told(recorder, "s1")
        await until(lambda: shipper.waiting <= 0 and recorder.queued == 0)
    (uuid,) = service.store.taken
    path = f"/v1/records/{uuid.hex()}/blocks?position={recorder.position}"
    assert (await ask(service, "POST", path, b"rubbish"))[0] == 422
    blocks = recorder.path.read_bytes()[FIRST : recorder.position]
    assert (await ask(service, "POST", path, blocks))[0] == 422
    status, text = await ask(service, "POST", path.replace(str(recorder.position), "64"), blocks)
    assert status == 409
    assert f'"position":{recorder.position}' in text
    assert whole(service, recorder)


async def test_without_a_token_nobody_is_heard(service: Service) -> None:
    for header in ("", "Basic x", "Bearer ", "Bearer " + "x" * 10_000):
        status, _ = await ask(service, "PUT", f"/v1/records/{UUID}", b"{}", Authorization=header or "none")
        assert status in (400, 401)


async def test_a_gateway_that_sends_slowly_leaves_room_for_others(service: Service) -> None:
    paths: dict[str, str] = {}
    for name, token in (("slow", "right"), ("good", "prod")):
        header = layout.FILE.pack(layout.MAGIC, hashlib.sha256(name.encode()).digest()[:16])
        told = Announcement(header, "host" if name == "slow" else "prod/app", "").dump()
        path = paths[name] = f"/v1/records/{header[16:32].hex()}"
        assert (await ask(service, "PUT", path, told, Authorization=f"Bearer {token}"))[0] == 200
    async with AsyncExitStack() as stack:
        for _ in range(4):
            _, writer = await asyncio.open_connection("127.0.0.1", service.port)
            stack.callback(writer.close)
            writer.write(
                f"POST {paths['slow']}/blocks?position=64 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer right\r\n"
                f"Content-Length: {service.most}\r\n\r\n".encode()
            )
        await until(lambda: service.counts.refused.get("busy") == 3)
        assert service.counts.in_flight == service.most
        path = f"{paths['good']}/blocks?position=64"
        assert (await ask(service, "POST", path, b"rubbish" * 1000, Authorization="Bearer prod"))[0] == 422
    await until(lambda: not service.counts.in_flight)


def test_whole_blocks_are_found_by_their_lengths() -> None:
    def block(size: int, events: int = 0) -> bytes:
        head: Any = layout.BLOCK.pack(layout.BLOCK_MAGIC, 1, 0, 0, events or size, size, 0, 0.0, bytes(32))
        return bytes(head) + bytes(size) + bytes(32)

    one, two = block(10), block(1000)
    assert whole_blocks(one + two) == len(one + two)
    assert whole_blocks(one + two[:-1]) == len(one)
    assert whole_blocks(one[:-1]) == 0
    assert whole_blocks(b"") == 0
    assert whole_blocks(one + two, most=50) == len(one)
    assert whole_blocks(two, most=50) == len(two)
    assert whole_blocks(b"x" * 200) == -1
    assert whole_blocks(one + b"x" * 200) == len(one)
    dense = block(10, 5 * MIB)  # much that is compressed to little would take a store long
    assert whole_blocks(dense + dense) == len(dense)
    assert whole_blocks(block(10, 100 * MIB) + one) == len(one)
