"""How a measurement is made, and how its table is written.

A *trial* is one variant once, in a fresh process that measures itself and prints its numbers as JSON.  A *round* is one trial of
every variant, in random order, so that what else happens on the machine hits all of them alike.  Tables show medians over
the rounds; a ratio is the median of the ratios within each round, against the case's base line.  CPU is user plus system
time of the measuring process, without its children.

Knows nothing of what is measured: that is one module a benchmark.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.targets import Target, Verdict, judge

ROOT: Final = Path(__file__).resolve().parents[1]
TRIAL_LIMIT_S: Final = 90.0
Params = Mapping[str, Any]
Numbers = dict[str, float]
Trial = Callable[[Params], Numbers]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One number of a trial, and its column.

    Attributes:
        key: Its name in the trial's answer.
        title: Head of the column.
        format: Format specification of the median.
        has_ratio: Whether a second column shows it against the base line.
        is_worst: Show the largest value of all rounds instead of the median.
    """

    key: str
    title: str
    format: str = ".2f"
    has_ratio: bool = False
    is_worst: bool = False


def say(text: str) -> None:
    """Tell whoever waits what happens."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def nothing_to_prepare(_params: Params) -> Iterator[Params]:
    yield {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """One table.

    Attributes:
        title: Its heading.
        about: What is measured, in sentences.
        variants: Name to trial; the first is the base line of the ratios.
        metrics: The columns.
        cases: Name to the parameters that differ between groups of rows; every variant runs in every case.
        params: Parameters of all cases.
        quick: What ``--quick`` replaces in the parameters, those of the cases included.
        rounds: How often every trial is repeated.
        prepare: Context manager around all trials that adds parameters: files, servers.
        applies: Whether a variant runs in a case.
        targets: What the numbers are to show.
    """

    title: str
    about: str
    variants: Mapping[str, Trial]
    metrics: tuple[Metric, ...]
    cases: Mapping[str, Params]
    params: Params
    quick: Params
    rounds: int = 5
    prepare: Callable[[Params], AbstractContextManager[Params]] = nothing_to_prepare
    applies: Callable[[str, str], bool] = lambda _case, _variant: True
    targets: tuple[Target, ...] = ()

    def __post_init__(self) -> None:
        rows, keys = set(self.rows), {metric.key for metric in self.metrics}
        for target in self.targets:
            if target.metric not in keys or not target.rows <= rows:
                raise ValueError(f"{self.title}: there is no such metric or row: {target}")

    @property
    def rows(self) -> list[tuple[str, str]]:
        """Every (case, variant), in the order of the table."""
        return [(case, variant) for case in self.cases for variant in self.variants if self.applies(case, variant)]


@dataclass(slots=True)
class Results:
    """What the trials of one benchmark answered, per row and round; a failed trial is a reason."""

    numbers: dict[tuple[str, str], list[Numbers]]
    failures: dict[tuple[str, str], str]

    def verdicts(self, targets: Iterable[Target]) -> list[Verdict]:
        """Judge every target."""
        return [judge(target, self.numbers) for target in targets]


def run(name: str, benchmark: Benchmark, *, is_quick: bool, rounds: int | None = None) -> Results:
    """Run ``rounds`` rounds of ``benchmark``: by default what it asks for, or one if ``is_quick``."""
    quick = benchmark.quick if is_quick else {}
    base = {**benchmark.params, **quick}
    rounds = rounds or (1 if is_quick else benchmark.rounds)
    order = random.Random(1)
    results = Results({row: [] for row in benchmark.rows}, {})
    with benchmark.prepare(base) as prepared:
        for number in range(1, rounds + 1):
            say(f"{name}: round {number} of {rounds}")
            for case, variant in order.sample(benchmark.rows, len(benchmark.rows)):
                if (case, variant) in results.failures:
                    continue
                try:
                    params = {**benchmark.params, **benchmark.cases[case], **quick, **prepared}
                    results.numbers[case, variant].append(run_trial(name, variant, params))
                except TrialError as exc:
                    results.failures[case, variant] = str(exc)
                    say(f"{name}: {case} / {variant} failed: {exc}")
    return results


class TrialError(Exception):
    """A trial gave no numbers; the message is the last line it wrote."""


def run_trial(name: str, variant: str, params: Params) -> Numbers:
    argv = [sys.executable, "-m", "benchmarks.trial", name, variant, json.dumps(params)]
    # A session of its own, so that a peer's leftovers can be ended with it.
    trial = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    try:
        output, errors = trial.communicate(timeout=TRIAL_LIMIT_S)
    except subprocess.TimeoutExpired:
        raise TrialError(f"no answer in {TRIAL_LIMIT_S:g} s") from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(trial.pid, signal.SIGKILL)
        trial.wait()
    if trial.returncode != 0:
        lines = errors.decode(errors="replace").strip().splitlines()
        raise TrialError(lines[-1] if lines else f"exit status {trial.returncode}")
    numbers: Numbers = json.loads(output.decode().strip().splitlines()[-1])
    return numbers


def table(benchmark: Benchmark, results: Results) -> str:
    """Return the results as a Markdown table."""
    heads = ["case", "variant"] if len(benchmark.cases) > 1 else ["variant"]
    for metric in benchmark.metrics:
        heads += [metric.title, "× base"] if metric.has_ratio else [metric.title]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    shown_case = None
    for case, variant in benchmark.rows:
        name = f"**{variant}**" if variant.startswith("procflow") else variant
        cells = [case if case != shown_case else "", name] if len(benchmark.cases) > 1 else [name]
        shown_case = case
        if (case, variant) in results.failures or not results.numbers[case, variant]:
            cells += [results.failures.get((case, variant), "not run")[:120]]
        else:
            base = next(other for other_case, other in benchmark.rows if other_case == case)
            cells += _cells(benchmark, results.numbers[case, variant], results.numbers[case, base])
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cells(benchmark: Benchmark, rounds: list[Numbers], base: list[Numbers]) -> list[str]:
    cells: list[str] = []
    for metric in benchmark.metrics:
        values = [numbers[metric.key] for numbers in rounds if metric.key in numbers]
        if not values:
            cells += ["–", "–"] if metric.has_ratio else ["–"]
            continue
        cells.append(format(max(values) if metric.is_worst else statistics.median(values), metric.format))
        if metric.has_ratio:
            paired = [
                mine[metric.key] / other[metric.key]
                for mine, other in zip(rounds, base, strict=False)
                if metric.key in mine and other.get(metric.key)
            ]
            cells.append(format(statistics.median(paired), ".2f") if paired else "–")
    return cells


# --- for the trials -------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Timing:
    """Wall and CPU seconds of a block, set when it is left."""

    wall_s: float = 0.0
    cpu_s: float = 0.0


@contextlib.contextmanager
def timed() -> Iterator[Timing]:
    """Measure a block: wall time, and CPU time of this process."""
    import resource
    import time

    def cpu() -> float:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return usage.ru_utime + usage.ru_stime

    timing = Timing()
    wall_before, cpu_before = time.perf_counter(), cpu()
    try:
        yield timing
    finally:
        timing.wall_s = time.perf_counter() - wall_before
        timing.cpu_s = cpu() - cpu_before


def run_async(backend: str, function: Callable[..., Any], *args: object) -> Any:
    """Run an async function on ``asyncio``, ``uvloop`` or ``trio``: by anyio if the trial has imported it, else by the loop's own means."""
    if "anyio" in sys.modules:
        import anyio

        options = {} if backend == "trio" else {"use_uvloop": backend == "uvloop"}
        return anyio.run(function, *args, backend="trio" if backend == "trio" else "asyncio", backend_options=options)
    if backend == "trio":
        import trio

        return trio.run(function, *args)
    if backend == "uvloop":
        import uvloop

        return uvloop.run(function(*args))
    import asyncio

    return asyncio.run(function(*args))
