"""From simple commands to facts: wrappers seen through, nested texts read, every doubt noted."""

from __future__ import annotations

import re

from .command_builtins import BUILTINS, names_problem
from .command_checks import check_of
from .command_model import CommandFacts
from .command_options import Unknown
from .command_programs import LONG_OPTIONS, LONG_WORDS, SHELLS
from .command_reader import Reader, Simple
from .command_reader_words import MAX_DEPTH, Book, Unreadable, Word
from .command_second import WITHOUT_NAME, agrees
from .command_table import WRAPPERS
from .command_wrappers import UNKNOWN, Handler, Seen

_SURE = re.compile(
    r"(?:[A-Za-z0-9_./:@%+,^ \t|;>-]|=(?!=)|&&|>&[12]|(?<=[ \t])(?:\\;|\{\})(?=[ \t;]|\Z)|"
    r"(?<=[ \t=])(?:'[ -&(-~]*'|\"[ !#%-\[\]^_a-~]*\")(?![^ \t|;&>]))*\Z"
)
"""Lines of plain words, operators and simple quotes: a property test says that a second opinion never differs here."""
_USUAL = re.compile(r"[A-Za-z0-9_./][A-Za-z0-9_./-]*\Z")
_NOT_USUAL = WITHOUT_NAME | {"coproc", "time", "-"}
_BODY = re.compile(r"[^\n]")
_NUMBER = re.compile(r"-[0-9]+\Z")
DECLARING = frozenset(("declare", "typeset", "local", "export", "readonly"))
LISTING = DECLARING | {"mapfile", "readarray"}
_HANDLERS: dict[str, Handler | None] = {**WRAPPERS, **BUILTINS}
MOST_HANDLERS = 4096
LONGEST_TOGETHER = 96 * 1024
"""Characters of a line and of all texts in it that shells are given."""


def _handler(program: str) -> Handler | None:
    try:
        return _HANDLERS[program]
    except KeyError:
        found = check_of(program)
        if len(_HANDLERS) < MOST_HANDLERS and len(program) < 64:
            _HANDLERS[program] = found
        return found


def _usual(found: list[Simple]) -> bool:
    """True if the grammar reads the names of these programs as names."""
    for simple in found:
        if not simple.words or simple.assignments:
            return False
        name = simple.words[0].text
        if name in _NOT_USUAL or not _USUAL.match(name):
            return False
    return True


class Surroundings:
    """What a command stands in: who runs it through what, and what is set and redirected around it."""

    __slots__ = ("assignments", "exact", "here", "inputs", "outputs", "stdin", "substitutions", "user", "via")

    def __init__(self) -> None:
        self.via: tuple[str, ...] = ()
        self.user = ""
        self.assignments: tuple[str, ...] = ()
        self.outputs: tuple[str, ...] = ()
        self.inputs: tuple[str, ...] = ()
        self.substitutions: tuple[str, ...] = ()
        self.here: Simple | None = None
        self.exact = True
        self.stdin = False


