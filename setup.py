"""Compiles the few hot modules with Cython where there is a C compiler; everywhere else they run as they are.

Each is plain Python (Cython's pure-Python mode). OSTIARY_REQUIRE_COMPILED=1 makes a missing or failing compiler an
error, OSTIARY_NO_COMPILER=1 compiles nothing, and OSTIARY_SANITIZE=1 builds for AddressSanitizer.
"""

from __future__ import annotations

import importlib.machinery
import os
import shlex
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Final

from setuptools import Extension, setup

LIST: Final = Path("gateway/ostiary_gateway/compiled.txt")
WITHOUT: Final = (
    "No C compiler, or not Python's headers: the hot modules run as plain Python, which is slower."
    " On Debian and Ubuntu: apt-get install gcc python3-dev"
)


def modules() -> list[str]:
    lines = LIST.read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def can_compile() -> bool:
    """Is there a C compiler that finds Python's headers? Asked first: Cython itself takes a minute."""
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    with tempfile.TemporaryDirectory() as directory:
        source = Path(directory, "probe.c")
        source.write_text("#include <Python.h>\n", encoding="utf-8")
        included = [f"-I{sysconfig.get_path(name)}" for name in ("include", "platinclude")]
        command = [*compiler, *included, "-c", str(source), "-o", str(source.with_suffix(".o"))]
        try:
            return subprocess.run(command, capture_output=True).returncode == 0
        except OSError:
            return False


def remove_stale() -> None:
    """Extensions that were built from older sources, and would be imported instead of them."""
    for name in modules():
        stem = Path("gateway", *name.split("."))
        source = stem.with_suffix(".py")
        for suffix in importlib.machinery.EXTENSION_SUFFIXES:
            extension = stem.with_name(stem.name + suffix)
            if extension.exists() and extension.stat().st_mtime < source.stat().st_mtime:
                extension.unlink()


def extensions() -> list[Extension]:
    required = bool(os.environ.get("OSTIARY_REQUIRE_COMPILED"))
    if os.environ.get("OSTIARY_NO_COMPILER"):
        return []
    if not can_compile():
        if required:
            sys.exit(f"OSTIARY_REQUIRE_COMPILED is set. {WITHOUT}")
        sys.stderr.write(f"{WITHOUT}\n")
        remove_stale()
        return []
    try:
        from Cython.Build import cythonize
    except ImportError:
        if required:
            raise
        return []
    sanitize = ["-fsanitize=address", "-fno-omit-frame-pointer", "-g"] if os.environ.get("OSTIARY_SANITIZE") else []
    found = [
        Extension(
            name,
            ["gateway/" + name.replace(".", "/") + ".py"],
            extra_compile_args=["-O2", "-fwrapv", *(sanitize or ["-g0"])],
            extra_link_args=sanitize,
            optional=not required,
        )
        for name in modules()
    ]
    return cythonize(found, build_dir="build/cython", language_level=3, quiet=True, annotate=False)


COMMANDS: Final = {"build", "build_ext", "bdist_wheel", "editable_wheel", "develop", "install"}
compiles = not COMMANDS.isdisjoint(sys.argv)
setup(ext_modules=extensions() if compiles else [])
