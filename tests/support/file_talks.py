"""A talk about files between a real client and a real server, by pipes, without SSH: what is refused is told it.

As a program it stands in the place of ssh: `sftp -D`, `scp -O -S`. It is started with OSTIARY_TALK, a JSON object:
`refuse` (beginnings of the questions' lines that are refused), `log` (a file that gets each question as a line).
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ostiary_gateway.masking.detectors import Detectors
from ostiary_gateway.protocols.ssh.questions import Admission, Question
from ostiary_gateway.protocols.ssh.scp import ScpTalk
from ostiary_gateway.protocols.ssh.scp_lines import scp_command
from ostiary_gateway.protocols.ssh.sftp import SftpTalk
from ostiary_policy.masking import DetectorMask, Strategy

SFTP_SERVER = "/usr/lib/openssh/sftp-server"
EMAIL = Detectors([DetectorMask("Email", Strategy("Redact"))])

Decide = Callable[[Question], Admission]


class Watched(Admission):
    """An Admission that tells how it ended."""

    ends: Callable[[str, dict[str, object], int], None] | None = None

    def end(self, outcome, detail, size):  # type: ignore[no-untyped-def]
        if self.ends is not None:
            ends, self.ends = self.ends, None
            ends(outcome, dict(detail), size)


def allowed(**more: object) -> Watched:
    return Watched(True, **more)  # type: ignore[arg-type]


def refused(*lines: str) -> Watched:
    return Watched(False, lines=lines or ("This is not allowed.",))


def pump(talk: SftpTalk | ScpTalk, command: list[str], decide: Decide, shell: bool = False) -> int:
    """Joins our standard input and output with those of a command, through the talk."""
    with subprocess.Popen(
        command if not shell else command[0], stdin=subprocess.PIPE, stdout=subprocess.PIPE, shell=shell
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        to_server, from_server = server.stdin.fileno(), server.stdout.fileno()
        with selectors.DefaultSelector() as ready:
            ready.register(0, selectors.EVENT_READ)
            ready.register(from_server, selectors.EVENT_READ)
            while True:
                for key, _ in ready.select():
                    data = os.read(key.fd, 1 << 16)
                    if key.fd == from_server:
                        if not data:
                            talk.ended()
                            return server.wait()
                        talk.from_target(data)
                    elif data:
                        talk.from_client(data)
                    else:
                        ready.unregister(0)
                        talk.client_eof()
                    settle(talk, decide)
                    flush(talk, to_server)
                    if talk.client_done and not server.stdin.closed:
                        server.stdin.close()
                    if talk.over:
                        print(f"over: {talk.over}", file=sys.stderr)
                        server.kill()
                        return 126


def settle(talk: SftpTalk | ScpTalk, decide: Decide) -> None:
    while talk.questions:
        question = talk.questions.pop(0)
        talk.answer(question, decide(question))


def flush(talk: SftpTalk | ScpTalk, to_server: int) -> None:
    for queue, file in ((talk.to_client, 1), (talk.to_target, to_server), (talk.to_stderr, 2)):
        for piece in queue:
            view = memoryview(piece)
            while view:
                view = view[os.write(file, view) :]
        queue.clear()


def main(arguments: list[str]) -> int:
    settings = json.loads(os.environ["OSTIARY_TALK"])

    def decide(question: Question) -> Admission:
        line = question.text
        with Path(settings["log"]).open("a", encoding="utf-8") as log:
            print(line, file=log)
        if any(line.startswith(each) for each in settings.get("refuse", ())):
            return refused()
        found = allowed(detectors=EMAIL if settings.get("mask") else None)

        def ends(outcome: str, detail: dict[str, object], size: int) -> None:
            with Path(settings["log"]).open("a", encoding="utf-8") as log:
                print(f"{line}: {outcome} {json.dumps(detail)} {size}", file=log)

        found.ends = None if question.quiet else ends
        return found

    found = scp_command(arguments[-1].encode()) if arguments and arguments[-1].startswith("scp ") else None
    if found is not None:
        return pump(ScpTalk(found, time.monotonic), [arguments[-1]], decide, shell=True)
    return pump(SftpTalk(time.monotonic), [SFTP_SERVER], decide)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
