"""Logs of the gateway, in the form that all of Ostiary has."""

from ostiary_api.logs import LEVELS, configure, get_logger, mark

__all__ = ["LEVELS", "configure", "get_logger", "mark"]
