"""The old scp between its two ends, a line at a time: what is asked, what goes on, and what is no scp."""

from __future__ import annotations

import hashlib

import pytest
from support.file_talks import EMAIL, allowed, refused
from support.sftp_talks import Talking

from ostiary_gateway.protocols.ssh.file_talks import is_scp, talk_of
from ostiary_gateway.protocols.ssh.questions import Admission, Question
from ostiary_gateway.protocols.ssh.scp import MAX_DEPTH, ScpTalk
from ostiary_gateway.protocols.ssh.scp_lines import MAX_LINE, ScpCommand, scp_command
from ostiary_gateway.protocols.ssh.sftp import SftpTalk

OK = b"\0"
TEXT = b"write to someone@example.org\n"
HELLO = hashlib.sha256(b"hello").hexdigest()


def allow(_: Question) -> Admission:
    return allowed()


def except_secret(question: Question) -> Admission:
    return refused("Secrets stay here.") if "secret" in str(question.facts["path"]) else allowed()


class Upload(Talking):
    """The client is the source."""

    def __init__(self, line: str = "scp -t /srv/", decide: object = allow) -> None:
        command = scp_command(line.encode())
        assert command is not None
        assert command.upload
        super().__init__(ScpTalk(command, lambda: 0.0), decide)  # type: ignore[arg-type]
        assert self.target(OK) == (b"", OK)


class Download(Talking):
    """The target is the source."""

    def __init__(self, line: str = "scp -f /srv/f", decide: object = allow) -> None:
        command = scp_command(line.encode())
        assert command is not None
        assert not command.upload
        super().__init__(ScpTalk(command, lambda: 0.0), decide)  # type: ignore[arg-type]
        assert self.client(OK) == (OK, b"")


# -- the command


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("scp -t /srv", ScpCommand(True, b"/srv")),
        ("scp -v -r -p -d -t -- /srv", ScpCommand(True, b"/srv", True, True, True)),
        ("scp -rpdt /srv", ScpCommand(True, b"/srv", True, True, True)),
        ("/usr/bin/scp -f x", ScpCommand(False, b"x")),
        ("scp -f 'a b'", ScpCommand(False, b"a b")),
        ('scp -f "a b"\\ c', ScpCommand(False, b"a b c")),
        ("scp -f '*'", ScpCommand(False, b"*")),
        ("scp -f /tmp/*.log", ScpCommand(False, b"/tmp/*.log", pattern=True)),
        ("scp -t -- -f", ScpCommand(True, b"-f")),
    ],
)
def test_the_ends_of_scp_are_known(line: str, command: ScpCommand) -> None:
    assert scp_command(line.encode()) == command
    assert is_scp(line.encode())


@pytest.mark.parametrize(
    "line",
    [
        "scp a b", "scp -t", "scp -tf /x", "scp -t /x /y", "scp -f $HOME/x", "scp -f `x`", "scp -f x;id", "scp -f x|sh",
        "scp -f x>y", "scp -f x\nid", "scp -f 'x", "scp -f {a,b}", "scp -f ~/x", "scp -f ~root/x", "scp -S sh -f x",
        "scp -o ProxyCommand=id -f x", "scp -t *", "scp -f */x", "scp -f '*'*", "sudo scp -f x", "x=1 scp -f x",
        "scp -f x &", "scp -f x # y", "/tmp/scp -f x", "scpx -f x", "", "scp -f ''", "scp -f x\0", "s\\cp -f !x",
        "scp -f " + "x" * 5000,
    ],
)  # fmt: skip
def test_everything_else_is_a_command_like_others(line: str) -> None:
    assert not is_scp(line.encode())


def test_the_session_of_a_channel_has_its_talk() -> None:
    def talk(kind: str, operation: str, command: bytes = b"scp -t /x") -> object:
        facts: dict[str, object] = {"operation": operation}
        return talk_of(Question(kind, facts, "", exact=(command,)), lambda: 0.0)  # type: ignore[arg-type]

    assert isinstance(talk("sftp", "session"), SftpTalk)
    assert isinstance(talk("scp", "session"), ScpTalk)
    assert talk("exec", "") is None
    assert talk("sftp", "read") is None


# -- writing


def test_a_file_is_written_once_it_is_decided() -> None:
    talk = Upload()
    assert talk.client(b"C0644 5 f\n") == (b"C0644 5 f\n", b"")
    (question,) = talk.asked
    assert (question.kind, question.text) == ("scp", "scp write /srv/f (5 bytes)")
    assert question.facts == {
        "kind": "scp", "operation": "write", "path": "/srv/f", "size": 5, "readOnly": False,
    }  # fmt: skip
    assert talk.target(OK) == (b"", OK)
    assert talk.client(b"hello") == (b"hello", b"")
    assert talk.client(OK) == (OK, b"")
    assert talk.ends == []
    assert talk.target(OK) == (b"", OK)
    assert talk.ends == [("scp write /srv/f (5 bytes)", "ok", {"bytes": 5, "sha256": HELLO}, 0)]
    assert talk.talk.end_detail() == {"files": 1, "bytes": 5}


