"""SFTP between a client and a target, packet by packet: what is asked, refused, passed on, broken."""

from __future__ import annotations

import hashlib

import pytest
from support.file_talks import EMAIL, allowed, refused
from support.sftp_talks import (
    HOME,
    INIT,
    NO_ATTRIBUTES,
    VERSION,
    Sftp,
    Talking,
    extended,
    handle,
    named,
    opening,
    own,
    packets,
    reading,
    status,
    u32,
    u64,
    writing,
)

from ostiary_gateway.protocols.ssh import sftp, sftp_answers
from ostiary_gateway.protocols.ssh import sftp_wire as wire
from ostiary_gateway.protocols.ssh.questions import Question
from ostiary_gateway.protocols.ssh.sftp import SftpTalk
from ostiary_gateway.protocols.ssh.sftp_wire import request, string
from ostiary_gateway.protocols.ssh.transport_offers import SOFTWARE

WRITE = wire.F_WRITE | wire.F_CREAT | wire.F_TRUNC
MODE = u32(4) + u32(0o100600)


def code_of(packet: bytes) -> int:
    assert packet[4] == wire.STATUS
    return int.from_bytes(packet[9:13], "big")


def text_of(packet: bytes) -> str:
    size = int.from_bytes(packet[13:17], "big")
    return packet[17 : 17 + size].decode()


# -- what is asked

ONE = string(b"/a/b")
EXPAND = b"expand-path@openssh.com"
REQUESTS = [
    (opening(7, b"/a/b"), "read", True, "sftp read /a/b"),
    (opening(7, b"/a/b", 0), "read", True, "sftp read /a/b"),
    (opening(7, b"/a/b", WRITE, MODE), "write", False, "sftp write /a/b mode=0600"),
    (opening(7, b"/a/b", wire.F_READ | wire.F_TRUNC), "readwrite", False, "sftp readwrite /a/b"),
    (opening(7, b"/a/b", wire.F_READ | wire.F_WRITE), "readwrite", False, "sftp readwrite /a/b"),
    (opening(7, b"/a/b", wire.F_WRITE | wire.F_APPEND | wire.F_CREAT), "append", False, "sftp append /a/b"),
    (opening(7, b"/a/b", wire.F_APPEND), "append", False, "sftp append /a/b"),
    (opening(7, b"/a/b", wire.F_READ | wire.F_APPEND), "readwrite", False, "sftp readwrite /a/b"),
    (request(wire.LSTAT, 7, ONE), "stat", True, "sftp stat /a/b"),
    (request(wire.STAT, 7, ONE), "stat", True, "sftp stat /a/b"),
    (request(wire.SETSTAT, 7, ONE, MODE), "setstat", False, "sftp setstat /a/b mode=0600"),
    (request(wire.OPENDIR, 7, ONE), "list", True, "sftp list /a/b"),
    (request(wire.REMOVE, 7, ONE), "remove", False, "sftp remove /a/b"),
    (request(wire.MKDIR, 7, ONE, NO_ATTRIBUTES), "mkdir", False, "sftp mkdir /a/b"),
    (request(wire.RMDIR, 7, ONE), "rmdir", False, "sftp rmdir /a/b"),
    (request(wire.REALPATH, 7, ONE), "realpath", True, "sftp realpath /a/b"),
    (request(wire.RENAME, 7, ONE, string(b"/c")), "rename", False, "sftp rename /a/b to /c"),
    (request(wire.READLINK, 7, ONE), "readlink", True, "sftp readlink /a/b"),
    (request(wire.SYMLINK, 7, string(b"../t"), ONE), "symlink", False, "sftp symlink /a/b to /t"),
    (extended(7, b"posix-rename@openssh.com", ONE, string(b"/c")), "rename", False, "sftp rename /a/b to /c"),
    (extended(7, b"hardlink@openssh.com", ONE, string(b"/c")), "link", False, "sftp link /a/b to /c"),
    (extended(7, b"statvfs@openssh.com", ONE), "statvfs", True, "sftp statvfs /a/b"),
    (extended(7, b"lsetstat@openssh.com", ONE, MODE), "setstat", False, "sftp setstat /a/b mode=0600"),
    (extended(7, EXPAND, string(b"~x/y")), EXPAND.decode(), True, f"sftp {EXPAND.decode()} ~x/y"),
    (extended(7, b"home-directory", string(b"root")), "home-directory", True, "sftp home-directory ~root"),
]


