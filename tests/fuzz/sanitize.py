"""`make sanitize`: the compiled modules under AddressSanitizer, with the fuzz targets and the modules' own tests.

The modules are built in a temporary copy, so that the ones beside the sources stay what they were. Needs gcc's libasan
(Linux). AddressSanitizer ends the process at the first access out of bounds; this ends with 1 then.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = ("crds", "gateway", "tests", "docs", "examples")
FILES = ("pyproject.toml", "setup.py", "Makefile", "README.md", "LICENSE")
TESTS = (
    "tests/fuzz", "tests/unit/ostiary_gateway/protocols", "tests/unit/ostiary_gateway/masking",
    "tests/unit/ostiary_gateway/audit/test_recorder.py", "tests/unit/ostiary_gateway/audit/test_reader.py",
    "tests/unit/ostiary_gateway/audit/test_verify.py",
)  # fmt: skip
"""What runs the compiled modules."""


def libraries() -> list[str]:
    """What must be loaded before Python: gcc's libasan, and libstdc++, whose exceptions it watches."""
    found = []
    for name in ("libasan.so", "libstdc++.so"):
        try:
            told = subprocess.run(["gcc", f"-print-file-name={name}"], capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            return []
        path = Path(told.stdout.strip())
        if not path.is_absolute() or not path.is_file():
            return []
        found.append(str(path.resolve()))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, usage='make sanitize ARGS="[pytest arguments]"')
    parser.add_argument("--keep", action="store_true", help="leave the copy where it is, and say where")
    options, more = parser.parse_known_args()
    preloaded = libraries()
    if not preloaded:
        print("There is no libasan of gcc here. On Debian and Ubuntu: apt-get install g++", file=sys.stderr)
        return 2
    copy = Path(tempfile.mkdtemp(prefix="ostiary-sanitize-"))
    try:
        return sanitized(copy, preloaded, more)
    finally:
        if options.keep:
            print(f"kept: {copy}")
        else:
            shutil.rmtree(copy, ignore_errors=True)


def sanitized(copy: Path, preloaded: list[str], more: list[str]) -> int:
    ignored = shutil.ignore_patterns("*.so", "__pycache__", ".git", "crashes")
    for room in ROOMS:
        shutil.copytree(ROOT / room, copy / room, ignore=ignored)
    for name in FILES:
        shutil.copy2(ROOT / name, copy / name)
    environment = {
        **os.environ, "PYTHONPATH": os.pathsep.join(str(copy / room) for room in ("crds", "gateway")),
        "OSTIARY_SANITIZE": "1", "OSTIARY_REQUIRE_COMPILED": "1",
    }  # fmt: skip
    environment.pop("OSTIARY_PURE", None)
    print("Building with AddressSanitizer …", flush=True)
    build = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace", "--parallel", "2"]
    if subprocess.run(build, cwd=copy, env=environment).returncode:
        return 1
    built = sorted((copy / "gateway").rglob("*.so"))
    if not built or not all(b"__asan_" in path.read_bytes() for path in built):
        print("The modules were not built with AddressSanitizer.", file=sys.stderr)
        return 1
    report = copy / "asan"
    environment |= {
        "LD_PRELOAD": " ".join(preloaded), "PYTHONMALLOC": "malloc",
        # Python keeps much until it ends: what is not freed is no finding. Another library may be there before.
        "ASAN_OPTIONS": f"detect_leaks=0:verify_asan_link_order=0:log_path={report}:exitcode=99",
    }  # fmt: skip
    print(f"{len(built)} modules; running {' '.join(TESTS)} …", flush=True)
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *TESTS, *more]
    code = subprocess.run(command, cwd=copy, env=environment).returncode
    reports = sorted(copy.glob("asan.*"))
    for path in reports:
        print(path.read_text(errors="replace")[:6000], file=sys.stderr)
    if reports or code:
        print(f"AddressSanitizer: {len(reports)} reports; the tests ended with {code}.", file=sys.stderr)
        return 1
    print("AddressSanitizer found nothing.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
