"""The console beside a gateway, as a process of its own: `ostiary serve --console`."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ostiary_gateway.logging import get_logger

log = get_logger(__name__)

PATIENCE: Final = 5.0
"""Seconds that it gets to end."""
PAUSE: Final = (1.0, 30.0)
"""Seconds before it is started again, and at most."""


@contextmanager
def console_beside(listen: tuple[str, int] | None, data: Path, socket: Path | None) -> Iterator[None]:
    """It runs for as long as the block lasts, and is started again if it ends. None: there is none."""
    if listen is None:
        yield
        return
    host, port = listen
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    command = [sys.executable, "-P", "-m", "ostiary_cli", "console", "--data", str(data), "--listen", address]
    command += ["--with-parent", *(["--socket", str(socket)] if socket is not None else [])]
    keeper = _Keeper(command)
    thread = threading.Thread(target=keeper.run, name="console", daemon=True)
    thread.start()
    try:
        yield
    finally:
        keeper.stop()
        thread.join(2 * PATIENCE)


class _Keeper:
    def __init__(self, command: list[str]) -> None:
        self._command = command
        self._stopping = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None

    def run(self) -> None:
        pause = PAUSE[0]
        while not self._stopping.is_set():
            # It ends when its standard input does: also when this process is killed.
            self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, start_new_session=True)
            code = self._process.wait()
            if self._stopping.wait(pause if code else 0.1):
                return
            log.warning("the console has ended, and is started again", code=code)
            pause = min(pause * 2, PAUSE[1])

    def stop(self) -> None:
        self._stopping.set()
        process = self._process
        if process is None:
            return
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
