"""Cancel keys that name the worker, the way to it, and how many workers a machine is for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ostiary_gateway.admin.health import Check
from ostiary_gateway.counters import Counters
from ostiary_gateway.workers.place import ALONE, MAX_WORKERS, Place
from ostiary_gateway.workers.run import processors
from ostiary_gateway.workers.sockets import ask, listens, socket_of
from ostiary_gateway.workers.worker import WorkerSocket, WorkerState


def test_a_process_id_names_its_worker_in_31_bits() -> None:
    for worker in (1, 2, MAX_WORKERS):
        ids = {Place(worker, Path(), MAX_WORKERS).process_id() for _ in range(50)}
        assert {each >> 24 for each in ids} == {worker}
        assert max(ids) < 2**31
        assert len(ids) > 40


def test_each_worker_has_a_record_of_its_own_and_the_first_that_of_a_gateway_alone() -> None:
    assert [Place(worker).audit for worker in (0, 1, 2, 3)] == ["audit.db", "audit.db", "audit-2.db", "audit-3.db"]


class Listening:
    """Worker 2 of 2, which keeps what is passed on."""

    def __init__(self, data: Path) -> None:
        self.found: list[tuple[str, bytes]] = []
        self.socket = WorkerSocket(socket_of(data, 2), Counters(), lambda: [Check("record", True)], self._take)

    async def _take(self, connection: str, message: bytes) -> None:
        self.found.append((connection, message))


@pytest.mark.parametrize("deep", [False, True])
async def test_what_is_for_another_worker_is_passed_on_to_it(tmp_path: Path, deep: bool) -> None:
    data = tmp_path / ("d" * 150) if deep else tmp_path  # longer than the path of a Unix socket may be
    data.mkdir(exist_ok=True)
    two = Listening(data)
    await two.socket.start()
    one = Place(1, data, 2)
    assert one.others_serve()
    await one.pass_on("prod/app", 2 << 24 | 77, b"\x01cancel")
    await one.pass_on("prod/app", 1 << 24 | 77, b"my own")
    await one.pass_on("prod/app", 3 << 24 | 77, b"nobody's")
    await ALONE.pass_on("prod/app", 2 << 24 | 77, b"alone")
    assert two.found == [("prod/app", b"\x01cancel")]
    await two.socket.stop()
    assert not listens(socket_of(data, 2))
    assert not one.others_serve()


async def test_a_worker_that_is_gone_takes_nothing_and_harms_nobody(tmp_path: Path) -> None:
    await Place(1, tmp_path, 2).pass_on("prod/app", 2 << 24, b"cancel")


async def test_a_worker_tells_how_it_is(tmp_path: Path) -> None:
    two = Listening(tmp_path)
    await two.socket.start()
    state = WorkerState.parse(await ask(socket_of(tmp_path, 2), "GET", "/state"))
    assert (state.started, state.checks) == (False, (Check("record", True),))
    with pytest.raises(ValueError, match="404"):
        await ask(socket_of(tmp_path, 2), "GET", "/nothing")
    with pytest.raises(ValueError, match="400"):
        await ask(socket_of(tmp_path, 2), "POST", "/pass-on", b"nonsense")
    await two.socket.stop()


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("max 100000", lambda found: found >= 1),
        ("100000 100000", lambda found: found == 1),
        ("50000 100000", lambda found: found == 1),
        ("nonsense", lambda found: found >= 1),
    ],
)
def test_a_containers_limit_counts(tmp_path: Path, text: str, fits: Callable[[int], bool]) -> None:
    quota = tmp_path / "cpu.max"
    quota.write_text(text)
    assert fits(processors(quota))
    assert processors(tmp_path / "not-there") >= 1
