"""Compiles the few hot modules with Cython where there is a C compiler; everywhere else they run as they are.

Each is plain Python (Cython's pure-Python mode). OSTIARY_REQUIRE_COMPILED=1 makes a failing compiler an error, and
OSTIARY_SANITIZE=1 builds for AddressSanitizer.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from setuptools import Extension, setup

LIST: Final = Path("gateway/ostiary_gateway/compiled.txt")


def modules() -> list[str]:
    lines = LIST.read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def extensions() -> list[Extension]:
    if os.environ.get("OSTIARY_NO_COMPILER"):
        return []
    try:
        from Cython.Build import cythonize
    except ImportError:
        if os.environ.get("OSTIARY_REQUIRE_COMPILED"):
            raise
        return []
    sanitize = ["-fsanitize=address", "-fno-omit-frame-pointer", "-g"] if os.environ.get("OSTIARY_SANITIZE") else []
    found = [
        Extension(
            name,
            ["gateway/" + name.replace(".", "/") + ".py"],
            extra_compile_args=["-O2", "-fwrapv", *(sanitize or ["-g0"])],
            extra_link_args=sanitize,
            optional=not os.environ.get("OSTIARY_REQUIRE_COMPILED"),
        )
        for name in modules()
    ]
    return cythonize(found, build_dir="build/cython", language_level=3, quiet=True, annotate=False)


setup(ext_modules=extensions())