@pytest.mark.parametrize(("sent", "operation", "read_only", "line"), REQUESTS, ids=lambda case: str(case)[:40])
def test_an_operation_is_asked_about_and_goes_on_as_it_came(
    sent: bytes, operation: str, read_only: bool, line: str
) -> None:
    talk = Sftp()
    assert talk.client(sent) == (sent, b"")
    (question,) = talk.asked
    assert (question.kind, question.text) == ("sftp", line)
    assert (question.facts["operation"], question.facts["readOnly"]) == (operation, read_only)


@pytest.mark.parametrize("sent", [each[0] for each in REQUESTS], ids=lambda sent: str(sent)[:40])
def test_a_refused_operation_is_answered_here_with_its_reason_and_goes_nowhere(sent: bytes) -> None:
    talk = Sftp(lambda _: refused("Not that one.", "Ask for another.", '{"rule": 1}'))
    upstream, told = talk.client(sent, request(wire.STAT, 8, ONE))
    assert upstream == b""
    first, second = packets(told)
    assert (own(first), code_of(first)) == (7, wire.PERMISSION_DENIED)
    assert text_of(first) == "ostiary: Not that one. Ask for another."
    assert own(second) == 8
    whole = b'ostiary: Not that one.\nostiary: Ask for another.\nostiary: {"rule": 1}\n'
    brief = b"ostiary: Not that one. Ask for another.\n"
    assert talk.stderr == (brief if talk.asked[0].quiet else whole) + brief


@pytest.mark.parametrize(
    ("path", "goes"),
    [
        (b"x", HOME + b"/x"),
        (b".", HOME),
        (b"../../etc/shadow", b"/etc/shadow"),
        (b"/srv/../etc/./shadow", b"/etc/shadow"),
        (b"//srv//x/", b"/srv/x"),
        (b"///../..", b"/"),
        ("/Grüße".encode(), "/Grüße".encode()),
    ],
)
def test_the_path_that_is_decided_is_the_one_that_goes_on(path: bytes, goes: bytes) -> None:
    talk = Sftp()
    sent, _ = talk.client(opening(1, path))
    assert sent == opening(1, goes)
    assert talk.asked[0].facts["path"] == goes.decode()


def test_a_path_that_is_no_text_is_opaque() -> None:
    talk = Sftp()
    assert talk.client(opening(1, b"/a\xff")) == (opening(1, b"/a\xff"), b"")
    facts = talk.asked[0].facts
    assert (facts["path"], facts["opaque"], facts["opaqueReason"]) == ("/a\\xff", True, "the path is no UTF-8")


