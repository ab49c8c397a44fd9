"""What the package logs of a run while this program makes it.

Nobody reads that log here: what it says is told by events, only better.  But for one thing, which the operator is asked to
report: the traceback of an error that is a bug of ours.  Without a handler, Python itself would write the bare names of events
into the display.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


class _Tracebacks(logging.Handler):
    """Keeps the tracebacks of errors, drops everything else."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the traceback of an event, once."""
        text = getattr(record, "traceback", None)
        if isinstance(text, str) and text not in self.texts:
            self.texts.append(text)


@contextmanager
def kept_tracebacks() -> Iterator[list[str]]:
    """Give the tracebacks of unexpected errors, redacted, as they are logged inside the block."""
    logger, handler = logging.getLogger("procflow_export.run"), _Tracebacks()
    logger.addHandler(handler)
    try:
        yield handler.texts
    finally:
        logger.removeHandler(handler)
