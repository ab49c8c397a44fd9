"""How an ending of a process is said in a record.

Owns the choice of the outcome word.  Must not know events of a run, nor who writes them.
"""

from __future__ import annotations

from dataclasses import dataclass

from procflow.outcome import EndedBy, Outcome, signal_name
from procflow.record.events import CANCELLED, EXITED, SIGNALED, TIMED_OUT, Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """The fields of ``ShFinished`` that follow from the outcome of its process.

    ``exit_code`` and ``signal`` are never both set.  Both are absent if nobody can say how the process ended.
    """

    outcome: str
    exit_code: int | None = None
    signal: str | None = None
    escalated: bool = False
    usage: Usage | None = None


def ending(outcome: Outcome) -> Ending:
    """Return what a record says of ``outcome``.

    Who ended the process comes before how it ended: a timeout is ``timed_out``, with the code or signal beside it.
    """
    return Ending(
        outcome=_word(outcome),
        exit_code=outcome.exit_code,
        signal=signal_name(outcome.signal) if outcome.signal is not None else None,
        escalated=sum(phase.signal is not None for phase in outcome.phases) > 1,
        usage=_usage(outcome),
    )


def _word(outcome: Outcome) -> str:
    match outcome.ended_by:
        case EndedBy.TIMEOUT | EndedBy.IDLE_TIMEOUT:
            return TIMED_OUT
        case EndedBy.CANCEL:
            return CANCELLED
        case _:
            return EXITED if outcome.signal is None else SIGNALED


def _usage(outcome: Outcome) -> Usage | None:
    usage = outcome.usage
    if usage is None:
        return None
    return Usage(
        user_us=round(usage.user_s * 1_000_000),
        sys_us=round(usage.system_s * 1_000_000),
        max_rss_kb=usage.max_rss_bytes >> 10,
    )