@pytest.mark.parametrize(
    ("sent", "code", "why"),
    [
        (opening(7, b"/a\0b"), wire.PERMISSION_DENIED, "a path may hold no NUL byte"),
        (opening(7, b"/" + b"a" * 32768), wire.PERMISSION_DENIED, "a path may have at most 4096 bytes"),
        (opening(7, b""), wire.NO_SUCH_FILE, "an empty path names nothing"),
        (opening(7, b"/a", 64), wire.BAD_MESSAGE, "there is no way to open a file with the flags 0x40"),
        (opening(7, b"/a") + b"", wire.OK, ""),
        (request(wire.OPEN, 7, string(b"/a"), u32(1), NO_ATTRIBUTES, b"x"), wire.BAD_MESSAGE, "1 bytes follow"),
        (request(wire.OPEN, 7, string(b"/a"), u32(1), u32(2), u32(0)), wire.BAD_MESSAGE, "reaches over the packet"),
        (request(wire.OPEN, 7, u32(999), b"/a"), wire.BAD_MESSAGE, "reaches over the packet's end"),
        (request(99, 7), wire.OP_UNSUPPORTED, "no request of type 99"),
        (request(wire.DATA, 7, string(b"")), wire.OP_UNSUPPORTED, "no request of type 103"),
        (extended(7, b"secret@example.org", string(b"/a")), wire.OP_UNSUPPORTED, "extension secret@example.org"),
        (reading(7, b"forged", 0, 1), wire.FAILURE, "no such handle"),
        (writing(7, b"forged", 0, b"data"), wire.FAILURE, "no such handle"),
        (request(wire.CLOSE, 7, string(b"forged")), wire.FAILURE, "no such handle"),
        (request(wire.READDIR, 7, string(b"forged")), wire.FAILURE, "no such handle"),
        (request(wire.FSETSTAT, 7, string(b"forged"), MODE), wire.FAILURE, "no such handle"),
    ],
)  # fmt: skip
def test_what_is_not_fit_is_refused_without_asking(sent: bytes, code: int, why: str) -> None:
    talk = Sftp()
    upstream, told = talk.client(sent)
    if code == wire.OK:
        assert upstream == sent
        return
    assert (upstream, talk.asked, own(told), code_of(told)) == (b"", [], 7, code)
    assert why in text_of(told)
    assert talk.client(request(wire.STAT, 8, ONE))[0] == request(wire.STAT, 8, ONE), "and the session goes on"


def test_where_relative_paths_begin_is_not_guessed() -> None:
    talk = Sftp(home=b"")
    upstream, told = talk.client(opening(1, b"x"))
    assert (upstream, code_of(told), talk.asked) == (b"", wire.PERMISSION_DENIED, [])
    assert "send an absolute one" in text_of(told)


def test_a_client_of_a_later_version_is_spoken_to_in_version_3() -> None:
    talk = Talking(SftpTalk(lambda: 0.0), lambda _: allowed())
    assert talk.client(wire.packet(wire.INIT, u32(6))) == (INIT, b"")
    talk.target(VERSION)
    assert talk.talk.over == ""


def test_what_is_sent_before_the_target_is_ready_waits() -> None:
    talk = Talking(SftpTalk(lambda: 0.0), lambda _: allowed())
    assert talk.client(INIT, opening(1, b"x")) == (INIT, b"")
    assert talk.talk.held == len(opening(1, b"x"))
    asked, _ = talk.target(VERSION)
    assert talk.target(named(own(asked), HOME))[0] == opening(1, HOME + b"/x")
    assert talk.talk.held == 0


# -- waiting


def test_what_follows_a_request_that_waits_waits_too_and_nothing_of_it_goes_on() -> None:
    talk = Sftp(None)
    talk.client(opening(1, b"/f"), request(wire.REMOVE, 2, ONE))
    assert [question.text for question in talk.asked] == ["sftp read /f"]
    assert talk.client(request(wire.STAT, 3, ONE)) == (b"", b"")
    held = len(request(wire.REMOVE, 2, ONE)) + len(request(wire.STAT, 3, ONE))
    assert talk.talk.held == held
    talk.talk.client_eof()
    assert not talk.talk.client_done
    talk.answer(talk.asked[0], allowed())
    assert talk.settle()[0] == opening(1, b"/f")
    talk.answer(talk.asked[1], refused())
    talk.settle()
    talk.answer(talk.asked[2], allowed())
    assert talk.settle()[0] == request(wire.STAT, 3, ONE)
    assert talk.talk.client_done
    assert talk.talk.held == 0


def test_answers_to_earlier_requests_pass_while_one_waits() -> None:
    talk = Sftp()
    talk.opened()
    talk.client(reading(2, b"h", 0, 3))
    talk.decide = None
    talk.client(request(wire.REMOVE, 3, ONE))
    assert talk.target(wire.data(2, b"abc")) == (b"", wire.data(2, b"abc"))


def test_a_talk_that_has_ended_lets_nothing_through_that_is_decided_later() -> None:
    talk = Sftp(None)
    talk.client(opening(1, b"/f"))
    talk.talk.ended()
    late = allowed()
    ends: list[str] = []
    late.ends = lambda outcome, _detail, _size: ends.append(outcome)
    talk.talk.answer(talk.asked[0], late)
    assert talk.settle() == (b"", b"")
    assert ends == ["skipped"]


