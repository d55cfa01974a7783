"""What was acknowledged is there, whatever happens to the process or the disk. Each gateway here is a real process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ostiary_gateway.audit.reader import Reader
from ostiary_gateway.audit.recorder import FileRecorder
from ostiary_gateway.audit.verify import verify

COMMON = """
import asyncio, os, resource, sys, time
from pathlib import Path
from ostiary_gateway.audit.event import *
from ostiary_gateway.audit.recorder import FileRecorder
from ostiary_policy.decision import Action, Decision
ALLOW = Decision(Action.ALLOW, None, "")
path = Path(sys.argv[1])
def opened(session):
    return SessionOpened(session, time.time(), "prod/app", "Postgres", {"username": "u"}, {}, {}, "Full")
"""

ACKNOWLEDGES = """
async def agent(recorder, session):
    record = recorder.session_opened(opened(session))
    for number in range(1, 1_000_000):
        await record.begin(number, time.time(), "select 1", {}, ALLOW, True)
        os.write(1, f"{session}-{number}\\n".encode())
        record.response(number, b"row")
        record.end(number, time.time(), "ok", {}, 1, 3)
async def main():
    recorder = await FileRecorder.open(path)
    await asyncio.gather(*(agent(recorder, f"s{n}") for n in range(8)))
asyncio.run(main())
"""


def start(code: str, *arguments: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        [sys.executable, "-c", COMMON + code, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def run(code: str, *arguments: str) -> str:
    process = start(code, *arguments)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors.decode()
    return output.decode()


async def test_every_acknowledged_begin_survives_kill_9(path: Path) -> None:
    acknowledged: set[str] = set()
    for round_number in range(3):
        process = start(ACKNOWLEDGES, str(path))
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(0.2 + 0.15 * round_number)
        process.send_signal(signal.SIGKILL)
        output = first + process.communicate()[0]
        names = [f"{round_number}:{line}" for line in output.decode().split("\n")[:-1]]
        assert len(names) > 10
        acknowledged.update(names)
        assert verify(path).ok  # also before anybody has tidied up

        recorder = await FileRecorder.open(path)
        await recorder.close()
        report = verify(path)
        assert report.ok, [str(finding) for finding in report.findings]
        assert report.unsealed == 0
        with Reader.open(path) as reader:
            lost = list(reader.sessions(state="lost", newest_first=True, limit=8))
            assert len(lost) == 8
            found = {f"{round_number}:{request.id}" for session in lost for request in reader.requests(session)}
            assert set(names) <= found
            assert sum(session.requests for session in lost) == len(found)
            last = list(reader.events(lost[0]))[-1]
            assert (last.kind, last.fields["reason"]) == ("lost", "the gateway stopped without closing this session")


STREAMS = """
async def main():
    recorder = await FileRecorder.open(path)
    record = recorder.session_opened(opened("s1"))
    await record.begin(1, time.time(), "select 1", {}, ALLOW, True)
    for number in range(100_000):
        record.response(1, number.to_bytes(8, "big") * 10_000)
        if recorder.pressure:
            await recorder.relieved()
            os.write(1, b".")
