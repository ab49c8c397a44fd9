"""Leftover processes: a command that is given up, in three ways, and what is left of it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from dataclasses import replace
from pathlib import Path

from benchmarks.calls import CALLS, Call, asyncio_killed
from benchmarks.harness import ROOT, Benchmark, Metric, Numbers, Params, Trial
from benchmarks.hosts import PROCESSES, SHELL, TOKEN, environ_with
from benchmarks.loops import cancelled_after, run_on
from benchmarks.targets import Target

ARGV = ["/bin/sh", "-c", SHELL]
START_LIMIT_S = 10.0
POLL_S = 0.02
DEADLINE, CANCELLED, HOST_KILLED = "deadline", "cancelled", "host killed"
KILLED_BY_HAND = "asyncio, then kill() and wait()"


def alive(token: str) -> list[int]:
    """Return every process whose environment holds the token; a zombie has none."""
    needle = f"{TOKEN}={token}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if needle in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found


def end(token: str) -> int:
    """Kill what is left; return how many there were."""
    left = alive(token)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return len(left)


class Attempt:
    """One call that is given up: when it has returned, and what was alive then.

    What still waits long after that is freed by killing what it waits for; then there is no time.
    """

    def __init__(self, limit_s: float) -> None:
        self.token = uuid.uuid4().hex
        self.numbers: Numbers | None = None
        self._begun = time.perf_counter()
        self._watchdog = threading.Timer(limit_s, self._give_up)
        self._watchdog.start()

    def _give_up(self) -> None:
        self.numbers = {"left": end(self.token)}

    def has_returned(self) -> None:
        """Take the numbers, unless it was too late."""
        returned_s = time.perf_counter() - self._begun
        self._watchdog.cancel()
        self._watchdog.join()
        if self.numbers is None:
            self.numbers = {"left": end(self.token), "returned_s": returned_s}


def given_up(call: Call, case: str, delay_s: float, patience_s: float) -> Numbers:
    attempt: Attempt
    if call.backend is None:
        attempt = Attempt(delay_s + patience_s)
        call.within(ARGV, environ_with(attempt.token), delay_s)
        attempt.has_returned()
    else:

        async def main(backend: str) -> Attempt:
            attempt = Attempt(delay_s + patience_s)
            environ = environ_with(attempt.token)
            if case == CANCELLED:
                await cancelled_after(backend, delay_s, lambda: call.run(ARGV, environ))
            else:
                await call.within(ARGV, environ, delay_s)
            attempt.has_returned()
            return attempt

        attempt = run_on(call.backend, call.watcher, main, call.backend)
    assert attempt.numbers is not None
    return attempt.numbers


def host_killed(variant: str, patience_s: float) -> Numbers:
    """Run the call in a host of its own, kill that once all of its processes are there, and see who lives after a while."""
    token = uuid.uuid4().hex
    argv = [sys.executable, "-m", "benchmarks.hosts", "call", variant, token]
    with subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.DEVNULL) as host:
        try:
            deadline = time.perf_counter() + START_LIMIT_S
            while len(alive(token)) < PROCESSES:
                if host.poll() is not None or time.perf_counter() > deadline:
                    raise RuntimeError("its processes did not come")
                time.sleep(POLL_S)
            host.kill()
            deadline = time.perf_counter() + patience_s
            while alive(token) and time.perf_counter() < deadline:
                time.sleep(POLL_S)
            return {"left": end(token)}
        finally:
            host.kill()
            end(token)


def trial(variant: str, call: Call) -> Trial:
    def measured(params: Params) -> Numbers:
        if params["case"] == HOST_KILLED:
            return host_killed(variant, params["patience_s"])
        return given_up(call, params["case"], params["deadline_s"], params["patience_s"])

    return measured


def applies(case: str, variant: str) -> bool:
    """Nobody can cancel what blocks; and killing by hand is about deadlines."""
    if variant == KILLED_BY_HAND:
        return case == DEADLINE
    return case != CANCELLED or CALLS[variant].backend is not None


BY_HAND = replace(CALLS["asyncio, thread watcher"], within=asyncio_killed)
OURS = tuple(name for name in CALLS if name.startswith("procflow"))
BENCHMARK = Benchmark(
    title="Leftover processes",
    about="A shell starts two `sleep`s, one of them in the background, with its output captured, and is given up after 0.3 s: by the deadline that the library "
    "offers; by cancelling the call from outside; and by `kill -9` of the host. When has the call returned, and how many of the three processes "
    "are alive at that moment, or 1 s after the host's death? Everybody with default settings. "
    "A call that has not returned 1 s after its deadline is given up and shows no time.",
    variants={KILLED_BY_HAND: trial(KILLED_BY_HAND, BY_HAND)} | {name: trial(name, call) for name, call in CALLS.items()},
    metrics=(
        Metric(key="returned_s", title="returned after s"),
        Metric(key="left", title="processes left (most of all rounds)", format=".0f", is_worst=True),
    ),
    cases={case: {"case": case} for case in (DEADLINE, CANCELLED, HOST_KILLED)},
    params={"deadline_s": 0.3, "patience_s": 1.0},
    quick={"patience_s": 0.2, "deadline_s": 0.1},
    rounds=2,
    applies=applies,
    targets=tuple(
        Target(promise=f"leftover processes, {ours.rpartition(' ')[2]}: {case}", metric="left", of=ours, case=case, at_most=0)
        for case in (DEADLINE, CANCELLED, HOST_KILLED)
        for ours in OURS
    ),
)  # fmt: skip
