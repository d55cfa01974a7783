"""Structured logs of gateway and operator: JSON lines, or coloured text on a terminal; so are the standard library's.

Events are short sentences, values are fields. Tokens, passwords, manifests and SQL text are never logged: those that
may be kept at all are in the record.
"""

from __future__ import annotations

import logging
import sys
from typing import TextIO

# structlog loads rich if it is there, for tracebacks on a terminal that show local variables: secrets among them, and
# 4 MB of memory. Tracebacks are plain here.
_LOADED = "rich" in sys.modules
if not _LOADED:
    sys.modules["rich"] = None  # type: ignore[assignment]
import structlog  # noqa: E402
from structlog.typing import Processor  # noqa: E402

if not _LOADED:
    del sys.modules["rich"]

LEVELS = ("debug", "info", "warning", "error")
OURS = (
    "ostiary", "ostiary_api", "ostiary_cli", "ostiary_console", "ostiary_gateway", "ostiary_notify", "ostiary_operator",
    "ostiary_policy", "ostiary_store",
)  # fmt: skip
"""Loggers that may say more than warnings."""


def configure(level: str = "info", *, json: bool | None = None, stream: TextIO | None = None) -> None:
    """Set logging up for the process. `json` None: JSON unless the stream (default stderr) is a terminal."""
    out = stream or sys.stderr
    as_json = not out.isatty() if json is None else json
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        # A line for people must fit into a terminal: the time of day, and no logger's name.
        *([structlog.stdlib.add_logger_name] if as_json else []),
        structlog.processors.TimeStamper(fmt="iso" if as_json else "%H:%M:%SZ", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    tail: list[Processor]
    if as_json:
        tail = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        plain = structlog.dev.plain_traceback
        tail = [
            structlog.dev.ConsoleRenderer(
                colors=out.isatty(), pad_event_to=0, pad_level=False, exception_formatter=plain
            )
        ]
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *tail]
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # The chatter of libraries is of little use, and may tell what nobody should read: cel-python's tells all facts.
    root.setLevel(max(number, logging.WARNING))
    for name in OURS:
        logging.getLogger(name).setLevel(number)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def mark(**fields: object) -> None:
    """Every line of this process has these fields from now on."""
    structlog.contextvars.bind_contextvars(**fields)


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger: `log.info("bundle loaded", revision=…)`."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger
