"""A short slice of the soak, and the soak's own promises to those who run it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.soak import __main__ as soak_program
from tools.soak.readers import Pattern, Tally

ROOT = Path(__file__).resolve().parents[3]
SOAK = (sys.executable, "-m", "tools.soak")


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def running_commands() -> Iterator[bytes]:
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit():
            with contextlib.suppress(OSError):
                yield (directory / "cmdline").read_bytes()


@pytest.mark.parametrize("backend", ["asyncio", "uvloop", "trio"])
def test_a_slice_of_the_soak(backend: str) -> None:
    """C-3, C-21, C-25, C-26, C-29, C-67, C-69: random children, subscribers and cancels: sums exact, nothing left, memory flat."""
    done = subprocess.run(
        [*SOAK, "--minutes", "0.1", "--seed", "3", "--backend", backend],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "good: " in done.stdout


@pytest.mark.parametrize("backend", ["asyncio", "uvloop", "trio"])
def test_a_slice_of_the_soak_of_endings(backend: str) -> None:
    """C-80, C-82: hosts killed at random moments, guarded and strict: nobody is left a second later."""
    done = subprocess.run(
        [*SOAK, "endings", "--kills", "2", "--trees", "2", "--seed", "3", "--wait-s", "10", "--backend", backend],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 survivors" in done.stdout


def test_a_failing_round_says_how_to_repeat_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """C-25: the command has the seed and the back end of that very round."""
    seeds: list[str] = []

    async def soak_round(seed: str, *_: object) -> object:
        seeds.append(seed)
        if len(seeds) == 1:
            return Tally()
        raise AssertionError("a byte is missing")

    monkeypatch.setattr(soak_program, "soak_round", soak_round)
    monkeypatch.setattr(soak_program, "own_objects", lambda: 0)

    assert soak_program.main(["--seed", "9"]) == 1
    said = capsys.readouterr().err
    assert "a byte is missing" in said
    assert "./run soak --rounds 1 --seed 9.1 --backend uvloop" in said
    seeds.clear()
    seeds.append("the first one fails too")
    assert soak_program.main(["--rounds", "1", "--seed", "9.1", "--backend", "uvloop"]) == 1
    assert seeds[1:] == ["9.1"]


@pytest.mark.parametrize("backend", ["asyncio", "uvloop", "trio"])
def test_an_interrupt_stops_it_and_leaves_nothing(backend: str) -> None:
    """C-67: Ctrl-C in the middle of a round: a summary, status 130, and no process of the round is left."""
    seed = f"4-{backend}"
    command = [*SOAK, "--seed", seed, "--backend", backend]
    soak = subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True)
    assert soak.stdout is not None
    assert f"seed {seed}" in soak.stdout.readline()
    while not Path(f"/proc/{soak.pid}/task/{soak.pid}/children").read_text():
        assert soak.poll() is None
    soak.send_signal(signal.SIGINT)
    said, _ = soak.communicate(timeout=60)

    assert soak.returncode == 130
    assert "stopped: " in said
    assert not [command for command in running_commands() if f"{seed}.0/one_".encode() in command]


def test_the_pattern_is_right_at_every_offset() -> None:
    """C-20: what the soak compares with is one sequence, however it is cut."""
    pattern = Pattern()
    whole = pattern.at(0, 200_000)
    assert len(whole) == 200_000
    for start, stop in ((0, 0), (1, 2), (65_520, 65_522), (65_521, 131_042), (3, 199_999)):
        assert pattern.at(start, stop) == whole[start:stop]
