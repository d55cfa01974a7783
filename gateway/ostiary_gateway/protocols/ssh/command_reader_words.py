"""Words of shell text: quotes, escapes, expansions, and what their text tells of their value."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod

from .command_braces import TooMany, braces

MAX_DEPTH = 24
MAX_COMMANDS = 512
_PLAIN = re.compile(r"[A-Za-z0-9_./:@%+,^=-]+")
_CHUNK = re.compile(r"[^ \t\n'\"\\$`;|&<>(){}*?\[~\ue000-\ue0ff]+")
_IN_DOUBLE = re.compile(r"[^\"\\$`]+")
_IN_BRACES = re.compile(r"[^}'\"\\$`{]+")
_ANSI = re.compile(r"(?:[^'\\]|\\.)*'", re.DOTALL)
_ESCAPE = re.compile(
    r"\\(?:([0-7]{1,3})|x([0-9A-Fa-f]{1,2})|u([0-9A-Fa-f]{1,4})|U([0-9A-Fa-f]{1,8})|c(.)|(.))", re.DOTALL
)
_LETTERS = {
    "a": "\a", "b": "\b", "e": "\x1b", "E": "\x1b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v",
    "\\": "\\", "'": "'", '"': '"', "?": "?",
}  # fmt: skip
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PARAMETER = re.compile(r"#?(?:[A-Za-z_][A-Za-z0-9_]*|[0-9]+|[@*#?$!-])(?=\})|(?:[A-Za-z_][A-Za-z0-9_]*|[0-9]+|[@*])")
_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)\+?=")
_BACKTICK = re.compile(r"[^`\\]*(?:\\.[^`\\]*)*", re.DOTALL)
_UNESCAPE = re.compile(r"\\([$`\\])")
_ARITHMETIC = re.compile(r"[0-9+\-*/%<>=!&|^~?:, \t]+")
_BRACKETS = re.compile(r"[A-Za-z0-9_]\[|[\[\]`]|\$\(")
_WORD_ENDS = frozenset(" \t\n;|&<>()")
_SPECIAL = "{},."
_HIDE = {ord(char): chr(0xE000 + ord(char)) for char in _SPECIAL}
_SHOW = {0xE000 + ord(char): char for char in _SPECIAL}


def hides_commands(text: str) -> bool:
    """True if a command stands in a subscript: `a[$(…)]`, which runs where the text becomes arithmetic."""
    depth = 0
    for found in _BRACKETS.finditer(text):
        sign = found.group()
        if sign == "]":
            depth -= depth > 0
        elif sign[-1] == "[":
            depth += depth > 0 or len(sign) > 1
        elif depth:
            return True
    return False


class Unreadable(Exception):
    """The text cannot be read, or different shells read it differently. Its message is the reason."""


class Word:
    """One word after quote removal. Expansions stand in `text` as they are written.

    `exact`: the text is the value. `splits`: it may become no word, or several. `plain`: nothing in it was quoted
    or expanded. `ansi`: it has $'…', which not every shell decodes.
    """

    __slots__ = ("ansi", "exact", "plain", "splits", "start", "text", "tilde")

    def __init__(self, text: str, start: int, plain: bool = True) -> None:
        self.text = text
        self.start = start
        self.plain = plain
        self.exact = True
        self.splits = False
        self.ansi = False
        self.tilde = False


class Book:
    """What reading has found: shared by all readers of one line. `reason`: the first doubt.

    `commands` counts them, `steps` the work. `escaped`: parts of the text that were read without their backslashes,
    so that places in them are not places in the text. `bodies`: where here-documents and their signs stand.
    `lists`: a variable is made a list.
    """

    __slots__ = ("bodies", "commands", "escaped", "lists", "reason", "steps")

    def __init__(self) -> None:
        self.reason = ""
        self.escaped: list[tuple[int, int]] = []
        self.bodies: list[tuple[int, int]] = []
        self.lists = False
        self.steps = 0
        self.commands = 0

    def doubt(self, reason: str) -> None:
        if not self.reason:
            self.reason = reason

    def command(self) -> None:
        self.commands += 1
        if self.commands > MAX_COMMANDS:
            raise Unreadable("more commands than are looked at")


class HereDocument:
    """What a command reads from the text itself: `<<` with its body behind the end of the line, or `<<<`.

    `exact`: no expansion is in it. `substitutions` is the list of the command that reads it.
    """

    __slots__ = ("body", "delimiter", "exact", "quoted", "strip", "substitutions")

    def __init__(self, delimiter: str, quoted: bool, strip: bool, substitutions: list[str]) -> None:
        self.substitutions = substitutions
        self.delimiter = delimiter
        self.quoted = quoted
        self.strip = strip
        self.body = ""
        self.exact = True


class WordReader(ABC):
    """Reads words at a place in a text."""

    __slots__ = ("at", "book", "depth", "end", "exact", "pending", "splits", "substitutions", "text")

    def __init__(self, text: str, book: Book, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise Unreadable("nested too deep")
        self.text = text
        self.book = book
        self.depth = depth
        self.at = 0
        self.end = len(text)
        self.pending: list[HereDocument] = []
        self.substitutions: list[str] = []
        self.exact = True
        self.splits = False

    @abstractmethod
    def substitution(self) -> None:
        """Reads the commands of `$(`, `<(` or `>(`, up to the closing bracket; `at` is behind the opening one."""

    @abstractmethod
    def nested(self, text: str, start: int, same: bool) -> None:
        """Reads the commands of a text in backticks. `start`: its place; `same`: it stands there as it is."""

    # Words.

    def word(self, assigned: bool = False) -> list[Word]:
        """The words that the word here becomes; several only by brace expansion. `assigned`: no braces, tilde "
        "after =."""
        text, at = self.text, self.at
        plain = _PLAIN.match(text, at, self.end)
        if plain is not None:
            after = plain.end()
            if after == self.end or text[after] in _WORD_ENDS:
                if text.startswith(("<(", ">("), after):
                    raise Unreadable("a process substitution inside a word")
                self.book.steps += 1
                self.at = after
                return [Word(plain.group(), at)]
        return self._composed(assigned)

    def _composed(self, assigned: bool) -> list[Word]:
        text, start, end = self.text, self.at, self.end
        outer = self.exact, self.splits
        self.exact, self.splits = True, False
        parts: list[str] = []
        quoted = ansi = tilde = brace = glob = False
        while self.at < end:
            self.book.steps += 1
            chunk = _CHUNK.match(text, self.at, end)
            if chunk is not None:
                parts.append(chunk.group())
                self.at = chunk.end()
                continue
            char = text[self.at]
            if char in " \t\n;|&)":
                break
            if char in "<>":
                if text[self.at + 1 : self.at + 2] != "(":
                    break
                if self.at > start:
                    raise Unreadable("a process substitution inside a word")
                opening = self.at
                self.at += 2
                self.substitution()
                parts.append(self._shown(opening))
                self.exact, quoted = False, True
            elif char == "(":
                break
            elif char == "'":
                parts.append(self._single().translate(_HIDE))
                quoted = True
            elif char == '"':
                parts.append(self._double())
                quoted = True
            elif char == "\\":
                if text[self.at + 1 : self.at + 2] == "\n" and text[self.at + 2 : self.at + 3] in (" ", "\t"):
                    break
                quoted = True
                parts.append(self._escaped())
            elif char == "$":
                quoted = True
                following = text[self.at + 1 : self.at + 2]
                if following == "'":
                    ansi = True
                    parts.append(self._ansi().translate(_HIDE))
                elif following == '"':
                    self.at += 1
                    self.exact = False
                    parts.append(self._double())
                else:
                    parts.append(self.dollar(False))
            elif char == "`":
                quoted = True
                parts.append(self.backtick(False))
            else:
                self.at += 1
                parts.append(char)
                if char == "{":
                    brace = True
                elif char in "*?":
                    glob = True
                elif char == "[":
                    glob = glob or "]" in text[self.at : end].partition(" ")[0]
                elif char == "~":
                    before = text[start : self.at - 1]
                    if not before or (before[-1] in ":=" and _ASSIGNMENT.match(before) is not None):
                        tilde = True
                elif char >= "\ue000":
                    raise Unreadable("a character of private use")
        whole = "".join(parts)
        if quoted and "[" in whole and hides_commands(whole):
            self.book.doubt("a subscript with commands in a text, which arithmetic would run")
        if self.at == start:
            raise Unreadable("an operator where a word should be")
        exact, splits = self.exact, self.splits
        self.exact, self.splits = outer
        if glob and not assigned and whole != "[":
            exact, splits = False, True
        if tilde:
            exact = False
        texts = [whole]
        if brace and not assigned and ("," in whole or ".." in whole):
            try:
                texts = braces(whole)
            except TooMany:
                self.book.doubt("a brace expansion of too many words")
                exact, splits = False, True
            if len(texts) > 1:
                # Words that expand to nothing are dropped unless a part of them is quoted.
                texts = [each for each in texts if each] if not quoted else texts
                splits = splits or not exact
        words = []
        for each in texts:
            word = Word(each.translate(_SHOW) if quoted else each, start, not quoted and texts[0] is whole)
            word.exact, word.splits, word.ansi, word.tilde = exact, splits, ansi, tilde
            words.append(word)
        return words

    def _shown(self, start: int) -> str:
        """The text since `start` as it is written, safe from brace expansion."""
        return self.text[start : self.at].translate(_HIDE)

    def _no_line_end(self, part: str) -> None:
        if self.pending and "\n" in part:
            raise Unreadable("a quoted line end before the text of a here-document")

    def _single(self) -> str:
        closing = self.text.find("'", self.at + 1, self.end)
        if closing < 0:
            raise Unreadable("a quote that is not closed")
        part = self.text[self.at + 1 : closing]
        self._no_line_end(part)
        self.at = closing + 1
        return part

    def _escaped(self) -> str:
        if self.at + 1 >= self.end:
            raise Unreadable("a backslash at the end")
        char = self.text[self.at + 1]
        if char == "\n":
            raise Unreadable("a line continued inside a word")
        self.at += 2
        return char.translate(_HIDE)

    def continuation(self) -> None:
        """A backslash at the end of a line, between words; next to an operator shells disagree."""
        before = self.text[self.at - 1 : self.at]
        after = self.text[self.at + 2 : self.at + 3]
        if before in ("&", "|", ";", "<", ">", "(", ")", "$", "`") or after in (
            "&",
            "|",
            ";",
            "<",
            ">",
            "(",
            ")",
            "\\",
        ):
            raise Unreadable("a line continued inside an operator")
        if self.pending:
            raise Unreadable("a line continued before the text of a here-document")
        self.at += 2

    def _double(self) -> str:
        """A string in double quotes; `at` is at the opening one."""
        text, end = self.text, self.end
        self.at += 1
        parts: list[str] = []
        while self.at < end:
            self.book.steps += 1
            chunk = _IN_DOUBLE.match(text, self.at, end)
            if chunk is not None:
                part = chunk.group()
                if self.pending:
                    self._no_line_end(part)
                parts.append(part.translate(_HIDE))
                self.at = chunk.end()
                continue
            char = text[self.at]
            if char == '"':
                self.at += 1
                return "".join(parts)
            if char == "\\":
                following = text[self.at + 1 : self.at + 2]
                if following == "\n":
                    before = text[self.at - 1]
                    if before == "$" or text[self.at + 2 : self.at + 3] == "\\" or self.pending:
                        raise Unreadable("a line continued inside an expansion")
                    self.at += 2
                elif following and following in '$`"\\':
                    parts.append(following)
                    self.at += 2
                else:
                    parts.append("\\")
                    self.at += 1
            elif char == "$":
                parts.append(self.dollar(True))
            else:
                parts.append(self.backtick(True))
        raise Unreadable("a quote that is not closed")

    def _ansi(self) -> str:
        """$'…', decoded; `at` is at the dollar."""
        found = _ANSI.match(self.text, self.at + 2, self.end)
        if found is None:
            raise Unreadable("a quote that is not closed")
        raw = found.group()[:-1]
        self._no_line_end(raw)
        self.at = found.end()
        if "\\" not in raw:
            return raw
        return _ESCAPE.sub(self._decoded, raw)

    def _decoded(self, found: re.Match[str]) -> str:
        octal, hexadecimal, short, long, control, letter = found.groups()
        if letter is not None:
            if letter == "'":
                self.book.doubt("a quote in $'…', which ends it in some shells")
            return _LETTERS.get(letter, "\\" + letter)
        if control is not None:
            self.book.doubt("a control character in $'…'")
            return found.group()
        number = int(octal, 8) & 0xFF if octal else int(hexadecimal or short or long, 16)
        if not number or number > 0x7F:
            # A NUL ends the word; bytes above ASCII depend on the locale.
            self.book.doubt("a byte in $'…' that is no ASCII character")
            return found.group()
        return chr(number)

    # Expansions.

    def dollar(self, quoted: bool) -> str:
        """An expansion, or a lone dollar; its text as written."""
        text, start = self.text, self.at
        following = text[start + 1] if start + 1 < self.end else ""
        if following == "(":
            if text.startswith("((", start + 1):
                self.at = start + 3
                self.arithmetic(False)
            else:
                self.at = start + 2
                self.substitution()
            self.exact = False
            self.splits = self.splits or not quoted
        elif following == "{":
            self.at = start + 2
            self._parameter(quoted)
        elif following == "[":
            raise Unreadable("arithmetic in $[ ]")
        elif following == "\\" and text[start + 2 : start + 3] == "\n":
            raise Unreadable("a line continued inside an expansion")
        elif following and (following in "@*#?-$!0123456789"):
            self.at = start + 2
            self.exact = False
            self.splits = self.splits or not quoted or following == "@"
        else:
            name = _NAME.match(text, start + 1, self.end)
            if name is not None:
                self.at = name.end()
                self.exact = False
                self.splits = self.splits or not quoted
            else:
                if following and following in "=~^+":
                    self.book.doubt("an expansion of other shells")
                self.at = start + 1
        return self._shown(start)

    def _parameter(self, quoted: bool) -> None:
        """The rest of `${…}`."""
        text = self.text
        self.exact = False
        self.splits = self.splits or not quoted
        found = _PARAMETER.match(text, self.at, self.end)
        if found is None:
            if text.startswith("!", self.at):
                self.book.doubt("a parameter named by another one")
                found = _NAME.match(text, self.at + 1, self.end)
            if found is None:
                raise Unreadable("a parameter expansion that is not known")
        name = found.group()
        self.at = found.end()
        if name[-1] == "@":
            self.splits = True
        following = text[self.at : self.at + 2]
        if following[:1] == "}":
            self.at += 1
            return
        if following[:1] == "[":
            closing = text.find("]", self.at, self.end)
            index = text[self.at + 1 : closing] if closing > 0 else ""
            if index not in ("@", "*") and not index.isdecimal():
                raise Unreadable("a subscript that is worked out")
            if index == "@":
                self.splits = True
            self.at = closing + 1
            following = text[self.at : self.at + 2]
            if following[:1] == "}":
                self.at += 1
                return
        if following[:1] == ":" and following[1:] not in ("-", "=", "+", "?"):
            self.at += 1
            content = self._braced(quoted)
            if content.strip(" 0123456789:-"):
                self.book.doubt("arithmetic with variables, whose values may hold commands")
            return
        if following[:1] == "@":
            self.book.doubt("a parameter whose value is expanded again")
        elif following[:1] not in (":", "-", "=", "+", "?", "#", "%", "/", "^", ","):
            raise Unreadable("a parameter expansion that is not known")
        if "=" in following and following[:1] in ":=":
            self.assigns(name)
        self.at += 1
        self._braced(quoted)

    @abstractmethod
    def assigns(self, name: str) -> None:
        """An expansion sets this variable."""

    def _braced(self, quoted: bool) -> str:
        """What stands before the `}` that ends a parameter expansion."""
        text, end, start = self.text, self.end, self.at
        while self.at < end:
            self.book.steps += 1
            chunk = _IN_BRACES.match(text, self.at, end)
            if chunk is not None:
                self._no_line_end(chunk.group())
                self.at = chunk.end()
                continue
            char = text[self.at]
            if char == "}":
                self.at += 1
                return text[start : self.at - 1]
            if char == "$":
                if not quoted and text[self.at + 1 : self.at + 2] in ("'", '"'):
                    raise Unreadable("a quote in a parameter expansion")
                self._deeper(quoted)
            elif char == "`":
                self.backtick(quoted)
            elif quoted or char == "{":
                raise Unreadable("a quote or brace in a parameter expansion")
            elif char == "'":
                self._single()
            elif char == '"':
                self._double()
            else:
                self._escaped()
        raise Unreadable("a parameter expansion that is not closed")

    def _deeper(self, quoted: bool) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Unreadable("nested too deep")
        self.dollar(quoted)
        self.depth -= 1

    def backtick(self, quoted: bool) -> str:
        """A command substitution in backticks; its text as written."""
        start = self.at
        found = _BACKTICK.match(self.text, start + 1, self.end)
        if found is None or found.end() >= self.end or self.text[found.end()] != "`":
            raise Unreadable("a backtick that is not closed")
        raw = found.group()
        self._no_line_end(raw)
        if quoted and '\\"' in raw:
            raise Unreadable("an escaped quote in backticks")
        if "\\\n" in raw:
            raise Unreadable("a line continued inside backticks")
        self.at = found.end() + 1
        self.exact = False
        self.splits = self.splits or not quoted
        inner = _UNESCAPE.sub(r"\1", raw)
        self.nested(inner, start + 1, inner == raw)
        self.substitutions.append(raw)
        return self._shown(start)

    def arithmetic(self, loop: bool) -> None:
        """Up to the `))` that ends it; `at` is behind the `((`. `loop`: the head of a `for`, with semicolons."""
        text, end = self.text, self.end
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Unreadable("nested too deep")
        outer = self.exact, self.splits
        depth = 0
        while self.at < end:
            self.book.steps += 1
            chunk = _ARITHMETIC.match(text, self.at, end)
            if chunk is not None:
                self.at = chunk.end()
                continue
            char = text[self.at]
            if char == "(":
                depth += 1
                self.at += 1
            elif char == ")":
                if depth:
                    depth -= 1
                    self.at += 1
                elif text.startswith("))", self.at):
                    self.at += 2
                    self.depth -= 1
                    self.exact, self.splits = outer
                    return
                else:
                    raise Unreadable("brackets that may be arithmetic or commands")
            elif char == "$":
                self.book.doubt("arithmetic with variables, whose values may hold commands")
                self.dollar(True)
            elif char == "`":
                self.book.doubt("arithmetic with variables, whose values may hold commands")
                self.backtick(True)
            elif char == ";" and loop and not depth:
                self.at += 1
            elif char.isascii() and (char.isalnum() or char in "_#"):
                self.book.doubt("arithmetic with variables, whose values may hold commands")
                self.at += 1
            else:
                raise Unreadable("arithmetic that cannot be read")
        raise Unreadable("arithmetic that is not closed")
