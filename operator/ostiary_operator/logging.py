"""Logs of the operator, in the form that all of Ostiary has, without what kopf says of itself."""

from __future__ import annotations

import logging

from ostiary_api import logs
from ostiary_api.logs import get_logger

__all__ = ["configure", "get_logger"]


def configure(level: str = "info", *, json: bool | None = None) -> None:
    """Set logging up for the process. `json` None: JSON unless standard error is a terminal."""
    logs.configure(level, json=json)
    # kopf tells every try of a request as an error, and every start of a task; what matters of it is told here.
    logging.getLogger("kopf").setLevel(logging.DEBUG if level == "debug" else logging.CRITICAL)
