"""A statement's text without its literals: one key for all texts that differ in nothing else. Compiled, or not.

Only what is lexically beyond doubt is folded; the rest stays in the key as it was written, or the text is its own key.
"""

import cython


def fold(text: bytes) -> bytes:
    """The key of a text: each plain string is `\\\\0s` in it, each integer of up to nine digits `\\\\0i`.

    The text itself, the same object, if it has none, or if it has comments, dollar quotes, or strings with a prefix or
    a backslash. A text never holds a NUL, so no text is the key of another. Needs standard_conforming_strings.
    """
    return literals(text)[0]


def positions(text: bytes) -> frozenset[int]:
    """Where the literals stand that `fold` folds, as byte offsets of their beginnings."""
    return frozenset(literals(text)[1])


def literals(text: bytes) -> tuple[bytes, list[int]]:
    """The key, and where the literals stand."""
    p: cython.p_const_uchar = text
    size: cython.Py_ssize_t = len(text)
    at: cython.Py_ssize_t = 0
    start: cython.Py_ssize_t = 0
    copied: cython.Py_ssize_t = 0
    c: cython.int
    before: cython.int = 0
    pieces: list[bytes] = []
    found: list[int] = []
    while at < size:
        c = p[at]
        start = at
        if (97 <= c <= 122) or (65 <= c <= 90) or c == 95 or c >= 128:  # a word
            at += 1
            while at < size and _in_word(p[at]):
                at += 1
            if at < size and p[at] == 39:
                return text, []  # a string with a prefix: E'', B'', X'', N''
        elif 48 <= c <= 57:  # a number
            at += 1
            while at < size and 48 <= p[at] <= 57:
                at += 1
            if at < size and (_in_word(p[at]) or p[at] == 46):
                while at < size and (_in_word(p[at]) or p[at] == 46):
                    at += 1
            elif at - start <= 9 and before != 46:
                found.append(start)
                pieces.append(text[copied:start])
                pieces.append(b"\0i")
                copied = at
        elif c == 39:  # a string
            if before == 38:
                return text, []  # U&''
            at += 1
            while True:
                if at >= size:
                    return text, []
                if p[at] == 92:
                    return text, []
                if p[at] == 39:
                    if at + 1 < size and p[at + 1] == 39:
                        at += 2
                        continue
                    break
                at += 1
            at += 1
            found.append(start)
            pieces.append(text[copied:start])
            pieces.append(b"\0s")
            copied = at
        elif c == 34:  # a quoted name
            at += 1
            while at < size and p[at] != 34:
                at += 1
            if at >= size:
                return text, []
            at += 1
            if at < size and p[at] == 39:
                return text, []
        elif c == 36:  # a parameter, or a dollar quote
            at += 1
            if at >= size or not 48 <= p[at] <= 57:
                return text, []
            while at < size and _in_word(p[at]):
                at += 1
        elif (c == 45 and at + 1 < size and p[at + 1] == 45) or (c == 47 and at + 1 < size and p[at + 1] == 42):
            return text, []  # a comment
        elif c == 0:
            return text, []
        else:
            at += 1
        before = p[at - 1]
    if not found:
        return text, found
    pieces.append(text[copied:])
    return b"".join(pieces), found


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _in_word(c: cython.int) -> cython.bint:
    """A character that goes on a word or a number: letter, digit, _, $, anything that is not ASCII."""
    return (97 <= c <= 122) or (65 <= c <= 90) or (48 <= c <= 57) or c == 95 or c == 36 or c >= 128
