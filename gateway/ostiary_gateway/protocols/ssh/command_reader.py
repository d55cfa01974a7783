"""The grammar of shell text: finds every simple command, wherever it stands, or says that it cannot.

Strict where Bash is lenient and where other shells read the same text differently: what is accepted here without
doubt, every shell of the POSIX family reads as the same commands. It never goes back in the text, so its time is
linear in the length.
"""

from __future__ import annotations

import re

from .command_reader_simple import NO_STOP, OPENING, Simple, SimpleReader
from .command_reader_words import Unreadable, Word

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FUNCTION = re.compile(r"[A-Za-z0-9_./:@%+-]+")
_BRACKETS = re.compile(r"\([ \t]*\)")
_COPROCESS = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)[ \t]+(?=\(|(?:\{|if|while|until|for|select|case|\[\[)[ \t\n])")
_OPENS = re.compile(r"\(|(?:\{|if|while|until|for|select|case|function|\[\[|time|coproc|!)(?=[ \t\n(])")
_NUMERIC = re.compile(r"[+-]?[0-9]+\Z")
_COMPARING = frozenset(("-eq", "-ne", "-lt", "-le", "-gt", "-ge"))
_COMPOUND = frozenset(("{", "if", "while", "until", "for", "select", "case", "[["))
_DO, _DONE = frozenset(("do",)), frozenset(("done",))
_THEN, _BRANCH, _FI = frozenset(("then",)), frozenset(("elif", "else", "fi")), frozenset(("fi",))
_BRACE, _ESAC = frozenset(("}",)), frozenset(("esac",))


class Reader(SimpleReader):
    """Reads a whole text of the shell."""

    __slots__ = ()

    def compound(self, name: str) -> None:
        mark = len(self.found)
        if name == "!":
            self.next_command()
            return
        if name in ("time", "coproc"):
            self._prefix(name)
            return
        self.deeper()
        if name == "{":
            self.group("}", _BRACE)
        elif name == "if":
            self._if()
        elif name in ("while", "until"):
            self.group("do", _DO)
            self.group("done", _DONE)
        elif name in ("for", "select"):
            self._for(name)
        elif name == "case":
            self._case()
        elif name == "[[":
            self._test()
        else:
            self._named_function()
        self.depth -= 1
        self.redirections(mark)

    def next_command(self) -> None:
        """The command that must follow."""
        self.blanks()
        if self.at >= self.end or self.text[self.at] in "\n;|&)":
            raise Unreadable("an operator without a command behind it")
        self.deeper()
        self.command(NO_STOP)
        self.depth -= 1

    def _prefix(self, name: str) -> None:
        """`time` and `coproc` before a compound command, or as the first word of a simple one."""
        simple = Simple()
        simple.place = self.base + self.at - len(name)
        self.found.append(simple)
        self.substitutions = simple.substitutions
        words = [Word(name, self.at - len(name))]
        self.blanks()
        if name == "coproc":
            named = _COPROCESS.match(self.text, self.at, self.end)
            if named is not None:
                self.names.append(named.group(1))
                self.at = named.end()
        if not _OPENS.match(self.text, self.at, self.end):
            self.simple(simple, words)
            return
        self.book.command()
        simple.words.extend(words)
        self.next_command()

    def _if(self) -> None:
        self.group("then", _THEN)
        while True:
            self.deeper()
            stopped = self.commands(_BRANCH)
            self.depth -= 1
            if stopped == "elif":
                self.group("then", _THEN)
            elif stopped == "else":
                self.group("fi", _FI)
                return
            elif stopped == "fi":
                return
            else:
                raise Unreadable("fi is missing")

    def _for(self, name: str) -> None:
        self.blanks()
        self.substitutions = []
        if self.text.startswith("((", self.at) and name == "for":
            self.at += 2
            self.arithmetic(True)
            self.blanks()
            if self.text.startswith(";", self.at):
                self.at += 1
        else:
            variable = _NAME.match(self.text, self.at, self.end)
            if variable is None:
                raise Unreadable("a loop without a variable")
            self.at = variable.end()
            self.names.append(variable.group())
            self.blanks()
            if self.text.startswith(";", self.at):
                self.at += 1
            else:
                self.lines()
                if self.is_word("in"):
                    self.at += 2
                    self._items()
        self.lines()
        if self.is_word("do"):
            self.at += 2
            self.group("done", _DONE)
        else:
            raise Unreadable("do is missing")

    def _items(self) -> None:
        while True:
            self.blanks()
            if self.at >= self.end:
                raise Unreadable("do is missing")
            char = self.text[self.at]
            if char in ";\n":
                if char == ";":
                    self.at += 1
                return
            self.word()

    def is_word(self, word: str) -> bool:
        """True if just this word stands here."""
        after = self.at + len(word)
        return (
            self.text.startswith(word, self.at)
            and after <= self.end
            and (after == self.end or self.text[after] in " \t\n;&|()<>")
        )

    def _case(self) -> None:
        self.blanks()
        self.substitutions = []
        self.word()
        self.lines()
        if not self.is_word("in"):
            raise Unreadable("a case without in")
        self.at += 2
        while True:
            self.lines()
            if self.is_word("esac"):
                self.at += 4
                return
            if self.text.startswith("(", self.at):
                self.at += 1
            while True:
                self.blanks()
                self.substitutions = []
                if self.at >= self.end:
                    raise Unreadable("esac is missing")
                self.word()
                self.blanks()
                char = self.text[self.at : self.at + 1]
                self.at += 1
                if char == ")":
                    break
                if char != "|":
                    raise Unreadable("a pattern of case that cannot be read")
            self.deeper()
            stopped = self.commands(_ESAC)
            self.depth -= 1
            if stopped == "esac":
                return
            if stopped != ";;":
                raise Unreadable("esac is missing")
            self.at += 3 if self.text.startswith(";;&", self.at) else 2

    def _named_function(self) -> None:
        self.blanks()
        name = _FUNCTION.match(self.text, self.at, self.end)
        if name is None:
            raise Unreadable("a function without a name")
        self.at = name.end()
        self.blanks()
        if self.text.startswith("(", self.at):
            self.function()
        else:
            self._body()

    def function(self) -> None:
        found = _BRACKETS.match(self.text, self.at, self.end)
        if found is None:
            raise Unreadable("a bracket inside a command")
        self.at = found.end()
        self._body()

    def _body(self) -> None:
        self.lines()
        if not self.text.startswith("(", self.at) and not any(self.is_word(word) for word in _COMPOUND):
            raise Unreadable("a function without a body")
        self.next_command()

    def _test(self) -> None:
        """`[[ … ]]`. Shells without it run what stands behind `&&` and `||` in it, and open the files of `<` and "
        "`>`."""
        simple = Simple()
        self.book.command()
        self.found.append(simple)
        self.substitutions = simple.substitutions
        words = simple.words
        words.append(Word("[[", self.at - 2))
        begins = False
        while True:
            self.lines()
            if self.at >= self.end:
                raise Unreadable("]] is missing")
            char = self.text[self.at]
            if self.text.startswith(("&&", "||"), self.at):
                self.at += 2
                begins = True
                words.append(Word(char * 2, self.at, False))
                continue
            if char in "()":
                words.append(Word(char, self.at, False))
                self.at += 1
                begins = char == "("
                continue
            if char in "<>" and not self.text.startswith("(", self.at + 1):
                words.append(Word(char, self.at, False))
                self.at += 1
                self.book.doubt("a comparison in [[ ]], which some shells read as a redirection")
                continue
            if char in "&|;":
                raise Unreadable("an operator in [[ ]]")
            word = self.word(assigned=True)[0]
            if word.plain and word.text == "]]":
                words.append(word)
                break
            if begins and not (word.plain and (word.text[0] == "-" or word.text == "!")):
                self.book.doubt("a word behind && or || in [[ ]], which some shells run as a command")
            begins = begins and word.text == "!"
            words.append(word)
        self._operands(words)

    def _operands(self, words: list[Word]) -> None:
        for number, word in enumerate(words):
            if not word.plain:
                continue
            if word.text in _COMPARING:
                around = words[number - 1 : number] + words[number + 1 : number + 2]
                if not all(each.exact and _NUMERIC.match(each.text) for each in around):
                    self.book.doubt("arithmetic with variables, whose values may hold commands")
            elif word.text in ("-v", "-R"):
                self.book.doubt("a name of a variable that is worked out")


__all__ = ["OPENING", "Reader", "Simple"]
