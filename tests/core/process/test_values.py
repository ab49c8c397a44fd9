"""Everything that the package hands out or raises crosses process pools."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import operator
import pathlib
import pickle
from datetime import UTC, datetime

import pytest

import procflow as pf
from procflow._process.near_name import distance, near_program
from procflow._process.run import _timeout_text
from procflow.testing import LeakError
from tests.core.process.test_observability import samples

OUTCOME = pf.Outcome(
    name="x",
    pid=5,
    exit_code=3,
    signal=None,
    core_dumped=False,
    ended_by=pf.EndedBy.TIMEOUT,
    started_at=datetime.now(UTC),
    ended_at=datetime.now(UTC),
    started_mono_s=1.0,
    ended_mono_s=2.0,
    usage=pf.ResourceUsage(user_s=1.0, system_s=0.5, max_rss_bytes=9),
    phases=(pf.PhaseReport(signal=None, to=pf.Target.GROUP, took_s=0.1, ended=False, error="raised OSError"),),
    stderr_tail=b"line\n",
)
OUT = pf.Captured(bytes=b"out", lost_bytes=2)
UNDECODED = pf.UndecodedLine(text="x", offset=5, reason="malformed")
WRITTEN = pf.Written(bytes_written=5, files=(pathlib.Path("x.log"),))
CONSUMED: pf.Consumed[object] = pf.Consumed(name="c", value=WRITTEN, ending=pf.ConsumerEnding.EOF, start=0, stop=5)

ERRORS: list[BaseException] = [
    pf.InputError("text", fed_bytes=5, outcome=OUTCOME, stdout=OUT),
    pf.ProcflowError("text"),
    pf.UsageError("text"),
    pf.ChildError("text"),
    pf.PlatformError("text"),
    pf.ClosedError("text"),
    pf.HistoryLostError(stream_name="s", start=1, stop=5),
    pf.StallError(stream_name="s", stall_timeout_s=1.5),
    pf.LineTooLongError(stream_name="s", max_line_bytes=5, offset=9),
    pf.LinesLostError(stream_name="s", lost_bytes=4),
    pf.StreamReadError(stream_name="s", reason="EIO"),
    pf.StreamClosedError(stream_name="s"),
    pf.SpawnError(program="gti", reason="none", cwd="/", suggestion="git", errno=2),
    pf.EndedError("text", outcome=OUTCOME),
    pf.ExitError("text", outcome=OUTCOME, stdout=OUT, stderr=OUT),
    pf.TimedOut("text", clock="wall", timeout_s=5.0, outcome=OUTCOME, stdout=OUT, stderr=OUT),
    pf.NotReadyError(stream_name="s", outcome=OUTCOME, tail=b"tail"),
    pf.SpillError(stream_name="s", path="/srv/x", reason="full", errno=28),
    pf.JsonLineError(stream_name="s", line=UNDECODED),
    pf.ConsumerError(consumer_name="c", stream_name="s", finish_s=5.0, result=CONSUMED),
    pf.TerminationError(process_name="x", survivors=["pid 5"], attempts=["SIGKILL"], outcome=OUTCOME),
    pf.DescriptorLimitError(needed=10, limit=64, open_now=60),
    pf.ServiceFailed("was started too often", service_name="x", history=[pf.ServiceRun(number=1, outcome=OUTCOME)]),
    LeakError(["descriptor 5"]),
]

VALUES: list[object] = [
    pf.Command("git", b"-C", "/srv", cwd="/", env={"A": "1", "B": None}, name="fetch", umask=0o22, pass_fds=[5]),
    pf.shell("a | b"),
    pf.Shutdown.orderly(),
    pf.Phase(signal=15, wait_s=1.0),  # type: ignore[arg-type]  # a number will do
    pf.StreamConfig(),
    pf.Replay.last_bytes(5),
    pf.BestEffort(),
    pf.Reliable(),
    pf.LineConfig(),
    pf.Pty(rows=50),
    pf.Command("a") | pf.Command("b"),
    OUTCOME,
    OUT,
    pf.Completed(outcome=OUTCOME, stdout=OUT, stderr=OUT),
    pf.Containment(requested="guarded", level="group", missing=("no guard",)),
    pf.Guarded(marks_environment=False),
    pf.Strict(user="nobody", nice=3, limits={"nofile": 64}),
    pf.Chunk(b"x", 5),
    pf.Gap(1, 5),
    pf.LineMatch(text="x", groups=("a", None), named={"n": "a"}, start=7, stop=9),
    pf.Redaction(values=("hunter2",)),
    pf.Tagged("stderr", "line"),
    UNDECODED,
    WRITTEN,
    CONSUMED,
    pf.Collect.ends(head_bytes=5, tail_bytes=5),
    pf.CollectLines.tail(5),
    pf.CapturedLines(head=("a", pf.Gap(1, 5))),
    pf.Rotation(max_bytes=5),
    pf.WaitFor("ready"),
    pf.Write("x.log", rotation=pf.Rotation(max_bytes=5)),
    pf.Inspect.lines(print),
    pf.Fold.lines("", operator.add),
    pf.NULL,
    pf.ProcessState.ENDED,
    pf.Restart.on_failure(max_restarts=3),
    pf.Restarted(number=2, outcome=OUTCOME),
    pf.ServiceRun(number=1, outcome=OUTCOME, was_ready=True),
    pf.MapResult(index=3, command=pf.Command("true"), completed=pf.Completed(outcome=OUTCOME, stdout=OUT, stderr=OUT)),
    *samples(),
]


@pytest.mark.parametrize("way", [lambda x: pickle.loads(pickle.dumps(x)), copy.copy, copy.deepcopy])
class TestPortable:
    @pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
    def test_errors_keep_everything(self, way: object, error: BaseException) -> None:
        """C-62: an error crosses a process pool with its message, its attributes and its notes, each once (TPT 18)."""
        error = copy.copy(error)
        error.add_note("added later")

        other = way(error)  # type: ignore[operator]

        assert type(other) is type(error)
        assert (str(other), other.args, other.__dict__) == (str(error), error.args, error.__dict__)
        assert other.__notes__.count("added later") == 1

    @pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
    def test_values_stay_equal(self, way: object, value: object) -> None:
        """C-1, C-62: commands, policies and results cross a process pool unchanged."""
        assert way(value) == value  # type: ignore[operator]


def test_no_public_error_or_value_is_left_out() -> None:
    """C-62: what is added to the public face is added to these tests."""
    public = [getattr(pf, name) for name in pf.__all__]
    classes = [thing for thing in public if inspect.isclass(thing)]
    wanted = {c for c in classes if issubclass(c, BaseException) or (dataclasses.is_dataclass(c))}
    # Statistics hold numbers and texts only and are tested where they are made.
    wanted = {c for c in wanted if not c.__name__.endswith("Statistics")}
    wanted -= {pf.SinkFailure}  # told to a callback in place, with the very exception that was raised

    missing = wanted - {type(thing) for thing in [*ERRORS, *VALUES, *OUTCOME.phases, OUTCOME.usage]}

    assert not missing


@pytest.mark.parametrize(
    ("left", "right", "mistakes"),
    [("gti", "git", 1), ("git", "git", 0), ("", "ab", 2), ("pyhton3", "python3", 1), ("kitten", "sitting", 3)],
)
def test_distance_of_names(left: str, right: str, mistakes: int) -> None:
    """C-4: letters put in, left out, replaced, or swapped with their neighbour count one each."""
    assert distance(left, right) == distance(right, left) == mistakes


@pytest.mark.parametrize(
    ("typed", "meant"), [("gti", "git"), ("pyhton3", "python3"), ("sl", "ls"), ("git-", "git"), ("zzzzzz", None)]
)
def test_near_program(tmp_path: object, typed: str, meant: str | None) -> None:
    """C-4: swapped letters win; what cannot be executed is not suggested."""
    folder = pathlib.Path(str(tmp_path))
    for name in ("git", "gtf", "ti", "gtx", "python3", "ls", "sh", "l"):
        (folder / name).touch(mode=0o755)
    (folder / "gtz").touch(mode=0o644)
    (folder / "gta").mkdir()

    assert near_program(typed, f"/no/such/folder:{folder}") == meant


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: pf.Command("echo", "fine", "secret\ud800"), "argument 2"),
        (lambda: pf.Command("echo\ud800"), "the program"),
        (lambda: pf.Command("echo", env={"TOKEN": "secret\ud800"}), "'TOKEN'"),
    ],
)
def test_texts_that_cannot_be_encoded_are_named_not_shown(make: object, what: str) -> None:
    """C-1, C-2: a lone surrogate is refused where it is written; the message says which text, not what it holds."""
    with pytest.raises(ValueError, match=what) as caught:
        make()  # type: ignore[operator]

    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is caught.value.__context__ is None


def test_with_refuses_unknown_changes() -> None:
    """C-1: a misspelt keyword of with_() is an error, not ignored."""
    with pytest.raises(TypeError, match="'environment'"):
        pf.Command("x").with_(environment={"A": "1"})  # type: ignore[call-arg]  # the point of the test


@pytest.mark.parametrize(
    ("ended_by", "text"),
    [
        (pf.EndedBy.TIMEOUT, "x took longer than 5 s and was stopped: it exited with 3 (timeout)"),
        (pf.EndedBy.ITSELF, "x took longer than 5 s, although its leader exited with 3"),
    ],
)
def test_timeout_texts(ended_by: pf.EndedBy, text: str) -> None:
    """C-63: the message of a deadline does not read as if the process had ended by itself in time."""
    assert _timeout_text(dataclasses.replace(OUTCOME, ended_by=ended_by), "wall", 5.0) == text
