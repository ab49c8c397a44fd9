"""The package's structured log: structlog events that end in the standard library's loggers.

Owns how a logger is made.  A host that configured nothing sees nothing below WARNING and finds its output untouched: the
processors end in ``logging``, with the bound values as ``extra``, and no global configuration is read or written.

structlog, which imports rich, is imported with the first logger: a worker that has nothing to complain of goes without.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import structlog


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return the logger ``procflow_export.<name>``; bind ``run_id`` and ``export`` before use."""
    import structlog

    logger: structlog.stdlib.BoundLogger = structlog.wrap_logger(
        logging.getLogger(f"procflow_export.{name}"),
        wrapper_class=structlog.stdlib.BoundLogger,
        processors=[structlog.stdlib.filter_by_level, structlog.stdlib.render_to_log_kwargs],
        cache_logger_on_first_use=True,
    )
    return logger