class Sight:
    """Makes the facts of one line. `out`: the commands in order; `book` holds the first doubt."""

    __slots__ = ("book", "length", "out")

    def __init__(self) -> None:
        self.book = Book()
        self.length = 0
        self.out: list[CommandFacts] = []

    def text(self, text: str, depth: int, around: Surroundings) -> None:
        """All commands of a text of the shell."""
        book = self.book
        self.length += len(text)
        if self.length > LONGEST_TOGETHER:
            book.doubt("nested texts that are too long together")
            return
        try:
            reader = Reader(text, book, depth)
        except Unreadable as unreadable:
            book.doubt(str(unreadable))
            return
        book.bodies, book.escaped = [], []
        try:
            reader.read()
        except Unreadable as unreadable:
            book.doubt(str(unreadable))
        else:
            if not (_SURE.match(text) and _usual(reader.found)):
                self._compare(text, reader)
        if reader.names:
            problem = names_problem(reader.names, worked_out=False)
            if problem:
                book.doubt(problem)
        for simple in reader.found:
            self._simple(simple, depth, around)

    def _compare(self, text: str, reader: Reader) -> None:
        bodies = self.book.bodies
        for start, stop in bodies:
            # The grammar loses its way in here-documents; what expands in them the strict reader alone reads.
            text = text[:start] + _BODY.sub(" ", text[start:stop]) + text[stop:]
        places = {
            simple.place
            for simple in reader.found
            if simple.place >= 0
            and simple.words
            and simple.words[0].text not in WITHOUT_NAME
            and not any(start <= simple.place < stop for start, stop in bodies)
        }
        if not agrees(text, places, self.book.escaped):
            self.book.doubt("a second reader of the line sees other commands in it")

    def _simple(self, simple: Simple, depth: int, around: Surroundings) -> None:
        outputs: tuple[str, ...] = ()
        inputs: tuple[str, ...] = ()
        exact = True
        if simple.outputs or simple.inputs:
            outputs = tuple([word.text for word in simple.outputs])
            inputs = tuple([word.text for word in simple.inputs])
            for word in simple.outputs + simple.inputs:
                exact = exact and word.exact
        assignments = tuple([name for name, _ in simple.assignments]) if simple.assignments else ()
        if not simple.words:
            self.out.append(
                CommandFacts(
                    "",
                    "",
                    (),
                    (),
                    outputs,
                    inputs,
                    tuple(simple.substitutions),
                    assignments,
                    around.via,
                    around.user,
                    exact,
                )
            )
            return
        here = Surroundings()
        here.via, here.user, here.stdin = around.via, around.user, around.stdin
        here.assignments = around.assignments + assignments if assignments else around.assignments
        here.outputs, here.inputs, here.exact = outputs, inputs, exact and around.exact
        here.substitutions = tuple(simple.substitutions) if simple.substitutions else ()
        here.here = simple
        self.command(simple.words, depth, here)

    def command(self, words: list[Word], depth: int, around: Surroundings) -> None:
        """One command, and what it runs."""
        first = words[0]
        text = first.text
        program = text.rpartition("/")[2] if "/" in text else text
        if not first.exact and not (first.tilde and not first.splits and "/" in text and "$" not in text):
            self.book.doubt("which program runs is not known before it runs")
        elif text[:1] == "=" or not text or (around.via and "=" in text) or (first.ansi and not text.isascii()):
            self.book.doubt("a program's name that other shells read differently")
        if depth > MAX_DEPTH:
            self.book.doubt("nested too deep")
            return
        handler = _handler(program)
        seen: Seen | None = None
        if handler is not None:
            try:
                seen = handler(words)
            except Unknown as unknown:
                self.book.doubt(str(unknown))
        own = len(words)
        outputs, inputs = around.outputs, around.inputs
        if seen is not None:
            own = seen.own
            if seen.reason and not self._from_here(program, words, around):
                self.book.doubt(seen.reason)
            outputs, inputs = outputs + seen.outputs, inputs + seen.inputs
        exact = around.exact
        argv = []
        for word in words:
            if word is not UNKNOWN:
                argv.append(word.text)
            exact = exact and word.exact
        self.out.append(
            CommandFacts(
                program,
                text,
                tuple(argv),
                flags_of(program, words, own),
                outputs,
                inputs,
                around.substitutions,
                around.assignments,
                around.via,
                around.user,
                exact,
            )
        )
        if program in LISTING:
            if program not in DECLARING or any(word.text[:1] == "-" and set(word.text) & set("aA") for word in words):
                self.book.lists = True
            elif self.book.lists and not exact:
                self.book.doubt("a list whose subscripts may be worked out")
        if around.stdin and program == "exec" and own == len(words):
            self.book.doubt("what a shell reads its commands from is changed")
        if seen is not None and seen.inner:
            self._inner(program, seen, depth, around)
        elif program in SHELLS:
            self._read_here(program, words, depth, around)

    def _inner(self, program: str, seen: Seen, depth: int, around: Surroundings) -> None:
        for inner in seen.inner:
            within = Surroundings()
            within.via = (*around.via, program)
            within.user = around.user if inner.user is None else inner.user
            within.assignments = around.assignments + inner.assignments
            within.exact = around.exact and inner.exact
            within.stdin = around.stdin
            if inner.code is not None:
                within.assignments = around.assignments + inner.assignments
                within.stdin = False
                self.text(inner.code, depth + 1, within)
            elif inner.words:
                within.outputs, within.inputs = around.outputs, around.inputs
                within.here = around.here
                try:
                    self.book.command()
                except Unreadable as unreadable:
                    self.book.doubt(str(unreadable))
                    return
                self.command(inner.words, depth + 1, within)

    def _from_here(self, program: str, words: list[Word], around: Surroundings) -> bool:
        """True if a shell reads its commands from the line itself."""
        simple = around.here
        return (
            program in SHELLS
            and simple is not None
            and len(simple.here) == 1
            and simple.here[0].exact
            and not simple.inputs
            and not any(word.text[:1] not in ("-", "+") for word in words[1:])
        )

    def _read_here(self, program: str, words: list[Word], depth: int, around: Surroundings) -> None:
        if not self._from_here(program, words, around):
            return
        assert around.here is not None
        within = Surroundings()
        within.via, within.user = (*around.via, program), around.user
        within.assignments, within.stdin = around.assignments, True
        self.text(around.here.here[0].body, depth + 1, within)


def flags_of(program: str, words: list[Word], stop: int) -> tuple[str, ...]:
    """Options among a command's own words, one each, long names without their values."""
    flags: dict[str, None] = {}
    for number in range(1, stop):
        text = words[number].text
        if len(text) < 2 or text[0] != "-":
            continue
        if text == "--":
            break
        if text[1] == "-":
            name = text.partition("=")[0]
            known = LONG_OPTIONS.get(program)
            if known is not None and name[2:] not in known:
                full = [each for each in known if each.startswith(name[2:])]
                if len(full) == 1:
                    name = "--" + full[0]
            flags[name] = None
        elif program in LONG_WORDS or _NUMBER.match(text):
            flags[text] = None
        else:
            for letter in text[1:]:
                if not letter.isalnum():
                    break
                flags["-" + letter] = None
    return tuple(flags)