# -- links


def found(talk: Sftp, sent: bytes) -> tuple[bytes, list[tuple[str, str]]]:
    """A policy wants to know where the path of a request leads: what the target is asked first."""
    talk.decide = None
    talk.client(sent)
    given: list[tuple[str, str]] = []
    find = talk.asked[-1].find
    assert find is not None
    find(lambda path, target: given.append((path, target)))
    return talk.settle()[0], given


def test_a_link_is_resolved_by_the_target_and_what_was_decided_is_opened() -> None:
    talk = Sftp()
    asked, given = found(talk, opening(1, b"/srv/innocent"))
    assert asked == request(wire.REALPATH, own(asked), string(b"/srv/innocent"))
    assert talk.target(named(own(asked), b"/etc/shadow")) == (b"", b"")
    assert given == [("/etc/shadow", "")]
    talk.answer(talk.asked[-1], allowed())
    assert talk.settle()[0] == opening(1, b"/etc/shadow")


def test_of_what_does_not_exist_the_folder_is_resolved() -> None:
    talk = Sftp()
    asked, given = found(talk, opening(1, b"/srv/link/new", WRITE))
    asked, _ = talk.target(status(own(asked), wire.NO_SUCH_FILE))
    assert asked == request(wire.LSTAT, own(asked), string(b"/srv/link/new"))
    asked, _ = talk.target(status(own(asked), wire.NO_SUCH_FILE))
    assert asked == request(wire.REALPATH, own(asked), string(b"/srv/link"))
    talk.target(named(own(asked), b"/etc"))
    assert given == [("/etc/new", "")]
    talk.answer(talk.asked[-1], allowed())
    assert talk.settle()[0] == opening(1, b"/etc/new", WRITE)


def test_where_a_link_without_an_end_leads_is_not_known() -> None:
    talk = Sftp()
    asked, given = found(talk, opening(1, b"/srv/dangling", WRITE))
    asked, _ = talk.target(status(own(asked), wire.NO_SUCH_FILE))
    talk.target(request(wire.ATTRS, own(asked), NO_ATTRIBUTES))
    assert given == [("", "")]


def test_a_rename_has_both_its_folders_resolved_and_not_what_it_moves() -> None:
    talk = Sftp()
    asked, given = found(talk, request(wire.RENAME, 1, string(b"/a/x"), string(b"/b/y")))
    assert asked == request(wire.REALPATH, own(asked), string(b"/a"))
    asked, _ = talk.target(named(own(asked), b"/real"))
    talk.target(named(own(asked), b"/other"))
    assert given == [("/real/x", "/other/y")]
    talk.answer(talk.asked[-1], allowed())
    assert talk.settle()[0] == request(wire.RENAME, 1, string(b"/real/x"), string(b"/other/y"))


def test_both_ends_take_the_gateway_for_openssh_of_which_the_order_of_a_symlinks_paths_is() -> None:
    assert SOFTWARE.startswith("OpenSSH")


def test_where_a_symlink_leads_can_be_known_before_it_is_made() -> None:
    talk = Sftp()
    asked, given = found(talk, request(wire.SYMLINK, 1, string(b"../way/key"), string(b"/drop/link")))
    asked, _ = talk.target(named(own(asked), b"/real"))
    assert asked == request(wire.REALPATH, own(asked), string(b"/way/key"))
    talk.target(named(own(asked), b"/private/key"))
    assert given == [("/real/link", "/private/key")]


def test_an_open_file_is_known_by_the_path_that_it_was_opened_by() -> None:
    talk = Sftp()
    asked, _ = found(talk, opening(1, b"/srv/link", WRITE))
    talk.target(named(own(asked), b"/real"))
    talk.answer(talk.asked[-1], allowed())
    talk.settle()
    talk.target(handle(1, b"h"))
    asked, given = found(talk, request(wire.FSETSTAT, 2, string(b"h"), MODE))
    assert asked == request(wire.REALPATH, own(asked), string(b"/real"))
    talk.target(named(own(asked), b"/real"))
    assert given == [("/real", "")]


