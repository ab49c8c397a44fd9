"""How the stages of a pipeline are connected.

Owns the pipes between them.  Must not know how a stage is started.

A plan says where the standard descriptors of the whole lead: the input of the first stage, the output of the last, and
the errors of all.  Errors that are streamed have a stream for each stage; a file is opened once for all of them, or each
stage would cut it to nothing again; merged errors of all stages go where the output of the last goes.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence

from procflow._process.stdio.ends import Ends, Opening, OutputEnd, StdinEnd, StdioPlan
from procflow._process.stdio.plans import Merged, Separate
from procflow.errors import UsageError


def open_stages(plan: StdioPlan, openings: Sequence[Opening]) -> tuple[Ends, ...]:
    """Open the ends of every stage, first to last; synchronous."""
    if len(openings) == 1:
        return (plan.open(openings[0]),)
    if not isinstance(plan, (Separate, Merged)):
        raise UsageError("the stages of a pipeline cannot share a terminal of their own: pty= is for a single command")
    stdins, stdouts = [plan.stdin.open(openings[0])], list[OutputEnd]()
    for left, right in itertools.pairwise(openings):
        reading, writing = os.pipe()
        stdouts.append(OutputEnd(left.theirs(writing), elsewhere="goes to the next stage"))
        stdins.append(StdinEnd(right.theirs(reading)))
    stdouts.append(plan.stdout.open(openings[-1], "stdout"))
    if isinstance(plan, Merged):
        stderrs = [plan.merged_end(stdouts[-1])] * len(openings)
    elif plan.stderr.is_streamed:
        stderrs = [plan.stderr.open(opening, "stderr") for opening in openings]
    else:
        stderrs = [plan.open_stderr(openings[0], stdouts[-1])] * len(openings)
    return tuple(Ends(*ends) for ends in zip(stdins, stdouts, stderrs, strict=True))
