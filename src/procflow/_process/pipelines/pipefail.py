"""How a pipeline ended, given how its stages ended.

Owns one decision, as pure code.  Must not know how a stage is watched.

The rule is that of ``set -o pipefail``: the last stage that failed decides, and if none did, the last stage.  With one
exception, for which shells have no word: a stage whose reader went away before it had written everything is ended by
SIGPIPE, and there is nothing wrong with that.  A shell around such a program exits with 128 + SIGPIPE, so that is
forgiven too.  Known hole: a program that catches the error exits with a number of its own, which looks like any failure.
"""

from __future__ import annotations

import signal as _signal
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from procflow.outcome import EndedBy, Outcome, PhaseReport, ResourceUsage

SHELL_SIGPIPE: Final = 128 + _signal.SIGPIPE


def deciding_stage(stages: Sequence[Outcome]) -> int:
    """Return the index of the stage whose ending is that of the pipeline."""
    last = len(stages) - 1
    failed = (i for i in range(last, -1, -1) if not (stages[i].ok or (i != last and is_cut_short(stages[i]))))
    return next(failed, last)


def is_cut_short(stage: Outcome) -> bool:
    """Whether it ended because nobody read its output any more."""
    return stage.signal == _signal.SIGPIPE or stage.exit_code == SHELL_SIGPIPE


def pipeline_outcome(
    name: str, stages: tuple[Outcome, ...], *, phases: tuple[PhaseReport, ...], is_output_cut: bool
) -> Outcome:
    """Return the outcome of a pipeline whose stages have all ended.

    Its process id is that of the first stage, which is the number of the group.
    """
    index = deciding_stage(stages)
    return replace(
        stages[index],
        name=name,
        pid=stages[0].pid,
        # Whoever was stopped belonged to the whole, although another stage may have decided its exit code.
        ended_by=next((stage.ended_by for stage in stages if stage.ended_by is not EndedBy.ITSELF), EndedBy.ITSELF),
        started_at=stages[0].started_at,
        started_mono_s=stages[0].started_mono_s,
        ended_at=max(stage.ended_at for stage in stages),
        ended_mono_s=max(stage.ended_mono_s for stage in stages),
        usage=_total_usage(stages),
        phases=phases,
        output_complete=not is_output_cut and all(stage.output_complete for stage in stages),
        stdin_broken=stages[0].stdin_broken,
        stdout_tail=stages[-1].stdout_tail,
        stages=stages,
        decided_by=index,
    )


def _total_usage(stages: Sequence[Outcome]) -> ResourceUsage | None:
    known = [stage.usage for stage in stages if stage.usage is not None]
    if len(known) < len(stages):
        return None
    return ResourceUsage(
        user_s=sum(usage.user_s for usage in known),
        system_s=sum(usage.system_s for usage in known),
        max_rss_bytes=max(usage.max_rss_bytes for usage in known),
    )
