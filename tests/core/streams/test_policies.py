"""What a caller may decide, and what is refused where it is said."""

from __future__ import annotations

import copy
import pickle
import signal
from collections.abc import Callable
from typing import Any

import pytest

from procflow.events import Cut, CutLine
from procflow.policies import (
    BestEffort,
    LineConfig,
    Phase,
    Reliable,
    Replay,
    Retention,
    Shutdown,
    StreamConfig,
    Target,
)

NAN = float("nan")
TERM = signal.SIGTERM


@pytest.mark.parametrize(
    ("make", "values", "name"),
    [
        (BestEffort, {"loss": "drop_oldest"}, "loss"),
        (BestEffort, {"buffer_bytes": True}, "buffer_bytes"),
        (BestEffort, {"buffer_bytes": None}, "buffer_bytes"),
        (Reliable, {"buffer_bytes": 1.5}, "buffer_bytes"),
        (Reliable, {"buffer_bytes": 0}, "buffer_bytes"),
        (Reliable, {"on_stall": "detach"}, "on_stall"),
        (Reliable, {"stall_timeout_s": NAN}, "stall_timeout_s"),
        (Reliable, {"stall_timeout_s": 0}, "stall_timeout_s"),
        (Reliable, {"stall_timeout_s": "5"}, "stall_timeout_s"),
        (Replay, {"retention": "all"}, "retention"),
        (Replay, {"retention": Retention.LAST_BYTES, "bound": 1.0}, "bound"),
        (Replay, {"retention": Retention.LAST_CHUNKS}, "bound"),
        (StreamConfig, {"replay": 5}, "replay"),
        (StreamConfig, {"read_bytes": "64k"}, "read_bytes"),
        (LineConfig, {"max_line_bytes": 80.0}, "max_line_bytes"),
        (LineConfig, {"overflow": "split"}, "overflow"),
        (LineConfig, {"delimiter": "\n"}, "delimiter"),
        (LineConfig, {"delimiter": b""}, "delimiter"),
        (LineConfig, {"encoding": "no such codec"}, "encoding"),
        (LineConfig, {"encoding": "rot13"}, "encoding"),
        (LineConfig, {"encoding": None}, "encoding"),
        (LineConfig, {"errors": "nope"}, "errors"),
        (LineConfig, {"errors": "xmlcharrefreplace"}, "errors"),
        (LineConfig, {"errors": None}, "errors"),
        (Phase, {"signal": TERM, "wait_s": NAN}, "wait_s"),
        (Phase, {"signal": TERM, "wait_s": -1}, "wait_s"),
        (Phase, {"signal": TERM, "wait_s": True}, "wait_s"),
        (Phase, {"signal": TERM, "wait_s": 1, "to": "leader"}, "to"),
        (Phase, {"signal": "SIGTERM", "wait_s": 1}, "signal"),
        (Phase, {"signal": 0, "wait_s": 1}, "signal"),
        (Phase, {"signal": 999, "wait_s": 1}, "signal"),
        (Shutdown, {"phases": [TERM]}, "phases"),
        (Shutdown, {"phases": Phase(signal=TERM, wait_s=1)}, "phases"),
        (Shutdown, {"kill_wait_s": NAN}, "kill_wait_s"),
        (Shutdown, {"first_wait_s": -1}, "first_wait_s"),
        (Shutdown, {"first": "quit"}, "first"),
    ],
)
def test_a_policy_refuses_a_wrong_value_where_it_is_given(
    make: Callable[..., object], values: dict[str, Any], name: str
) -> None:
    """C-23, C-24, C-40, C-64: a value of a wrong kind or range is refused by name, not carried to where it has no effect."""
    with pytest.raises((TypeError, ValueError), match=rf"\b{name}\b"):
        make(**values)


def test_an_enum_parameter_says_what_is_allowed() -> None:
    """C-24: the error of a wrong choice lists the right ones."""
    with pytest.raises(TypeError, match="Loss .DROP_OLDEST, DROP_NEWEST, LATEST_ONLY., not 'drop_oldest'"):
        BestEffort(loss="drop_oldest")  # type: ignore[arg-type]  # the subject of the test


@pytest.mark.parametrize(
    "errors", ["strict", "replace", "ignore", "backslashreplace", "surrogateescape", "surrogatepass"]
)
def test_every_error_handler_of_python_that_decodes_is_allowed(errors: str) -> None:
    """C-40: any codec and error handler by option."""
    assert LineConfig(encoding="utf-16-le", errors=errors).errors == errors


def test_a_shutdown_takes_any_sequence_and_a_signal_by_number() -> None:
    """C-64: phases are a list or a tuple, signals a member or a number; both are stored in one form."""
    phase = Phase(signal=15, wait_s=1)  # type: ignore[arg-type]  # numbers are taken too

    assert phase.signal is signal.SIGTERM
    assert Shutdown(phases=[phase]) == Shutdown(phases=(Phase(signal=TERM, wait_s=1.0, to=Target.GROUP),))
    assert hash(Shutdown(phases=[phase])) == hash(Shutdown(phases=(phase,)))


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda line: pickle.loads(pickle.dumps(line))])
def test_a_cut_line_can_be_copied_and_pickled(duplicate: Callable[[CutLine], CutLine]) -> None:
    """C-41: a cut line crosses process boundaries with what it says about itself."""
    line = CutLine("text", cut=Cut.TRUNCATED, lost_bytes=7)

    same = duplicate(line)

    assert type(same) is CutLine
    assert (str(same), same.cut, same.lost_bytes) == ("text", Cut.TRUNCATED, 7)