def test_a_refused_file_is_told_and_the_next_one_goes_on() -> None:
    talk = Upload(decide=except_secret)
    upstream, told = talk.client(b"C0644 5 secret\n")
    assert (upstream, told) == (b"", b"\1scp: ostiary: Secrets stay here.\n")
    assert talk.client(b"C0644 5 f\n") == (b"C0644 5 f\n", b"")
    assert talk.talk.end_detail() == {"files": 0, "bytes": 0, "refused": 1}


def test_what_a_client_sends_ahead_is_never_taken_for_something_else() -> None:
    """It would be lines for the target, had that refused the file."""
    talk = Upload()
    ahead = b"C0644 16 f\n" + b"C0644 6 secret\nx"
    assert talk.client(ahead) == (b"C0644 16 f\n", b"")
    assert talk.talk.held == 16
    assert talk.target(b"\1scp: f: Permission denied\n") == (b"C0644 6 secret\n", b"\1scp: f: Permission denied\n")
    assert [question.text for question in talk.asked] == [
        "scp write /srv/f (16 bytes)", "scp write /srv/secret (6 bytes)",
    ]  # fmt: skip
    assert talk.ends == [
        ("scp write /srv/f (16 bytes)", "error", {"bytes": 0, "message": "scp: f: Permission denied"}, 0)
    ]


def test_times_go_with_their_file_and_not_with_the_next() -> None:
    talk = Upload(decide=except_secret)
    assert talk.client(b"T1600000000 0 1600000001 0\n") == (b"", OK)
    assert talk.client(b"C0644 5 secret\n")[0] == b""
    assert talk.client(b"C0644 0 f\n")[0] == b"C0644 0 f\n"
    talk.target(OK)
    talk.client(OK)
    talk.target(OK)
    assert talk.client(b"T1 0 1 0\n") == (b"", OK)
    assert talk.client(b"C0644 0 g\n")[0] == b"T1 0 1 0\nC0644 0 g\n"
    assert talk.target(OK) == (b"", b""), "for the times, which the client has heard already"
    assert talk.target(OK) == (b"", OK)


def test_a_folder_is_written_with_the_paths_in_it() -> None:
    talk = Upload("scp -r -t /srv/")
    for line in (b"D0755 0 d\n", b"D0755 0 e\n", b"E\n", b"C0644 0 f\n", OK, b"E\n"):
        assert talk.client(line)[0] == line
        talk.target(OK)
    assert [question.facts["path"] for question in talk.asked] == ["/srv/d", "/srv/d/e", "/srv/d/f"]
    assert [outcome for _, outcome, _, _ in talk.ends] == ["ok", "ok", "ok"]


def test_of_a_path_that_may_be_a_folder_or_a_file_both_are_asked_about() -> None:
    talk = Upload("scp -t /etc", decide=except_secret)
    assert talk.client(b"C0644 0 secret\n")[0] == b""
    assert [question.facts["path"] for question in talk.asked] == ["/etc/secret"]
    assert talk.client(b"C0644 0 f\n")[0] == b"C0644 0 f\n"
    assert [(question.facts["path"], question.quiet) for question in talk.asked[1:]] == [
        ("/etc/f", True), ("/etc", False),
    ]  # fmt: skip
    assert talk.asked[-1].text == "scp write /etc or /etc/f (0 bytes)"


def test_where_a_relative_path_begins_is_not_known() -> None:
    talk = Upload("scp -d -t .")
    talk.client(b"C0644 0 f\n")
    facts = talk.asked[0].facts
    assert (facts["path"], facts["opaque"]) == ("f", True)


# -- reading


def test_a_file_is_read_once_it_is_decided() -> None:
    talk = Download()
    assert talk.target(b"C0644 5 f\n") == (b"", b"C0644 5 f\n")
    assert talk.asked[0].text == "scp read /srv/f (5 bytes)"
    assert talk.asked[0].facts["readOnly"] is True
    assert talk.client(OK) == (OK, b"")
    assert talk.target(b"hello" + OK) == (b"", b"hello" + OK)
    assert talk.client(OK) == (OK, b"")
    assert talk.ends == [("scp read /srv/f (5 bytes)", "ok", {"bytes": 5, "sha256": HELLO}, 5)]


def test_both_ends_are_told_of_a_file_that_is_not_read() -> None:
    talk = Download("scp -f /srv/*", decide=except_secret)
    error = b"\1scp: ostiary: Secrets stay here.\n"
    assert talk.target(b"C0644 5 secret\n") == (error, error)
    assert talk.target(b"C0644 5 f\n") == (b"", b"C0644 5 f\n")


def test_a_client_cannot_acknowledge_what_it_has_not_seen() -> None:
    """The target would take it for a yes to a file that is refused, and its content for lines."""
    talk = Download("scp -f /srv/*", decide=except_secret)
    talk.target(b"C0644 0 a\n")
    assert talk.client(OK * 5) == (OK, b"")
    assert talk.target(OK)[1] == OK
    assert talk.client()[0] == b""
    upstream, _ = talk.target(b"C0644 5 secret\n")
    assert upstream == b"\1scp: ostiary: Secrets stay here.\n"


