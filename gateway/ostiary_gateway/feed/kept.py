"""The last good bundle on disk, for a start while the API server is away. It has no Secret's data in it."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Final

from ostiary_api.bundle_feed import BundleError, FeedBundle, read_text

FILE: Final = "bundle.json"
MAX_FILE: Final = 256 * 2**20


class KeptBundle:
    """A file in the data directory."""

    def __init__(self, data: Path, gateway: str) -> None:
        self._path = data / FILE
        self._gateway = gateway

    def read(self) -> FeedBundle | None:
        """What is there; None if there is nothing. Raises BundleError for what cannot be used."""
        try:
            with self._path.open("rb") as file:
                raw = file.read(MAX_FILE + 1)
            kept = json.loads(raw)
            return read_text(str(kept["text"]), str(kept["revision"]), self._gateway)
        except FileNotFoundError:
            return None
        except OSError as problem:
            raise BundleError(f"{self._path} cannot be read: {problem.strerror}") from None
        except (ValueError, KeyError, TypeError):
            raise BundleError(f"{self._path} is damaged") from None

    def write(self, revision: str, text: str) -> None:
        """In one step: whoever reads finds the old or the new one. Raises OSError."""
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = self._path.with_suffix(".draft")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                json.dump({"revision": revision, "text": text}, file)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self._path)
        except BaseException:
            with contextlib.suppress(OSError):
                draft.unlink()
            raise
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
