"""The second parser of expressions in a process of its own, for as long as a bundle is loaded."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys

from ostiary_policy import second_parser
from ostiary_policy.second_parser import Place


class SecondProcess:
    """Ask it what `second_parser.complaint` asks. It starts by itself; `start` earlier lets it start meanwhile."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start the process, and do not wait for it. Where none can be started, this process does the work."""
        if self._process is None:
            with contextlib.suppress(OSError):
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", second_parser.__name__],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="ascii",
                )  # fmt: skip

    def __call__(self, text: str) -> Place | None:
        """Where the text cannot be read; None if it can."""
        self.start()
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            return second_parser.read(text)
        try:
            process.stdin.write(json.dumps(text) + "\n")
            process.stdin.flush()
            answer = json.loads(process.stdout.readline())
        except (OSError, ValueError):  # it was killed: what it would have said is found out here
            self.stop()
            return second_parser.read(text)
        return None if answer is None else (int(answer[0]), int(answer[1]))

    def stop(self) -> None:
        """The process ends; a later question starts another."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            with contextlib.suppress(OSError):
                process.communicate()