# -- content


def test_a_file_that_is_read_is_counted_and_digested() -> None:
    talk = Sftp()
    talk.opened(b"/f")
    content = bytes(range(256)) * 100
    for number, at in enumerate(range(0, len(content), 10000)):
        sent = reading(10 + number, b"h", at, 10000)
        assert talk.client(sent) == (sent, b"")
    for number, at in enumerate(range(0, len(content), 10000)):
        answer = wire.data(10 + number, content[at : at + 10000])
        assert talk.target(answer) == (b"", answer)
    talk.client(request(wire.CLOSE, 50, string(b"h")))
    assert talk.ends == []
    talk.target(status(50))
    digest = hashlib.sha256(content).hexdigest()
    assert talk.ends == [("sftp read /f", "ok", {"readBytes": 25600, "readSha256": digest}, 25600)]


def test_a_file_that_is_written_is_counted_and_digested() -> None:
    talk = Sftp()
    talk.opened(b"/f", WRITE)
    for number in range(3):
        sent = writing(10 + number, b"h", number * 4, b"abcd")
        assert talk.client(sent) == (sent, b"")
        assert talk.target(status(10 + number)) == (b"", status(10 + number))
    talk.client(request(wire.CLOSE, 50, string(b"h")))
    talk.target(status(50))
    digest = hashlib.sha256(b"abcd" * 3).hexdigest()
    assert talk.ends == [("sftp write /f", "ok", {"writtenBytes": 12, "writtenSha256": digest}, 0)]


def test_what_is_transferred_in_another_order_is_counted_alone() -> None:
    talk = Sftp()
    talk.opened(b"/f", WRITE)
    talk.client(writing(10, b"h", 4, b"efgh"), writing(11, b"h", 0, b"abcd"))
    talk.target(status(10), status(11, wire.FAILURE))
    talk.client(request(wire.CLOSE, 50, string(b"h")))
    talk.target(status(50))
    assert talk.ends[0][2] == {"writtenBytes": 8, "writtenInOrder": False, "failedWrites": 1}


def test_data_pass_without_being_copied() -> None:
    talk = Sftp()
    talk.opened(b"/f", WRITE)
    piece = writing(10, b"h", 0, b"x" * 100_000)
    first, second = piece[:50_000], piece[50_000:]
    talk.talk.from_client(first)
    talk.talk.from_client(second)
    assert talk.talk.to_target[0] is first
    assert talk.talk.to_target[1] is second


@pytest.mark.parametrize(
    ("flags", "sent"),
    [(wire.F_READ, writing(9, b"h", 0, b"x" * 5000)), (WRITE, reading(9, b"h", 0, 10))],
)
def test_a_handle_is_only_for_what_it_was_opened_for(flags: int, sent: bytes) -> None:
    talk = Sftp()
    talk.opened(b"/f", flags)
    upstream, told = talk.client(sent, request(wire.CLOSE, 10, string(b"h")))
    assert upstream == request(wire.CLOSE, 10, string(b"h"))
    assert (own(told), code_of(told)) == (9, wire.PERMISSION_DENIED)
    assert "it was not opened for" in text_of(told)


def test_a_closed_handle_is_none() -> None:
    talk = Sftp()
    talk.opened(b"/f")
    talk.client(request(wire.CLOSE, 10, string(b"h")))
    assert code_of(talk.client(reading(11, b"h", 0, 1))[1]) == wire.FAILURE


def test_attributes_of_an_open_file_are_asked_about_with_its_path() -> None:
    talk = Sftp()
    talk.opened(b"/f")
    sent = request(wire.FSETSTAT, 9, string(b"h"), MODE)
    assert talk.client(sent)[0] == sent
    assert talk.asked[-1].text == "sftp setstat /f mode=0600"
    assert talk.client(request(wire.FSTAT, 10, string(b"h")))[0] == request(wire.FSTAT, 10, string(b"h"))
    assert len(talk.asked) == 2


