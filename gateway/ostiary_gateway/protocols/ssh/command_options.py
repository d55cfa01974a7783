"""Options of programs that run other programs: where their own words end and the other's begin."""

from __future__ import annotations

import re

from .command_reader_words import Word

_LONG = re.compile(r"--[a-zA-Z0-9][a-zA-Z0-9-]*(?:=|\Z)")


class Unknown(Exception):
    """It cannot be told what a program runs. Its message is the reason."""


class Options:
    """Options as getopt takes them.

    `short`: letters, `:` behind those with a value, `?` behind those whose value may only be attached. `long`: names,
    `=` behind those with a value, `?` behind those whose value may only be attached.
    """

    __slots__ = ("long", "short")

    def __init__(self, short: str = "", long: str = "") -> None:
        self.short: dict[str, str] = {}
        for number, letter in enumerate(short):
            if letter not in ":?" or not number:
                following = short[number + 1 : number + 2]
                self.short[letter] = following if following in (":", "?") else ""
        self.long: dict[str, str] = {}
        for name in long.split():
            kind = name[-1] if name[-1] in "=?" else ""
            self.long[name.rstrip("=?")] = {"=": ":", "?": "?", "": ""}[kind]

    def long_name(self, name: str) -> str:
        """The name that this one is, or is short for."""
        if name in self.long:
            return name
        found = [each for each in self.long if each.startswith(name)]
        if len(found) != 1:
            raise Unknown(f"the option --{name} is not known")
        return found[0]


class Found:
    """What was found: options with their values in order, and where the first other word is."""

    __slots__ = ("at", "options", "rest")

    def __init__(self, at: int) -> None:
        self.at = at
        self.options: list[tuple[str, Word | None]] = []
        self.rest: list[Word] = []

    def has(self, *names: str) -> bool:
        return any(name in names for name, _ in self.options)

    def value(self, *names: str) -> Word | None:
        """The value of the last of these options."""
        for name, value in reversed(self.options):
            if name in names:
                return value
        return None

    def values(self, *names: str) -> list[Word]:
        return [value for name, value in self.options if name in names and value is not None]


def part(word: Word, text: str) -> Word:
    """The end of a word, as a word."""
    made = Word(text, word.start, False)
    made.exact, made.splits, made.ansi = word.exact, word.splits, word.ansi
    return made


def known(word: Word) -> Word:
    """The word, if it is surely one word."""
    if word.splits:
        raise Unknown("an expansion may hold options or commands")
    return word


def read_options(words: list[Word], at: int, options: Options, permute: bool = False) -> Found:
    """Options from `at` on, up to the first other word; with `permute` all, and the other words in `rest`."""
    found = Found(at)
    while at < len(words):
        word = known(words[at])
        text = word.text
        if text == "--" and word.exact:
            at += 1
            found.rest.extend(words[at:] if permute else ())
            break
        if text[:1] != "-" or text == "-":
            if not word.exact and not word.tilde:
                raise Unknown("an expansion may hold options or commands")
            if not permute:
                break
            found.rest.append(word)
            at += 1
            continue
        at += 1
        if text[1] == "-":
            if not _LONG.match(text):
                raise Unknown("an option that is not known")
            name, _, value = text[2:].partition("=")
            name = options.long_name(name)
            kind = options.long[name]
            if "=" in text:
                found.options.append((name, part(word, value)))
            elif kind == ":":
                if at >= len(words):
                    raise Unknown("an option without its value")
                found.options.append((name, known(words[at])))
                at += 1
            else:
                found.options.append((name, None))
            continue
        number = 1
        while number < len(text):
            letter = text[number]
            number += 1
            kind = options.short.get(letter, "!")
            if kind == "!":
                raise Unknown(f"the option -{letter} is not known")
            if not kind:
                found.options.append((letter, None))
                continue
            if number < len(text):
                found.options.append((letter, part(word, text[number:])))
            elif kind == ":":
                if at >= len(words):
                    raise Unknown("an option without its value")
                found.options.append((letter, known(words[at])))
                at += 1
            else:
                found.options.append((letter, None))
            break
    found.at = at
    return found


def hides_options(word: Word) -> bool:
    """True if what the word becomes may be an option."""
    if word.exact or word.tilde:
        return False
    text = word.text
    return text[:1] in ("$", "`", "*", "?", "[", "") or (word.splits and ("$" in text or "`" in text))
