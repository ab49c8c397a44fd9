"""`./run bench NAME --profile VARIANT`: which lines of Python a trial spends its CPU time in.

A timer signal on CPU time samples the stack of the main thread.  That costs next to nothing, where a tracing profiler would
charge every call and so make short functions look expensive.  The kernel's tick, some milliseconds, is as often as it comes, so
the trial is run over and over.  Python handles the signal after the bytecode during which it came: time in a system call
counts for the line that made it, or the one after.
"""

from __future__ import annotations

import contextlib
import json
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from benchmarks.harness import ROOT, Benchmark
from benchmarks.trial import import_for

INTERVAL_S = 0.001
LASTS_S = 5.0
SHOWN = 25


class Samples:
    """Where the main thread was."""

    def __init__(self) -> None:
        self.count = 0
        self.lines: Counter[str] = Counter()
        self.functions: Counter[str] = Counter()

    def take(self, _number: int, frame: FrameType | None) -> None:
        """Note the line that runs now, and once each function that waits for it."""
        if frame is None:
            return
        self.count += 1
        self.lines[f"{place(frame)}:{frame.f_lineno} {frame.f_code.co_name}"] += 1
        seen = set()
        walker: FrameType | None = frame
        while walker is not None:
            seen.add(f"{place(walker)} {walker.f_code.co_qualname}")
            walker = walker.f_back
        self.functions.update(seen)

    def report(self) -> str:
        """Return both rankings as text."""
        parts = [f"{self.count} samples"]
        # A function that is on every stack is how the program got here; a line that is always found is where the time goes.
        functions = [(what, n) for what, n in self.functions.most_common() if n < self.count or self.count == 1]
        for title, found in (("line", self.lines.most_common()), ("function and what it calls", functions)):
            parts.append(f"\n  share  {title}")
            parts += [f"{n / self.count:7.1%}  {what}" for what, n in found[:SHOWN]]
        return "\n".join(parts)


def place(frame: FrameType) -> str:
    """Return the file of a frame, without what everybody has in common."""
    path = Path(frame.f_code.co_filename)
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT / "src") else "/".join(path.parts[-2:])


@contextlib.contextmanager
def sampled() -> Iterator[Samples]:
    """Sample the block."""
    samples = Samples()
    before = signal.signal(signal.SIGPROF, samples.take)
    signal.setitimer(signal.ITIMER_PROF, INTERVAL_S, INTERVAL_S)
    try:
        yield samples
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def profile(name: str, benchmark: Benchmark, variant: str, case: str | None = None) -> int:
    """Run one trial in this process, once unseen and then for some seconds, and print where its time went."""
    case = (
        case if case is not None else next((case for case in benchmark.cases if benchmark.applies(case, variant)), "")
    )
    if (case, variant) not in benchmark.rows:
        print(f"bench: {name} has no row {case!r} / {variant!r}; there are")
        print("\n".join(f"  {case!r} / {variant!r}" for case, variant in benchmark.rows))
        return 64
    with benchmark.prepare(benchmark.params) as prepared:
        params = {**benchmark.params, **benchmark.cases[case], **prepared}
        import_for(variant)
        trial = benchmark.variants[variant]
        print(json.dumps(trial(params)))
        ends = time.monotonic() + LASTS_S
        with sampled() as samples:
            while time.monotonic() < ends:
                trial(params)
    print(samples.report())
    return 0