@pytest.mark.parametrize(
    ("flags", "attributes", "asked"),
    [
        (WRITE, u32(1) + u64(5), False), (WRITE, u32(9) + u64(5) + u32(1) + u32(2), False), (WRITE, MODE, True),
        (WRITE | wire.F_APPEND, u32(1) + u64(5), True), (wire.F_READ, u32(1) + u64(5), True),
        (WRITE, u32(2) + u32(0) + u32(0), True),
    ],
)  # fmt: skip
def test_who_may_write_a_file_may_cut_it(flags: int, attributes: bytes, asked: bool) -> None:
    talk = Sftp()
    talk.opened(b"/f", flags)
    sent = request(wire.FSETSTAT, 9, string(b"h"), attributes)
    assert talk.client(sent)[0] == sent
    assert (len(talk.asked) == 2) is asked


def test_copying_at_the_target_is_asked_about_with_both_paths() -> None:
    talk = Sftp()
    talk.opened(b"/from", name=b"a", ident=1)
    talk.opened(b"/to", WRITE, name=b"b", ident=2)
    sent = extended(9, b"copy-data", string(b"a"), u64(0), u64(0), string(b"b"), u64(0))
    assert talk.client(sent)[0] == sent
    assert talk.asked[-1].text == "sftp copy-data /from to /to"
    other = extended(10, b"copy-data", string(b"b"), u64(0), u64(0), string(b"a"), u64(0))
    assert code_of(talk.client(other)[1]) == wire.PERMISSION_DENIED


def test_a_folder_is_listed_as_one_request() -> None:
    talk = Sftp()
    talk.client(request(wire.OPENDIR, 1, string(b"/d")))
    talk.target(handle(1, b"h"))
    for ident in (2, 3):
        talk.client(request(wire.READDIR, ident, string(b"h")))
        assert talk.target(named(ident, b"a", b"b"))[1] == named(ident, b"a", b"b")
    talk.client(request(wire.READDIR, 4, string(b"h")))
    talk.target(status(4, wire.EOF))
    talk.client(request(wire.CLOSE, 5, string(b"h")))
    talk.target(status(5))
    assert talk.ends == [("sftp list /d", "ok", {"entries": 4}, 0)]
    assert code_of(talk.client(request(wire.READ, 6, string(b"h"), u64(0), u32(1)))[1]) == wire.FAILURE


def test_how_operations_ended_is_in_their_records() -> None:
    talk = Sftp()
    talk.client(request(wire.REMOVE, 1, ONE), request(wire.MKDIR, 2, ONE, NO_ATTRIBUTES), opening(3, b"/f"))
    talk.target(status(2, wire.FAILURE), status(1), status(3, wire.NO_SUCH_FILE))
    assert talk.ends == [
        ("sftp mkdir /a/b", "error", {"status": "failure"}, 0),
        ("sftp remove /a/b", "ok", {}, 0),
        ("sftp read /f", "error", {"status": "no such file"}, 0),
    ]


def test_what_has_not_ended_is_lost_with_the_channel() -> None:
    talk = Sftp()
    talk.opened(b"/f")
    talk.opened(b"/g", name=b"g", ident=2)
    talk.client(request(wire.CLOSE, 3, string(b"g")), request(wire.REMOVE, 4, ONE))
    talk.talk.ended()
    assert sorted((text, outcome) for text, outcome, _, _ in talk.ends) == [
        ("sftp read /f", "lost"), ("sftp read /g", "lost"), ("sftp remove /a/b", "lost")
    ]  # fmt: skip
    assert talk.talk.end_detail() == {
        "sftpVersion": 3, "operations": {"read": 2, "remove": 1}, "readBytes": 0, "writtenBytes": 0,
    }  # fmt: skip