def test_a_file_that_could_not_be_read_is_in_the_record() -> None:
    talk = Download()
    talk.target(b"C0644 5 f\n")
    talk.client(OK)
    talk.target(bytes(5) + b"\1scp: f: Input/output error\n")
    talk.client(OK)
    assert talk.ends[0][1:3] == (
        "error", {"bytes": 5, "sha256": hashlib.sha256(bytes(5)).hexdigest(), "message": "scp: f: Input/output error"},
    )  # fmt: skip
    assert talk.target(b"\1scp: g: No such file or directory\n") == (b"", b"\1scp: g: No such file or directory\n")


@pytest.mark.parametrize("size", [1, 100, 1 << 20])
def test_what_is_found_in_a_file_is_hidden_and_its_length_kept(size: int) -> None:
    content = TEXT * 4000
    expected = TEXT.replace(b"someone@example.org", b"[redacted]" + b"*" * 9) * 4000
    talk = Download(decide=lambda _: allowed(detectors=EMAIL))
    assert talk.target(b"C0644 %d f\n" % len(content))[1] == b"C0644 %d f\n" % len(content)
    talk.client(OK)
    told = b"".join(talk.target(content[at : at + size])[1] for at in range(0, len(content), size))
    assert told == expected
    assert talk.target(OK)[1] == OK


# -- who breaks the protocol


@pytest.mark.parametrize(
    "line",
    [
        b"C0644 5 ../x\n", b"C0644 5 a/b\n", b"C0644 5 ..\n", b"C0644 5 .\n", b"C0644 5 \n", b"C0644 5\n",
        b"C0644 -1 f\n", b"C0644 9999999999999999999 f\n", b"C644 5 f\n", b"C0999 5 f\n", b"C0644 5 a\0b\n",
        b"D0755 0 d\n", b"E\n", b"X\n", b"\n", b"T1\n", b"T1 0 1 0\nT1 0 1 0\n", b"C" + b"x" * (MAX_LINE + 1),
        b"C0644 5 " + b"x" * 300 + b"\n",
    ],
)  # fmt: skip
def test_lines_that_no_scp_sends_end_it(line: bytes) -> None:
    talk = Upload()
    assert talk.client(line)[0] == b""
    assert talk.talk.over.startswith("The client broke the protocol of scp: ")
    assert talk.asked == []


def test_a_target_does_not_send_what_was_not_asked_for() -> None:
    for line in (b"C0644 5 authorized_keys\n", b"D0755 0 f\n", b"C0644 5 ../f\n"):
        talk = Download()
        assert talk.target(line) == (b"", b"")
        assert talk.talk.over.startswith("The target broke the protocol of scp: ")
    talk = Download("scp -f /srv/*.log")
    assert talk.target(b"C0644 5 x.sh\n") == (b"", b"")
    assert "was not asked for" in talk.talk.over


def test_folders_are_not_endless() -> None:
    talk = Upload("scp -r -d -t /srv")
    for _ in range(MAX_DEPTH):
        talk.client(b"D0755 0 d\n")
        talk.target(OK)
    talk.client(b"D0755 0 d\n")
    assert "too deep" in talk.talk.over


def test_an_answer_is_yes_or_an_error() -> None:
    talk = Download()
    talk.target(b"C0644 5 f\n")
    assert talk.client(b"yes") == (b"", b"")
    assert talk.talk.over == "The client broke the protocol of scp: an answer is neither yes nor an error."


def test_what_has_not_ended_is_lost_with_the_channel() -> None:
    talk = Upload()
    talk.client(b"C0644 5 f\n")
    talk.target(OK)
    talk.client(b"he")
    talk.talk.ended()
    assert talk.ends == [("scp write /srv/f (5 bytes)", "lost", {"bytes": 2}, 0)]
    assert talk.client(b"llo") == (b"", b"")


def test_a_file_that_other_policies_do_not_let_be_copied_ends_there() -> None:
    talk = Upload()
    talk.client(b"C0644 5 f\n")
    talk.target(OK)
    talk.talk.recheck(lambda _question, _admission: "")
    assert talk.client(b"he")[0] == b"he"
    talk.talk.recheck(lambda question, _: f"No more of {question.facts['path']}.")
    assert talk.talk.over == "No more of /srv/f."
    assert talk.client(b"llo")[0] == b""


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_how_the_bytes_are_cut_makes_no_difference(size: int) -> None:
    whole = b"T1 0 1 0\nC0644 5 f\nhello\0D0755 0 d\nC0644 0 g\n\0E\n"

    def play(pieces: list[bytes]) -> tuple[bytes, list[str]]:
        talk = Upload("scp -r -t /srv/")
        sent = b""
        for piece in pieces:
            sent += talk.client(piece)[0]
        while True:  # a target that acknowledges everything
            before = sent
            sent += talk.target(OK)[0]
            if sent == before:
                break
        return sent, [question.text for question in talk.asked]

    assert play([whole]) == play([whole[at : at + size] for at in range(0, len(whole), size)])
