"""Whether a young leader is alone: an answer that may be missing, and may not be wrong."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable

import pytest

from procflow._containment.group import newborn
from procflow._containment.group.newborn import MOST_NUMBERS, is_alone

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

LEADER = 1000


def pretend(monkeypatch: pytest.MonkeyPatch, *, cursor: Iterable[int], sessions: dict[int, int] | None = None) -> None:
    """Let the kernel have given out ``cursor`` last, at each reading, and let the processes ``sessions`` live."""
    readings, living = iter(cursor), sessions or {}

    def getsid(pid: int) -> int:
        if pid not in living:
            raise ProcessLookupError
        return living[pid]

    monkeypatch.setattr(newborn, "_read_number", lambda _fd: next(readings))
    monkeypatch.setattr(os, "getsid", getsid)
    monkeypatch.setattr(newborn, "_circle_s", lambda: 60.0)
    if not os.path.exists(newborn._CURSOR_PATH):
        monkeypatch.setattr(newborn, "_CURSOR_PATH", os.devnull)


@pytest.mark.parametrize("last", [LEADER, LEADER + 1, LEADER + MOST_NUMBERS])
def test_a_leader_is_alone_if_nobody_with_a_later_number_is_in_its_session(
    monkeypatch: pytest.MonkeyPatch, last: int
) -> None:
    """C-65: a group is known to be empty without a pass, while strangers are born beside it."""
    pretend(monkeypatch, cursor=[last, last], sessions={LEADER + 1: 77, LEADER - 1: LEADER})

    assert is_alone(LEADER, begun_mono_s=time.monotonic())


@pytest.mark.parametrize(
    ("cursor", "sessions"),
    [
        pytest.param([1002, 1002], {1002: LEADER}, id="a member lives"),
        pytest.param([1002, 1003], {}, id="somebody was born meanwhile"),
        pytest.param([1001 + MOST_NUMBERS] * 2, {}, id="too many to ask"),
        pytest.param([999, 999], {}, id="the numbers began again"),
    ],
)
def test_nothing_is_known_if_a_member_lives_or_could_be_missed(
    monkeypatch: pytest.MonkeyPatch, cursor: list[int], sessions: dict[int, int]
) -> None:
    """C-65: whatever leaves room for a member leaves the question to the pass over /proc."""
    pretend(monkeypatch, cursor=cursor, sessions=sessions)

    assert not is_alone(LEADER, begun_mono_s=time.monotonic())


def test_nothing_is_known_of_a_leader_so_old_that_numbers_may_have_come_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """C-65: an old leader can have a member with a lower number."""
    pretend(monkeypatch, cursor=[LEADER, LEADER])

    assert not is_alone(LEADER, begun_mono_s=time.monotonic() - 61)


def test_nothing_is_known_if_a_process_may_not_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """C-65: a refusal is no answer."""
    pretend(monkeypatch, cursor=[LEADER + 1, LEADER + 1])

    def refuse(_pid: int) -> int:
        raise PermissionError

    monkeypatch.setattr(os, "getsid", refuse)

    assert not is_alone(LEADER, begun_mono_s=time.monotonic())


def test_a_leader_that_left_somebody_behind_is_never_alone() -> None:
    """C-65: real children, each of which leaves a member of its group behind, in all the ways that a shell knows."""
    for text in ("sleep 60 & exit 0", "(sleep 60 &) ; exit 0", "(sleep 60; true) & exit 0"):
        for _ in range(5):
            begun = time.monotonic()
            with subprocess.Popen(["sh", "-c", text], start_new_session=True) as leader:
                os.waitid(os.P_PID, leader.pid, os.WEXITED | os.WNOWAIT)
                try:
                    assert not is_alone(leader.pid, begun_mono_s=begun)
                finally:
                    os.killpg(leader.pid, 9)
