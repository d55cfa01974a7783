"""Sessions of psql: scripts, commands, \\copy, Ctrl-C. The server comes from the PG… variables, psql from PSQL."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
PSQL = os.environ.get("PSQL", "psql")
STEPS: list[dict[str, object]] = []


def plain(text: str) -> str:
    """Without what differs from run to run."""
    text = re.sub(r'(You are now connected to database ".*" as user) ".*"', r"\1 …", text)  # the name it sent, no more
    text = re.sub(r"process with PID \d+", "process with PID …", text)
    text = re.sub(r"\w{3} \d+ \w{3} \d{4} \d\d:\d\d:\d\d \w+|\w{3} \w{3} +\d+ \d\d:\d\d:\d\d \d{4}", "…", text)
    return re.sub(r"^psql: error: connection to server at .*? failed", "psql: error: connection failed", text)


def psql(step: str, *arguments: str, stdin: str = "") -> None:
    done = subprocess.run([PSQL, "-X", *arguments], input=stdin, capture_output=True, text=True, timeout=60)
    STEPS.append({"step": step, "saw": [done.returncode, plain(done.stdout), plain(done.stderr)]})


def interrupted() -> None:
    """Ctrl-C while a statement runs: psql asks the server to cancel, and goes on with the next line."""
    process = subprocess.Popen(
        [PSQL, "-X"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    process.stdin.write("select 'begun';\nselect pg_sleep(30);\nselect 'alive';\n")
    process.stdin.flush()
    time.sleep(0.7)
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    # Read from a pipe, psql ends with the script it was given; what counts is the server's word and that it is soon.
    out, err = process.communicate(timeout=25)
    STEPS.append({"step": "Ctrl-C", "saw": [plain(out), plain(err), time.monotonic() - begun < 10]})


def main() -> None:
    version = int(subprocess.run([PSQL, "--version"], capture_output=True, text=True).stdout.split()[2].split(".")[0])
    psql("-c", "-c", "select 1 as one")
    psql("-c with several", "-c", "select 1; select 2; select 3")
    psql("-c with several, the last fails", "-c", "create table never (a int); select 1/0")
    psql("it was one transaction", "-c", "select * from never")
    psql("several -c", "-At", "-c", "select 1", "-c", "select 1/0", "-c", "select 3")
    psql("stop on error", "-v", "ON_ERROR_STOP=1", "-f", "-", stdin="select 1/0;\nselect 'not reached';\n")
    psql("single transaction", "-1", "-c", "create table one (a int)", "-c", "insert into one values (1) returning a")
    psql("list", "-lqAt", "-d", os.environ["PGDATABASE"])
    psql("everyday", "-a", "-f", str(HERE / "everyday.sql"))
    psql("backslash", "-a", "-f", str(HERE / "backslash.sql"))
    if version >= 18:
        psql("bind", "-a", "-f", str(HERE / "bind.sql"))
    with tempfile.TemporaryDirectory() as directory:
        source, target = Path(directory) / "in.csv", Path(directory) / "out.csv"
        source.write_text("".join(f'{n},"line ""{n}"""\n' for n in range(50_000)))
        psql("COPY table", "-c", "create table copied (id int, body text)")
        psql("\\copy from", "-c", f"\\copy copied from {source} csv")
        psql("\\copy to", "-c", f"\\copy (select * from copied order by id) to {target} csv force quote body")
        STEPS.append({"step": "the same file", "saw": source.read_bytes() == target.read_bytes()})
        psql("COPY with COPY", "-At", stdin="copy copied to stdout;\n")
        STEPS[-1]["saw"] = [STEPS[-1]["saw"][0], len(STEPS[-1]["saw"][1])]  # type: ignore[index]
    psql("wide", "-At", "-c", "select length(repeat('x', 9000000)), md5(repeat('x', 9000000))")
    psql("not UTF-8", "-At", "-c", "set client_encoding to 'LATIN1'; select 'é'")
    interrupted()
    json.dump({"client": f"psql {version}", "steps": STEPS}, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
