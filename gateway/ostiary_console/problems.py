"""Why something is not shown or done: a status, and what to do next. Handlers raise these, one place answers them."""

from __future__ import annotations


class Problem(Exception):
    """`title` in a few words, the message for people, `next_step` what they can do."""

    def __init__(self, status: int, title: str, message: str, next_step: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.title = title
        self.next_step = next_step


def not_found(what: str) -> Problem:
    """It is not there, or the person may not know that it is: both look the same."""
    return Problem(
        404, "Not found", f"There is no {what} here that you may see.",
        "Look for it among the sessions, or ask for the verb review on its Connection.",
    )  # fmt: skip


def bad(message: str, next_step: str = "") -> Problem:
    return Problem(400, "Not understood", message, next_step)


def forbidden(message: str, next_step: str = "") -> Problem:
    return Problem(403, "Not allowed", message, next_step)


def changed(message: str, next_step: str = "Look at it again before you decide.") -> Problem:
    return Problem(409, "It has changed", message, next_step)


def away(message: str, next_step: str = "Try again in a moment.") -> Problem:
    """Something that the console needs does not answer. What cannot be checked is not shown."""
    return Problem(503, "Not available now", message, next_step)


def too_many(message: str, next_step: str = "Try again later.") -> Problem:
    return Problem(429, "Too many", message, next_step)


def signed_out(message: str = "You are not signed in, or not any more.") -> Problem:
    return Problem(401, "Not signed in", message, "Sign in.")