asyncio.run(main())
"""


async def test_a_response_cut_by_kill_9_is_kept_up_to_there(path: Path) -> None:
    process = start(STREAMS, str(path))
    assert process.stdout is not None
    process.stdout.read(2)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    await (await FileRecorder.open(path)).close()
    assert verify(path).ok
    with Reader.open(path) as reader:
        (request,) = reader.requests(reader.session("s1"))
        assert request.ended is None
        kept = b"".join(reader.response(request))
    assert len(kept) > 1_000_000
    blocks = [kept[start : start + 80_000] for start in range(0, len(kept) - 80_000, 80_000)]
    assert blocks == [number.to_bytes(8, "big") * 10_000 for number in range(len(blocks))]


FULL = """
async def main():
    recorder = await FileRecorder.open(path)
    record = recorder.session_opened(opened("s1"))
    await record.begin(1, time.time(), "select 1", {}, ALLOW, True)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    import signal
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, hard))
    acknowledged, failed = [1], 0
    for number in range(1000, 1200):
        try:
            await record.begin(number, time.time(), os.urandom(4000).hex(), {}, ALLOW, True)
            acknowledged.append(number)
        except RecordError as error:
            failed += 1
            assert "cannot be written" in str(error), error
    assert failed > 50, failed
    # Now at once, without a wait for the disk; and what nobody waits for never fails.
    started = time.perf_counter()
    for number in range(100):
        try:
            record.begin(2000 + number, time.time(), "select 1", {}, ALLOW, True)
            raise SystemExit("a durable begin was taken while the disk is full")
        except RecordError:
            pass
        record.begin(3000 + number, time.time(), "select 1", {}, ALLOW, False)
    assert time.perf_counter() - started < 0.5
    record.response(1, b"x" * 10_000_000)
    assert not recorder.pressure
    await recorder.relieved()
    record.end(1, time.time(), "ok", {}, 1, 3)
    for number in range(3000):
        record.begin(4000 + number, time.time(), "z" * 100_000, {}, ALLOW, False)
    assert recorder.stats.dropped > 0
    assert recorder.queued < 80_000_000
    # The disk has room again.
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    for _ in range(100):
        await asyncio.sleep(0.1)
        if not recorder.failing and recorder.queued == 0:
            break
    await record.begin(9999, time.time(), "select 1", {}, ALLOW, True)
    acknowledged.append(9999)
    record.closed(time.time(), "bye", 0)
    await recorder.close()
    print(*acknowledged)
asyncio.run(main())
"""


def test_a_full_disk_refuses_strict_requests_and_marks_what_is_missing(path: Path) -> None:
    numbers = run(FULL, str(path)).splitlines()[-1].split()  # the log comes first
    assert {"1", "9999"} <= set(numbers)
    acknowledged = {f"s1-{number}" for number in numbers}
    report = verify(path)
    assert report.ok, [str(finding) for finding in report.findings]
    with Reader.open(path) as reader:
        session = reader.session("s1")
        requests = {request.id: request for request in reader.requests(session)}
        assert acknowledged <= set(requests)
        refused = [request for request in requests.values() if request.id.startswith("s1-20") and request.ended]
        assert refused
        for request in refused:
            assert request.ended is not None
            assert request.ended.fields["outcome"] == "denied"
        missing = [event.fields["events"] for event in reader.events(session) if event.kind == "gap"]
        assert missing
        ended = requests["s1-1"].ended
        assert ended is not None
        assert ended.fields["response"] == {"size": 10_000_000, "recorded": 0, "missing": True}


GIGABYTE = """
async def main():
    recorder = await FileRecorder.open(path)
    record = recorder.session_opened(opened("s1"))
    await record.begin(1, time.time(), "select 1", {}, ALLOW, True)
    row = b"D\\0\\0\\0\\x30\\0\\x02\\0\\0\\0\\x08%08d\\0\\0\\0\\x1auser%08d@example.com  "
    block = b"".join(row % (n, n) for n in range(1300))
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sent = 0
    while sent < 1_000_000_000:
        record.response(1, block)
        sent += len(block)
        if recorder.pressure:
            await recorder.relieved()
    record.end(1, time.time(), "ok", {}, 1, 3)
    record.closed(time.time(), "bye", 1)
    await recorder.close()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base
    print(sent, grown, recorder.stats.dropped)
asyncio.run(main())
"""


@pytest.mark.slow
def test_a_response_of_a_gigabyte_is_recorded_with_bounded_memory(path: Path) -> None:
    sent, grown_kib, dropped = map(int, run(GIGABYTE, str(path)).split())
    assert dropped == 0
    assert grown_kib < 32 * 1024
    with Reader.open(path) as reader:
        (request,) = reader.requests(reader.session("s1"))
        assert sum(len(piece) for piece in reader.response(request)) == sent