def test_what_a_target_lets_through_is_told_as_this_gateway_does() -> None:
    talk = Sftp()
    talk.client(extended(1, b"limits@openssh.com"))
    _, told = talk.target(request(wire.EXTENDED_REPLY, 1, u64(1 << 30), u64(0), u64(4096), u64(0)))
    ours = u64(wire.MAX_DATA), u64(wire.MAX_DATA - 1024), u64(4096), u64(sftp_answers.MAX_HANDLES)
    assert told == request(wire.EXTENDED_REPLY, 1, *ours)


def test_an_open_file_is_of_no_use_once_other_policies_do_not_let_it_be_open() -> None:
    talk = Sftp()
    talk.opened(b"/f", name=b"f", ident=1)
    talk.opened(b"/g", WRITE, name=b"g", ident=2)
    talk.client(reading(3, b"f", 0, 4))
    talk.talk.recheck(lambda question, _: "No more of /f." if question.facts["path"] == "/f" else "")
    assert talk.target(wire.data(3, b"abcd"))[1] == wire.data(3, b"abcd"), "what has been asked for before"
    upstream, told = talk.client(reading(4, b"f", 4, 4), writing(5, b"g", 0, b"x"))
    assert upstream == writing(5, b"g", 0, b"x")
    assert (code_of(told), text_of(told)) == (wire.PERMISSION_DENIED, "ostiary: No more of /f.")
    assert talk.client(request(wire.CLOSE, 6, string(b"f")))[0] == request(wire.CLOSE, 6, string(b"f"))
    talk.target(status(6))
    assert talk.ends[0][2]["readBytes"] == 4


# -- masks


class Disk:
    """What a target would read from a file."""

    def __init__(self, talk: Sftp, content: bytes) -> None:
        self.talk, self.content = talk, content

    def read(self, ident: int, at: int, size: int) -> bytes:
        upstream, told = self.talk.client(reading(ident, b"h", at, size))
        while not told:
            (sent,) = packets(upstream)
            where, count = int.from_bytes(sent[-12:-4], "big"), int.from_bytes(sent[-4:], "big")
            data = self.content[where : where + count]
            upstream, told = self.talk.target(wire.data(own(sent), data) if data else status(own(sent), wire.EOF))
        assert own(told) == ident
        return told[13:] if told[4] == wire.DATA else b""


@pytest.mark.parametrize("size", [1, 7, 1000, 32768, 100_000])
def test_masked_content_is_the_same_however_it_is_read(size: int) -> None:
    line = b"write to someone@example.org, or not\n"
    content = b"." * 16370 + b"\n" + line * 600
    hidden = line.replace(b"someone@example.org", b"[redacted]" + b"*" * 9)
    expected = b"." * 16370 + b"\n" + hidden * 600
    talk = Sftp(lambda _: allowed(detectors=EMAIL))
    talk.opened()
    disk = Disk(talk, content)
    places = range(0, len(content), size) if size > 100 else range(16360, 16500, size)
    for number, at in enumerate(places):
        assert disk.read(100 + number, at, size) == expected[at : at + size]
    assert disk.read(99, len(content), 10) == b""
    if size > 100:
        talk.client(request(wire.CLOSE, 50, string(b"h")))
        talk.target(status(50))
        assert talk.ends[0][2] == {"readBytes": len(content), "readSha256": hashlib.sha256(expected).hexdigest()}


def test_what_is_masked_is_not_copied_at_the_target() -> None:
    talk = Sftp(lambda question: allowed(detectors=EMAIL if question.facts["operation"] == "read" else None))
    talk.opened(b"/from", name=b"a", ident=1)
    talk.opened(b"/to", WRITE, name=b"b", ident=2)
    sent = extended(9, b"copy-data", string(b"a"), u64(0), u64(0), string(b"b"), u64(0))
    assert code_of(talk.client(sent)[1]) == wire.PERMISSION_DENIED


