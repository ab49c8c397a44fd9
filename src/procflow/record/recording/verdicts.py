"""What an exception says about the job or the run that it ends.

Owns the choice of the word.  Must not know who asks.

``failed``: something that was called did not do what it should.  ``errored``: the code around it is at fault.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final

from procflow.errors import ChildError, ConsumerError, PlatformError
from procflow.record.errors import JobsFailedError, JobSkippedError
from procflow.record.events import CANCELLED, ERRORED, FAILED, SUCCEEDED, ErrorInfo

_FAILURES: Final = (ChildError, PlatformError, ConsumerError, JobsFailedError, JobSkippedError)
_CANCELLATIONS: Final = (asyncio.CancelledError, KeyboardInterrupt, GeneratorExit)


def verdict(error: BaseException | None) -> str:
    """Return the outcome of what was left with ``error``.

    Of several exceptions in a group those that are no cancellation count, and one that is no failure of a child makes it ``errored``.
    ``sys.exit(0)`` is no failure.
    """
    if error is None:
        return SUCCEEDED
    counting = _counting(error)
    if not counting:
        return SUCCEEDED if all(map(_is_success, leaves(error))) else CANCELLED
    return FAILED if all(isinstance(leaf, _FAILURES) for leaf in counting) else ERRORED


def error_info(error: BaseException | None) -> ErrorInfo | None:
    """Return what a record says of ``error``: of a group the first exception that counts; nothing of a cancellation."""
    if error is None:
        return None
    counting = _counting(error)
    return ErrorInfo(type=type(counting[0]).__name__, message=_text(counting[0])) if counting else None


def adds_to(error: BaseException, known: BaseException | None) -> bool:
    """Whether ``error`` is about more than ``known``: a task group wraps what it passes on."""
    counting = _counting(error)
    old = list(leaves(known)) if known is not None else []
    return not counting or any(all(leaf is not one for one in old) for leaf in counting)


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Yield the exceptions of a group, and of the groups in it; of anything else itself."""
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from leaves(part)
    else:
        yield error


def _counting(error: BaseException) -> list[BaseException]:
    return [leaf for leaf in leaves(error) if not (_is_cancellation(leaf) or _is_success(leaf))]


def _is_success(error: BaseException) -> bool:
    return isinstance(error, SystemExit) and error.code in (None, 0)


def _is_cancellation(error: BaseException) -> bool:
    # trio's class is not imported for this: whoever runs trio has it.
    return isinstance(error, _CANCELLATIONS) or (
        type(error).__module__.startswith("trio") and type(error).__name__ == "Cancelled"
    )


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 (an exception that cannot say what it is)
        return ""
