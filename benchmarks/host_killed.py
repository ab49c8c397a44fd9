"""`kill -9` of a host: who of 20 trees is alive afterwards, and how soon nobody is."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.harness import ROOT, Benchmark, Metric, Numbers, Params, Trial
from benchmarks.hosts import CLEAN, EMPTIED, TREE_SIZE, TREES, UNREGISTERED, tree_pids
from benchmarks.targets import Target
from benchmarks.watch import Watched

PROMISED_S = 0.05
START_LIMIT_S = 30.0
POLL_S = 0.01
GUARDED, STRICT = "procflow, guarded", "procflow, strict"


class NoTreesError(Exception):
    """The host has ended before all of its trees were there."""


def wait_for_trees(host: subprocess.Popen[str], directory: Path) -> list[int]:
    """Return the processes of all trees once all have reported."""
    deadline = time.perf_counter() + START_LIMIT_S
    while len(pids := tree_pids(directory)) < TREES * TREE_SIZE:
        if host.poll() is not None:
            assert host.stderr is not None
            reasons = host.stderr.read().strip().splitlines() or ["the host has ended"]
            raise NoTreesError(reasons[-1].removeprefix("benchmarks.levels.NotInForceError: "))
        if time.perf_counter() > deadline:
            raise NoTreesError(f"only {len(pids)} processes in {START_LIMIT_S:g} s")
        time.sleep(POLL_S)
    return pids


def trial(level: str) -> Trial:
    def measured(params: Params) -> Numbers:
        with tempfile.TemporaryDirectory() as name:
            argv = [sys.executable, "-m", "benchmarks.hosts", "trees", level, name, params["case"]]
            # Its stdin stays open: in one case the host waits for it.
            with subprocess.Popen(
                argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
            ) as host:
                try:
                    with Watched(wait_for_trees(host, Path(name))) as trees:
                        before = time.perf_counter()
                        host.send_signal(signal.SIGKILL)
                        left_soon = trees.count_alive(PROMISED_S)
                        left = trees.count_alive(params["patience_s"]) if left_soon else 0
                        took_s = time.perf_counter() - before
                except NoTreesError:
                    with Watched(tree_pids(Path(name))):  # which kills them
                        raise
                finally:
                    host.kill()
                    assert host.stderr is not None
                    host.stderr.close()
        found: Numbers = {"left_soon": left_soon, "left": left}
        return found if left else {**found, "gone_ms": took_s * 1e3}

    return measured


def targets() -> list[Target]:
    found = []
    for of, cases in ((GUARDED, (CLEAN, UNREGISTERED)), (STRICT, (CLEAN, EMPTIED, UNREGISTERED))):
        level = of.rpartition(" ")[2]
        for case in cases:
            found += [
                Target(promise=f"`kill -9` of the host, {level}, {case}: survivors of 80 after 50 ms", metric="left_soon", of=of, case=case, at_most=0),
                Target(promise=f"`kill -9` of the host, {level}, {case}: until the last is dead", metric="gone_ms", of=of, case=case, at_most=50, unit="ms"),
            ]  # fmt: skip
    return found


VARIANTS = {
    "Popen": trial("nothing"),
    "Popen, each told to die with its parent (setpriv)": trial("pdeathsig"),
    "procflow, group": trial("group"),
    GUARDED: trial("guarded"),
    STRICT: trial("strict"),
}
BENCHMARK = Benchmark(
    title="`kill -9` of the host",
    about="A host with 20 trees of 4 processes, one of each in a session of its own, is killed; from outside every process is watched through a pidfd: how "
    "many live 50 ms later, how many another half second later, and when the last one died. Three cases: as it is; the one in its own session has an emptied environment; "
    "and the host is killed in the middle of its last spawn, when the child runs and nobody was told of it.",
    variants=VARIANTS,
    metrics=(
        Metric(key="left_soon", title="alive after 50 ms (most)", format=".0f", is_worst=True),
        Metric(key="left", title="alive after 0.5 s more (most)", format=".0f", is_worst=True),
        Metric(key="gone_ms", title="last one dead ms"),
    ),
    cases={case: {"case": case} for case in (CLEAN, EMPTIED, UNREGISTERED)},
    params={"patience_s": 0.5},
    quick={"patience_s": 0.2},
    rounds=3,
    applies=lambda case, variant: case == CLEAN or variant.startswith("procflow"),
    targets=tuple(targets()),
)