# -- who breaks the protocol


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (INIT, "INIT twice"),
        (u32(0xFFFFFFFF) + bytes((wire.OPEN,)) + bytes(4), "a request (OPEN) of 4294967295 bytes"),
        (u32(wire.MAX_PACKET + 1) + bytes((wire.WRITE,)) + bytes(20), "lengths cannot be"),
        (u32(3) + bytes((wire.STAT,)) + bytes(20), "too short"),
        (request(wire.WRITE, 1, u32(5000), b"x"), "lengths cannot be"),
        (request(wire.WRITE, 1, string(b"h"), u64(0), u32(9), b"x"), "lengths cannot be"),
    ],
)
def test_a_client_that_breaks_the_protocol_is_cut(sent: bytes, why: str) -> None:
    talk = Sftp()
    assert talk.client(sent)[0] == b""
    assert why in talk.talk.over
    assert talk.client(opening(1, b"/f")) == (b"", b"")


def test_nothing_comes_before_init() -> None:
    talk = Talking(SftpTalk(lambda: 0.0), lambda _: allowed())
    assert talk.client(opening(1, b"/f")) == (b"", b"")
    assert talk.talk.over == "The client began with OPEN instead of INIT."


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (status(77), "what nobody asked"),
        (VERSION, "answered a OPEN with VERSION"),
        (wire.data(2, b"1234567890-"), "a length that cannot be"),
        (request(wire.DATA, 2, u32(99), b"x"), "a length that cannot be"),
        (handle(2, b"x"), "answered a READ with HANDLE"),
        (handle(3, b"h"), "it is in use"),
        (handle(3, b"x" * 300), "the handle is too long"),
        (request(wire.HANDLE, 3, u32(99), b"x"), "reaches over the packet's end"),
        (u32(1 << 20) + bytes((wire.DATA,)) + u32(2), "1048576 bytes"),
        (u32(2) + bytes((wire.STATUS,)) + u32(2), "2 bytes"),
        (request(wire.OPEN, 2), "answered a READ with OPEN"),
    ],
)
def test_a_target_that_breaks_the_protocol_is_cut(answer: bytes, why: str) -> None:
    talk = Sftp()
    talk.opened()
    talk.client(reading(2, b"h", 0, 10), opening(3, b"/g"))
    assert talk.target(answer) == (b"", b"")
    assert why in talk.talk.over


def test_an_id_is_not_used_twice_at_once() -> None:
    talk = Sftp()
    talk.opened()
    talk.client(reading(5, b"h", 0, 10))
    for again in (reading(5, b"h", 10, 10), opening(5, b"/g")):
        upstream, told = talk.client(again)
        assert (upstream, code_of(told)) == (b"", wire.BAD_MESSAGE)
    assert talk.target(wire.data(5, b"abc"))[1] == wire.data(5, b"abc")


def test_there_are_not_too_many_open_files() -> None:
    talk = Sftp()
    for number in range(sftp_answers.MAX_HANDLES):
        talk.opened(b"/f", name=b"h%d" % number, ident=number)
    upstream, told = talk.client(opening(5, b"/f"))
    assert (upstream, code_of(told)) == (b"", wire.FAILURE)
    assert "1000 files" in text_of(told)


def test_a_client_waits_that_asks_for_too_much_at_once() -> None:
    talk = Sftp()
    talk.opened()
    sent = [reading(10 + number, b"h", 0, 1) for number in range(sftp.MAX_PENDING + 5)]
    upstream, _ = talk.client(*sent)
    assert upstream == b"".join(sent[: sftp.MAX_PENDING])
    assert talk.talk.held == 5 * len(sent[0])
    assert talk.target(wire.data(10, b"x"))[0] == sent[sftp.MAX_PENDING]


def test_refusals_on_standard_error_are_bounded() -> None:
    talk = Sftp(lambda _: refused("x" * 1000))
    for ident in range(100):
        talk.client(request(wire.REMOVE, ident, ONE))
    assert len(talk.stderr) <= sftp.MAX_TOLD


def test_a_grant_is_for_what_was_sent() -> None:
    asked: list[Question] = []

    def decide(question: Question) -> object:
        asked.append(question)
        return allowed()

    talk = Sftp(decide)  # type: ignore[arg-type]
    talk.client(opening(1, b"/f", WRITE), opening(2, b"/f", WRITE), opening(3, b"/f", WRITE, MODE))
    assert asked[0].exact == asked[1].exact != asked[2].exact
