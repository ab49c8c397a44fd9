"""The package's structured log: structlog events that end in the standard library's loggers.

Owns how a logger is made.  A host that configured nothing sees nothing below WARNING and finds its output untouched: the
processors end in ``logging``, with the bound values as ``extra``, and no global configuration is read or written.

structlog, which imports half of rich, is imported with the first event that anybody listens to.
"""

from __future__ import annotations

import logging
from functools import cached_property
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import structlog


class Log:
    """A logger with bound values, made when it is needed."""

    def __init__(self, logger: logging.Logger, **bound: object) -> None:
        """Log to ``logger``, with the values that are ``bound`` in every event."""
        self._logger = logger
        self._bound = bound

    def bind(self, **values: object) -> Self:
        """Return a logger with ``values`` beside those that are bound already."""
        return type(self)(self._logger, **self._bound, **values)

    def debug(self, event: str, **values: object) -> None:
        """Log what only somebody who looks for a mistake wants to know."""
        self._log(logging.DEBUG, event, values)

    def info(self, event: str, **values: object) -> None:
        """Log what happened."""
        self._log(logging.INFO, event, values)

    def warning(self, event: str, **values: object) -> None:
        """Log what somebody should look at."""
        self._log(logging.WARNING, event, values)

    def error(self, event: str, **values: object) -> None:
        """Log what went wrong."""
        self._log(logging.ERROR, event, values)

    def _log(self, level: int, event: str, values: dict[str, object]) -> None:
        if self._logger.isEnabledFor(level):
            self._structured.log(level, event, **values)

    @cached_property
    def _structured(self) -> structlog.stdlib.BoundLogger:
        import structlog

        logger: structlog.stdlib.BoundLogger = structlog.wrap_logger(
            self._logger,
            wrapper_class=structlog.stdlib.BoundLogger,
            processors=[structlog.stdlib.filter_by_level, structlog.stdlib.render_to_log_kwargs],
            cache_logger_on_first_use=True,
        )
        return logger.bind(**self._bound)


def get_logger(name: str) -> Log:
    """Return the logger ``procflow_export.<name>``; bind ``run_id`` and ``export`` before use."""
    return Log(logging.getLogger(f"procflow_export.{name}"))
