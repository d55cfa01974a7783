"""`make fuzz`: the targets under atheris (libFuzzer), or with mutations of our own where there is no atheris.

    make fuzz                               every target for a minute
    make fuzz ARGS="--seconds 600 sessions" one of them, for longer
    make fuzz ARGS="--list"

What a target does wrong is kept in tests/fuzz/crashes/, and from then on `make test` runs it too.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

from support.fuzzing import CRASHES, Crash, Target

MODULES = {
    "wire": ("test_wire", "TARGET"),
    "sessions": ("test_sessions", "TARGET"),
    "hostile_server": ("test_hostile_server", "TARGET"),
    "rows": ("test_rows", "TARGET"),
    "copies": ("test_copies", "TARGET"),
    "facts": ("test_facts", "TARGET"),
    "spellings": ("test_facts", "SPELLINGS"),
    "wrappings": ("test_facts", "WRAPPINGS"),
    "folding": ("test_folding", "TARGET"),
    "literals": ("test_folding", "LITERALS"),
    "websocket": ("test_tunnels", "WEBSOCKET"),
    "spdy": ("test_tunnels", "SPDY"),
    "tunnels": ("test_tunnels", "TUNNELS"),
    "recordings": ("test_tunnels", "RECORDINGS"),
    "startup": ("test_startup", "STARTUP"),
    "login": ("test_startup", "LOGIN"),
    "identity": ("test_identity", "TARGET"),
    "manifests": ("test_manifests", "TARGET"),
    "expressions": ("test_guard", "EXPRESSIONS"),
    "guard": ("test_guard", "FACTS"),
    "kubernetes_requests": ("test_kubernetes_wire", "REQUESTS"),
    "kubernetes_responses": ("test_kubernetes_wire", "RESPONSES"),
    "kubernetes_masks": ("test_kubernetes_masks", "TARGET"),
    "kubernetes_targets": ("test_kubernetes_bodies", "TARGETS"),
    "kubernetes_json": ("test_kubernetes_bodies", "JSON_BODIES"),
    "kubernetes_yaml": ("test_kubernetes_bodies", "YAML_BODIES"),
    "kubernetes_protobuf": ("test_kubernetes_bodies", "PROTOBUF_BODIES"),
    "ssh_sessions": ("test_ssh_sessions", "TARGET"),
    "sftp": ("test_ssh_files", "SFTP"),
    "scp": ("test_ssh_files", "SCP"),
    "scp_command": ("test_ssh_files", "COMMAND"),
}
"""Targets: the module and the name in it."""
PACKAGES = ("ostiary_api", "ostiary_policy", "ostiary_gateway")
SLOWEST = 20
"""Seconds; an input that takes longer has found a loop."""
MEMORY = 2048
"""MiB that a target may use."""


def load(name: str) -> Target:
    module, attribute = MODULES[name]
    target = getattr(importlib.import_module(module), attribute)
    assert isinstance(target, Target)
    return target


def under_atheris(name: str, seconds: int, found: Path) -> None:
    """Never returns: libFuzzer ends the process. New inputs go to `found`."""
    # The coverage is that of Python's code; what is compiled shows none, and so runs as Python here.
    os.environ["OSTIARY_PURE"] = "1"
    import atheris

    with atheris.instrument_imports(include=list(PACKAGES)):
        target = load(name)

    def one(data: bytes) -> None:
        target.run(data)

    CRASHES.mkdir(exist_ok=True)
    options = [
        f"-max_total_time={seconds}", f"-timeout={SLOWEST}", f"-rss_limit_mb={MEMORY}", f"-max_len={target.longest}",
        f"-artifact_prefix={CRASHES / name}-", "-print_final_stats=0", "-verbosity=1",
    ]  # fmt: skip
    if target.words.exists():
        options.append(f"-dict={target.words}")
    places = [str(found), *([str(target.corpus)] if target.corpus.exists() else [])]
    atheris.Setup([sys.argv[0], *options, *places], one)
    atheris.Fuzz()


def with_own_mutations(name: str, seconds: int) -> None:
    target = load(name)
    seeds = target.seeds() or [b"\0"]
    until, count = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        for data in target.mutated(seeds, 500, salt=str(time.time_ns())):
            try:
                target.check(data)
            except Crash as crash:
                CRASHES.mkdir(exist_ok=True)
                (CRASHES / f"{name}-crash-{abs(hash(data)):x}").write_bytes(data)
                raise SystemExit(f"{crash}") from crash
            count += 1
        print(f"#{count} mutations", flush=True)


def watch(name: str, seconds: int, found: Path) -> bool:
    """One target in a process of its own. True if it found nothing."""
    command = [sys.executable, __file__, "--one", name, "--seconds", str(seconds), "--found", str(found)]
    begun, told, tail = time.monotonic(), 0.0, []
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(command, text=True, errors="replace", **pipes) as run:
        assert run.stdout is not None
        for line in run.stdout:
            tail = [*tail[-60:], line]
            state = re.match(r"#(\d+)\s+\S+(?:.*?cov: (\d+))?(?:.*?exec/s: (\d+))?", line)
            if state and time.monotonic() - told > 5:
                told = time.monotonic()
                runs, covered, pace = state.groups()
                edges, speed = f", {covered} edges" if covered else "", f", {pace}/s" if pace else ""
                print(f"  {name:<15} {told - begun:>5.0f} s {int(runs):>9} inputs{edges}{speed}", flush=True)
    if run.returncode == 0:
        print(f"  {name:<15} nothing in {time.monotonic() - begun:.0f} s", flush=True)
        return True
    print("".join(tail))
    kept = sorted(CRASHES.glob(f"{name}-*"), key=lambda path: path.stat().st_mtime)
    where = kept[-1].relative_to(Path.cwd()) if kept and kept[-1].is_relative_to(Path.cwd()) else "above"
    print(f"  {name}: FAILED. The input is {where}; what it does: {again(name, where)}")
    print(f"  Make it smaller: {again(name, where, '--minimise')}")
    print("  Once it is mended, put it into the corpus and a test beside the code.", flush=True)
    return False


def again(name: str, where: Path | str, option: str = "--input") -> str:
    return f'make fuzz ARGS="{name} {option} {where}"'


def minimised(target: Target, data: bytes) -> bytes:
    """The shortest input that still fails, as far as leaving pieces out gets."""

    def fails(candidate: bytes) -> bool:
        try:
            target.check(candidate)
        except Crash:
            return True
        return False

    assert fails(data), "this input does not fail"
    size = max(len(data) // 2, 1)
    while size:
        at = 0
        while at < len(data):
            shorter = data[:at] + data[at + size :]
            if fails(shorter):
                data = shorter
            else:
                at += size
        size //= 2
    return data


def main() -> int:
    parser = argparse.ArgumentParser(description="Fuzz Ostiary.", usage='make fuzz ARGS="[options] [target …]"')
    parser.add_argument("targets", nargs="*", metavar="target", help=", ".join(MODULES))
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default 60)")
    parser.add_argument("--list", action="store_true", help="the targets, one a line")
    parser.add_argument("--input", type=Path, help="run this one input, and show what happens")
    parser.add_argument("--minimise", type=Path, help="make this failing input smaller")
    parser.add_argument("--digest", type=int, help="print what the targets return, as a digest, for so many mutations")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--found", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if unknown := [name for name in options.targets if name not in MODULES]:
        parser.error(f"no target {unknown[0]}; there are {', '.join(MODULES)}")
    if options.list:
        print("\n".join(MODULES))
        return 0
    if options.one:
        if importlib.util.find_spec("atheris") is None:
            with_own_mutations(options.one, options.seconds)
        else:
            under_atheris(options.one, options.seconds, options.found)
        return 0
    names = options.targets or list(MODULES)
    if options.digest is not None:
        for name in names:
            print(name, load(name).digest(options.digest))
        return 0
    if options.input is not None or options.minimise is not None:
        target = load(names[0])
        if options.input is not None:
            target.check(options.input.read_bytes())
            print("nothing wrong with it")
        else:
            smaller = minimised(target, options.minimise.read_bytes())
            options.minimise.write_bytes(smaller)
            print(f"{len(smaller)} bytes: {smaller!r}")
        return 0
    kind = "atheris" if importlib.util.find_spec("atheris") else "mutations of our own (there is no atheris here)"
    print(f"{len(names)} targets, {options.seconds} s each, with {kind}")
    found = Path(tempfile.mkdtemp(prefix="ostiary-fuzz-"))
    try:
        good = True
        for name in names:
            (found / name).mkdir()
            good = watch(name, options.seconds, found / name) and good
    finally:
        shutil.rmtree(found, ignore_errors=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
