"""Logging of the running service."""

from __future__ import annotations

import logging
from logging.handlers import WatchedFileHandler
from pathlib import Path

from policy_engine.config import Settings
from policy_engine.model.errors import SettingsError

_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def configure_logging(settings: Settings) -> None:
    """Log to standard error, and to the log file where one is set.

    Raises:
        SettingsError: The log file cannot be written.
    """
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    if settings.log_file:
        path = Path(settings.log_file)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handlers.append(WatchedFileHandler(path, encoding="utf-8"))
        except OSError as error:
            raise SettingsError("log_file", f"`{path}`", f"cannot write there: {error.strerror}") from error
    logging.basicConfig(level=settings.log_level, format=_FORMAT, handlers=handlers, force=True)
