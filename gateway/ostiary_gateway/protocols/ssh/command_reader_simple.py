"""Lists, pipelines, simple commands and their redirections in shell text."""

from __future__ import annotations

import re
from abc import abstractmethod

from .command_programs import NUMBERS
from .command_reader_words import MAX_DEPTH, Book, HereDocument, Unreadable, Word, WordReader

_PROGRAM = re.compile(r"[A-Za-z_./][A-Za-z0-9_./:@%+,-]*(?=[ \t\n;|)]|\Z)")
_ARGUMENT = re.compile(r"[ \t]+([A-Za-z0-9_./:@%+,^-][A-Za-z0-9_./:@%+,^=-]*)(?=[ \t\n;|)]|\Z)")
_COMMENT = re.compile(r"[^\n]*")
_DESCRIPTOR = re.compile(r"[0-9]+(?=[<>])")
_TO_VARIABLE = re.compile(r"\{[A-Za-z_][A-Za-z0-9_]*\}[<>]")
_OPERATOR = re.compile(r"&>>|&>|<<<|<<-|<<|<>|<&|<|>>|>&|>\||>")
_ASSIGNED = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)\+?=")
_SUBSCRIPTED = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\[")
_DELIMITER = re.compile(r"([A-Za-z0-9_.:=@%+,!/-]+)|'([^'\n]*)'|\"([^\"\\$`\n]*)\"|\\([A-Za-z0-9_.-]+)")
_TABS = re.compile(r"^\t+", re.MULTILINE)
_HERE_CHUNK = re.compile(r"[^\\$`]+")
OPENING = frozenset(("{", "if", "while", "until", "for", "select", "case", "function", "[[", "time", "coproc", "!"))
CLOSING = frozenset(("}", "then", "elif", "else", "fi", "do", "done", "esac"))
_DECLARING = frozenset(("declare", "typeset", "local", "export", "readonly"))
WORDS = OPENING | CLOSING
NO_STOP: frozenset[str] = frozenset()


class Simple:
    """A simple command: words before anything is made of them.

    `outputs` and `inputs`: the files of its redirections. `here`: what it reads from the text itself.
    `place`: where its first word stands, -1 if that cannot be told. `both`: an `&>` was among its redirections.
    """

    __slots__ = ("assignments", "both", "here", "inputs", "outputs", "place", "substitutions", "words")

    def __init__(self) -> None:
        self.place = -1
        self.both = False
        self.words: list[Word] = []
        self.assignments: list[tuple[str, Word]] = []
        self.outputs: list[Word] = []
        self.inputs: list[Word] = []
        self.here: list[HereDocument] = []
        self.substitutions: list[str] = []


class SimpleReader(WordReader):
    """Reads the commands of a text into `found`, in the order of the text. `names`: variables that it sets."""

    __slots__ = ("base", "found", "names")

    def __init__(
        self,
        text: str,
        book: Book,
        depth: int = 0,
        found: list[Simple] | None = None,
        names: list[str] | None = None,
        base: int = 0,
    ) -> None:
        super().__init__(text, book, depth)
        self.base = base
        self.found: list[Simple] = [] if found is None else found
        self.names: list[str] = [] if names is None else names

    def read(self) -> None:
        """The whole text."""
        stopped = self.commands(NO_STOP)
        if stopped:
            raise Unreadable(f"{stopped} without its beginning")
        if self.pending:
            self.bodies()

    def assigns(self, name: str) -> None:
        self.names.append(name)

    @abstractmethod
    def compound(self, name: str) -> None:
        """Reads the rest of the compound command that this word of the shell begins."""

    @abstractmethod
    def function(self) -> None:
        """Reads the brackets and the body of a function; `at` is at the brackets."""

    # Lists and pipelines.

    def commands(self, stop: frozenset[str]) -> str:
        """A list up to one of the words `stop` at the place of a command, `)`, `;;` or the end. Returns which."""
        text = self.text
        needed = False
        while True:
            self.lines()
            char = text[self.at] if self.at < self.end else ""
            if not char or char == ")" or text.startswith((";;", ";&"), self.at):
                if needed:
                    raise Unreadable("an operator without a command behind it")
                return char if char != ";" else ";;"
            self.book.steps += 1
            stopped = self.command(stop)
            if stopped:
                if needed:
                    raise Unreadable("an operator without a command behind it")
                return stopped
            needed = False
            self.blanks()
            char = text[self.at] if self.at < self.end else ""
            if char == "&":
                needed = text.startswith("&&", self.at)
                self.at += 2 if needed else 1
            elif char == "|":
                needed = True
                self.at += 2 if text.startswith(("||", "|&"), self.at) else 1
            elif char == ";":
                if not text.startswith((";;", ";&"), self.at):
                    self.at += 1
            elif char not in ("", ")", "\n", "#"):
                raise Unreadable("text behind the end of a command")

    def blanks(self) -> None:
        text, at, end = self.text, self.at, self.end
        while at < end:
            char = text[at]
            if char == " " or char == "\t":
                at += 1
            elif char == "\\" and text.startswith("\n", at + 1) and at + 2 <= end:
                self.at = at
                self.continuation()
                at = self.at
            else:
                break
        self.at = at

    def lines(self) -> None:
        """Blanks, comments and ends of lines; the texts of here-documents come with them."""
        while True:
            self.blanks()
            if self.at >= self.end:
                return
            char = self.text[self.at]
            if char == "\n":
                self.at += 1
                if self.pending:
                    self.bodies()
            elif char == "#":
                self.comment()
            else:
                return

    def comment(self) -> None:
        found = _COMMENT.match(self.text, self.at, self.end)
        assert found is not None
        self.at = found.end()

    # Commands.

    def command(self, stop: frozenset[str]) -> str:
        """One command of any kind; or only the word of `stop` that stands in its place, which is returned."""
        text, start = self.text, self.at
        char = text[start]
        if char == "(":
            mark = len(self.found)
            if text.startswith("((", start):
                self.book.doubt("(( )), which some shells run as commands")
                self.at += 2
                self.substitutions = []
                self.arithmetic(False)
            else:
                self.at += 1
                self.group(")", NO_STOP)
            self.redirections(mark)
            return ""
        simple = Simple()
        self.found.append(simple)
        self.substitutions = simple.substitutions
        words: list[Word] = []
        usual = _PROGRAM.match(text, start, self.end)
        if usual is not None and usual.group() not in WORDS:
            self.at = usual.end()
            self.simple(simple, [Word(usual.group(), start)])
            return ""
        if not (
            char in "<>&"
            or _ASSIGNED.match(text, start, self.end)
            or _DESCRIPTOR.match(text, start, self.end)
            or _TO_VARIABLE.match(text, start, self.end)
        ):
            if _SUBSCRIPTED.match(text, start, self.end):
                raise Unreadable("a subscript where a command begins")
            words = self.word()
            if len(words) != 1:
                self.book.doubt("braces where a program is named, which some shells do not expand")
            elif words[0].plain:
                name = words[0].text
                if name in stop:
                    self.found.pop()
                    return name
                if name in CLOSING:
                    raise Unreadable(f"{name} without its beginning")
                if name in OPENING:
                    self.found.pop()
                    self.compound(name)
                    return ""
        self.simple(simple, words)
        if not (
            simple.words or simple.assignments or simple.outputs or simple.inputs or simple.here or self.at > start
        ):
            raise Unreadable("an operator where a command should be")
        return ""

    def group(self, closing: str, stop: frozenset[str]) -> None:
        """A list and what closes it: `)`, or a word of `stop`."""
        self.deeper()
        pending, self.pending = self.pending, []
        mark = self.at
        if self.commands(stop) != closing:
            raise Unreadable(f"{closing} is missing")
        if closing == ")":
            if not self.text[mark : self.at].strip():
                raise Unreadable("empty brackets")
            self.at += 1
        if self.pending:
            raise Unreadable("a here-document that its brackets end")
        self.pending = pending
        self.depth -= 1

    def deeper(self) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Unreadable("nested too deep")

    def substitution(self) -> None:
        substitutions, start = self.substitutions, self.at
        self.deeper()
        if self.text.startswith("((", self.at - 1) and self.text[self.at - 2] == "$":
            raise Unreadable("brackets that may be arithmetic or commands")
        self.lines()
        if self.text.startswith(")", self.at):
            self.at += 1
        else:
            self.group(")", NO_STOP)
        self.depth -= 1
        self.substitutions = substitutions
        substitutions.append(self.text[start : self.at - 1])

    def nested(self, text: str, start: int, same: bool) -> None:
        inner = type(self)(text, self.book, self.depth + 1, self.found, self.names, self.base + start)
        mark = len(self.found)
        inner.read()
        if not same:
            self.book.escaped.append((self.base + start, self.base + self.at))
            for simple in self.found[mark:]:
                simple.place = -1

    def simple(self, simple: Simple, words: list[Word]) -> None:
        """The rest of a simple command whose first words were read."""
        text, end = self.text, self.end
        self.book.command()
        if words:
            simple.words.extend(words)
            simple.place = self.base + words[0].start
        declares = bool(words) and words[0].text in _DECLARING
        while True:
            if simple.words and not declares and not simple.both:
                usual = _ARGUMENT.match(text, self.at, end)
                while usual is not None:
                    simple.words.append(Word(usual.group(1), usual.start(1)))
                    self.book.steps += 1
                    self.at = usual.end()
                    usual = _ARGUMENT.match(text, self.at, end)
            self.blanks()
            if self.at >= end:
                return
            char = text[self.at]
            if char in "\n;|)":
                return
            if char == "#":
                self.comment()
                return
            if char in "<>&0123456789{":
                if char == "&" and not text.startswith("&>", self.at):
                    return
                if char in "<>" and text.startswith("(", self.at + 1):
                    pass
                elif char in "<>&" or _DESCRIPTOR.match(text, self.at, end):
                    self.redirect(simple)
                    continue
                elif _TO_VARIABLE.match(text, self.at, end):
                    raise Unreadable("a descriptor that is put into a variable")
            elif char == "(":
                if (
                    len(simple.words) != 1
                    or not simple.words[0].plain
                    or simple.outputs
                    or simple.inputs
                    or simple.here
                ):
                    raise Unreadable("a bracket inside a command")
                self.found.remove(simple)
                self.function()
                return
            if not simple.words or declares:
                assigned = _ASSIGNED.match(text, self.at, end)
                if assigned is not None:
                    if simple.words and not text.startswith("(", assigned.end()):
                        simple.words.append(self.word(assigned=True)[0])
                    else:
                        self.assignment(simple, assigned)
                    continue
                if not simple.words and _SUBSCRIPTED.match(text, self.at, end):
                    raise Unreadable("a subscript where a command begins")
            found = self.word()
            if not simple.words:
                if found and found[0].plain and (found[0].text in OPENING or found[0].text in CLOSING):
                    raise Unreadable("a word of the shell behind an assignment or redirection")
                if found:
                    simple.place = self.base + found[0].start
                    declares = found[0].text in _DECLARING
            elif len(found) == 1 and found[0].plain and found[0].text in ("{", "}"):
                self.book.doubt("a brace as a word, which ends a group in some shells")
            simple.words.extend(found)
            if simple.both:
                self.book.doubt("words behind &>, which some shells run as a command")

    def assignment(self, simple: Simple, found: re.Match[str]) -> None:
        """`name=value` or `name=(…)`."""
        text, name = self.text, found.group(1)
        self.at = found.end()
        self.names.append(name)
        if text.startswith("(", self.at):
            start = self.at
            self.at += 1
            self.book.lists = True
            while True:
                self.lines()
                if text.startswith(")", self.at) and self.at < self.end:
                    break
                if text.startswith("[", self.at):
                    raise Unreadable("a subscript in a list")
                self.word()
            self.at += 1
            if self.at < self.end and text[self.at] not in " \t\n;|&)":
                # Bash takes what follows for a part of the assignment: the program is the word behind it.
                raise Unreadable("text behind the end of a list")
            value = Word(text[start : self.at], start, False)
            value.exact = False
        elif self.at >= self.end or (text[self.at] in " \t\n;|&()<>" and not text.startswith(("<(", ">("), self.at)):
            value = Word("", self.at)
        else:
            value = self.word(assigned=True)[0]
        if name in NUMBERS and not (value.exact and value.text.isdecimal()):
            self.book.doubt(f"arithmetic with a value of {name} that may hold commands")
        simple.assignments.append((name, value))

    # Redirections.

    def redirect(self, simple: Simple) -> None:
        text, end = self.text, self.end
        descriptor = _DESCRIPTOR.match(text, self.at, end)
        if descriptor is not None:
            self.at = descriptor.end()
        found = _OPERATOR.match(text, self.at, end)
        if found is None:
            raise Unreadable("a redirection that is not known")
        operator = found.group()
        self.at = found.end()
        if operator in ("<<", "<<-"):
            self.here(simple, operator == "<<-")
            return
        self.blanks()
        words = self.word()
        if len(words) != 1:
            raise Unreadable("a redirection to several files")
        word = words[0]
        if operator in (">&", "<&"):
            number = word.text.removesuffix("-")
            if not number or number.isdecimal():
                return
            if operator == "<&" or (descriptor is not None and word.exact):
                raise Unreadable("a redirection that is not known")
        if word.text == "!":
            self.book.doubt("a redirection that other shells read differently")
        if operator == "<<<":
            document = HereDocument("", True, False, simple.substitutions)
            document.body = word.text + "\n"
            document.exact = word.exact
            simple.here.append(document)
            return
        if word.text.startswith(("/dev/tcp/", "/dev/udp/")):
            self.book.doubt("a redirection to the network")
        if operator in ("<", "<>"):
            simple.inputs.append(word)
        if operator != "<":
            simple.outputs.append(word)
        if operator[0] == "&":
            simple.both = True

    def redirections(self, mark: int) -> None:
        """What stands behind a compound command holds for all commands in it, those found since `mark`."""
        holder = Simple()
        count = 0
        while True:
            self.blanks()
            if self.at >= self.end:
                break
            char = self.text[self.at]
            if char not in "<>&0123456789" or (char == "&" and not self.text.startswith("&>", self.at)):
                break
            if char.isdigit() and not _DESCRIPTOR.match(self.text, self.at, self.end):
                break
            count += 1
            if count > 16:
                raise Unreadable("too many redirections")
            self.substitutions = holder.substitutions
            self.redirect(holder)
        if not count:
            return
        inside = self.found[mark:]
        for simple in inside:
            simple.outputs.extend(holder.outputs)
            simple.inputs.extend(holder.inputs)
        if not inside or holder.substitutions:
            self.book.command()
            self.found.append(holder)

    def here(self, simple: Simple, strip: bool) -> None:
        """The word that ends a here-document; its text comes at the end of the line."""
        operator = self.at - (3 if strip else 2)
        self.blanks()
        found = _DELIMITER.match(self.text, self.at, self.end)
        if found is None:
            raise Unreadable("the end of a here-document cannot be read")
        self.at = found.end()
        if self.at < self.end and self.text[self.at] not in " \t\n;|&<>)":
            raise Unreadable("the end of a here-document cannot be read")
        plain, single, double, escaped = found.groups()
        delimiter = plain or single or double or escaped or ""
        self.book.bodies.append((operator, self.at))
        document = HereDocument(delimiter, plain is None, strip, simple.substitutions)
        simple.here.append(document)
        self.pending.append(document)

    def bodies(self) -> None:
        """The texts of the here-documents that wait; `at` is at the beginning of a line."""
        waiting, self.pending = self.pending, []
        for document in waiting:
            start = self.at
            while True:
                self.book.steps += 1
                if self.at >= self.end:
                    stop = after = self.end
                    break
                stop = self.at
                ending = self.text.find("\n", stop, self.end)
                after = self.end if ending < 0 else ending + 1
                line = self.text[stop : self.end if ending < 0 else ending]
                if (line.lstrip("\t") if document.strip else line) == document.delimiter:
                    break
                self.at = after
            document.body = self.text[start:stop]
            self.book.bodies.append((start, after))
            if not document.quoted:
                self.body(document, start, stop)
            if document.strip:
                document.body = _TABS.sub("", document.body)
            self.at = after

    def body(self, document: HereDocument, start: int, stop: int) -> None:
        """The expansions in a here-document."""
        if "\\\n" in document.body:
            raise Unreadable("a line continued in a here-document")
        outer_end, outer_substitutions, outer = self.end, self.substitutions, (self.exact, self.splits)
        self.at, self.end, self.substitutions, self.exact = start, stop, document.substitutions, True
        parts: list[str] = []
        while self.at < stop:
            self.book.steps += 1
            chunk = _HERE_CHUNK.match(self.text, self.at, stop)
            if chunk is not None:
                parts.append(chunk.group())
                self.at = chunk.end()
                continue
            char = self.text[self.at]
            if char == "$":
                parts.append(self.dollar(True))
            elif char == "`":
                parts.append(self.backtick(False))
            else:
                following = self.text[self.at + 1 : self.at + 2]
                special = bool(following) and following in "$`\\"
                parts.append(following if special else "\\")
                self.at += 2 if special else 1
        document.body = "".join(parts)
        document.exact = self.exact
        self.end, self.substitutions = outer_end, outer_substitutions
        self.exact, self.splits = outer
