"""Reads manifest files: files as given, directories with everything below that ends in .yaml or .yml."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ostiary_api.problems import Location, Problem

SUFFIXES = (".yaml", ".yml")
MAX_FILES = 10_000
MAX_FILE = 8 * 2**20
"""Bytes of one file. The API server takes no object over 1.5 MB."""
MAX_TOTAL = 64 * 2**20

Signature = tuple[tuple[str, int, int, int], ...]
"""Path, inode, size and time of change (ns) of every file: differs when anything was written, swapped or removed."""


@dataclass(frozen=True, slots=True)
class Files:
    """What was read. `texts` is path → text; with `problems` it is not all that there is."""

    texts: dict[str, str]
    problems: tuple[Problem, ...]


def read(paths: Sequence[Path]) -> Files:
    """Read everything that the paths name. Never raises for what is on the disk: see `problems`."""
    texts: dict[str, str] = {}
    problems: list[Problem] = []
    total = 0
    for path, problem in _walk(paths):
        name = str(path)
        if problem:
            problems.append(Problem(Location(name), problem))
            continue
        if name in texts:
            continue
        try:
            with path.open("rb") as file:
                raw = file.read(MAX_FILE + 1)
        except OSError as error:
            problems.append(Problem(Location(name), f"cannot be read: {error.strerror}"))
            continue
        total += len(raw)
        if len(raw) > MAX_FILE:
            problems.append(Problem(Location(name), f"is larger than {MAX_FILE >> 20} MiB; split it"))
        elif total > MAX_TOTAL or len(texts) >= MAX_FILES:
            limit = f"{MAX_FILES} files or {MAX_TOTAL >> 20} MiB"
            problems.append(
                Problem(Location(name), f"there is more than {limit} here; give the manifests' own directory")
            )
            break
        else:
            try:
                texts[name] = raw.decode("utf-8-sig")
            except UnicodeDecodeError as error:
                line = raw.count(b"\n", 0, error.start) + 1
                problems.append(Problem(Location(name, line), "is not UTF-8 text"))
    return Files(texts, tuple(problems))


def signature(paths: Sequence[Path]) -> Signature:
    """What tells a change without reading. A path that is not there has no entry."""
    entries = []
    for path, _ in _walk(paths):
        try:
            status = path.stat()
        except OSError:
            entries.append((str(path), 0, 0, 0))
        else:
            entries.append((str(path), status.st_ino, status.st_size, status.st_mtime_ns))
    return tuple(entries)


def _walk(paths: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    """Every file in a stable order, or a path with what is wrong with it.

    Hidden entries are passed over: a mounted ConfigMap keeps its old and new versions in them and links to the files.
    """
    for path in paths:
        try:
            mode = path.stat().st_mode
        except OSError as error:
            yield path, f"cannot be read: {error.strerror}"
            continue
        if stat.S_ISDIR(mode):
            yield from _walk_directory(path, ())
        elif stat.S_ISREG(mode):
            yield path, ""
        else:
            yield path, "is no file and no directory"


def _walk_directory(directory: Path, above: tuple[tuple[int, int], ...]) -> Iterator[tuple[Path, str]]:
    try:
        status = directory.stat()
        entries = sorted(entry for entry in directory.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        yield directory, f"cannot be read: {error.strerror}"
        return
    here = (status.st_dev, status.st_ino)
    if here in above:  # a link to a directory that we are in
        return
    for path in entries:
        if path.is_dir():
            yield from _walk_directory(path, (*above, here))
        elif path.name.endswith(SUFFIXES):
            yield (path, "") if path.is_file() else (path, "is no file, or a link that leads nowhere")
