"""Many records in one directory: the list of them, which of them go, and how."""

from __future__ import annotations

import fcntl
import gzip
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procflow.record import ListedRecord, RecordState, Retention, load, prune, records_in
from procflow.record.retention.choice import chosen
from procflow.record.retention.listing import END_BYTES
from tests.core.record.sample import LINES, RECORD, header, job_finished, lines_of, sample, stamp_all
from tests.core.record.writers import record_writer

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="flock is needed")

NOW_MS = 1_800_000_000_000
HOUR_MS = 3_600_000


def put(root: Path, name: str, content: bytes = RECORD, *, hours_ago: float = 0, log_bytes: int = 0) -> Path:
    """Write a record that was last used some hours before ``NOW_MS``."""
    directory = root / name
    (directory / "jobs" / "build").mkdir(parents=True)
    (directory / "jobs" / "build" / "sh-0001.log").write_bytes(b"x" * log_bytes)
    file = directory / "events.jsonl"
    file.write_bytes(content)
    at_ns = int(NOW_MS - hours_ago * HOUR_MS) * 1_000_000
    os.utime(file, ns=(at_ns, at_ns))
    return directory


def names(records: Sequence[ListedRecord]) -> list[str]:
    return [Path(record.path).name for record in records]


def everything(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


class TestListing:
    def test_what_each_record_is(self, tmp_path: Path) -> None:
        """RR-102: id, name, state, start, end, outcome and size of each, in the order of their names."""
        put(tmp_path, "b-finished", log_bytes=1000, hours_ago=3)
        put(tmp_path, "a-crashed", b"".join(LINES[:9]) + b"torn")
        (tmp_path / "c-running").mkdir()
        with record_writer(tmp_path / "c-running" / "events.jsonl") as writer:
            writer.write(LINES[0])
            crashed, finished, running = records_in(tmp_path)

        assert (crashed.state, crashed.outcome, crashed.finished_at_ms) == (RecordState.CRASHED, "lost", None)
        assert (running.state, running.outcome, running.is_locked) == (RecordState.RUNNING, None, True)
        view = load(tmp_path / "b-finished")
        assert finished == ListedRecord(
            path=str(tmp_path / "b-finished"),
            state=RecordState.FINISHED,
            run_id=view.run.run_id,
            name="nightly",
            started_at_ms=view.run.started_at_ms,
            finished_at_ms=view.run.finished_at_ms,
            outcome="cancelled",
            size_bytes=len(RECORD) + 1000,
            used_at_ms=NOW_MS - 3 * HOUR_MS,
        )

    def test_one_that_cannot_be_read_is_listed(self, tmp_path: Path) -> None:
        """RR-102: foreign text, another release and a broken link are no reason to list nothing."""
        put(tmp_path, "1", b"foreign text\n")
        put(tmp_path, "2", b'{"type":"run_started","format":[2,0]}\n')
        put(tmp_path, "3").joinpath("events.jsonl").unlink()
        (tmp_path / "3" / "events.jsonl").symlink_to("nowhere")
        put(tmp_path, "4")

        found = records_in(tmp_path)

        assert [record.state is RecordState.UNREADABLE for record in found] == [True, True, True, False]
        assert [record.problem for record in found] == [
            "no line of it is an event", "its format is 2.0, this release reads up to 1.0", "No such file or directory", "",
        ]  # fmt: skip

    def test_what_is_no_record_is_not_listed(self, tmp_path: Path) -> None:
        """RR-102: other directories, links to records elsewhere, files."""
        put(tmp_path, "elsewhere/run")
        (tmp_path / "link").symlink_to(tmp_path / "elsewhere" / "run")
        (tmp_path / "file").write_bytes(RECORD)
        put(tmp_path, ".removed-1-run")

        assert records_in(tmp_path) == []

    def test_long_records(self, tmp_path: Path) -> None:
        """RR-102: only the ends are read, so a record of any length is listed like a short one, damaged in the middle or not."""
        words = [header(name="n" * 2 * END_BYTES), *([job_finished("build")] * 500), sample()[-1]]
        lines = lines_of(stamp_all(words))
        put(tmp_path, "1", b"".join(lines))
        put(tmp_path, "2", b"".join(lines[:-1]))
        put(tmp_path, "3", b"".join(lines[:200]) + b"\0" * (3 << 20) + b"\n" + b"".join(lines[200:]) + b"\n")
        put(tmp_path, "4").joinpath("events.jsonl").unlink()
        (tmp_path / "4" / "events.jsonl.gz").write_bytes(gzip.compress(b"".join(lines)))

        found = records_in(tmp_path)

        assert [record.state.value for record in found] == ["finished", "crashed", "finished", "finished"]
        assert {len(record.name or "") for record in found} == {2 * END_BYTES}

    @pytest.mark.parametrize("kept", range(0, len(LINES) + 1, 3))
    def test_like_load(self, tmp_path: Path, kept: int) -> None:
        """RR-43, RR-102: the list and ``load()`` agree about the state, wherever the record ends."""
        put(tmp_path, "run", b"".join(LINES[:kept]))

        (found,) = records_in(tmp_path)

        assert found.state is load(tmp_path / "run").state

    def test_listing_is_no_use(self, tmp_path: Path) -> None:
        """RR-102: a record that is only listed stays as long unused as it was."""
        put(tmp_path, "run", hours_ago=48)

        for _ in range(3):
            (found,) = records_in(tmp_path)
            assert found.used_at_ms == NOW_MS - 48 * HOUR_MS

    def test_nobody_is_disturbed(self, tmp_path: Path) -> None:
        """RR-47, RR-102: listing writes nothing."""
        put(tmp_path, "run")
        before = {path: path.stat() for path in tmp_path.rglob("*")}

        records_in(tmp_path)

        assert {path: path.stat() for path in tmp_path.rglob("*")} == before


RECORDS = st.lists(
    st.builds(
        ListedRecord,
        path=st.uuids().map(str),
        state=st.sampled_from(RecordState),
        size_bytes=st.integers(0, 100),
        used_at_ms=st.integers(0, 100_000),
        is_locked=st.booleans(),
    ),
    max_size=12,
)
BOUNDS = st.none() | st.integers(0, 100)


class TestChoice:
    @given(RECORDS, BOUNDS, BOUNDS, BOUNDS)
    def test_within_the_bounds(
        self, records: list[ListedRecord], max_records: int | None, max_age_s: int | None, max_bytes: int | None
    ) -> None:
        """RR-102: what stays is within every bound, or may not go; nothing goes without need, the least recently used first."""
        now_ms = 100_000
        retention = Retention(max_records=max_records, max_age_s=max_age_s, max_bytes=max_bytes)

        going = chosen(records, retention, now_ms=now_ms)

        assert all(record.may_go for record in going)
        assert [record.used_at_ms for record in going] == sorted(record.used_at_ms for record in going)
        staying = [record for record in records if record not in going and record.state is not RecordState.UNREADABLE]
        free = [record for record in staying if record.may_go]
        if free:
            assert max_records is None or len(staying) <= max_records
            assert max_bytes is None or sum(record.size_bytes for record in staying) <= max_bytes
            assert max_age_s is None or all(now_ms - record.used_at_ms <= max_age_s * 1000 for record in free)
        if going:
            last = going[-1]
            assert (
                (max_records is not None and len(staying) + 1 > max_records)
                or (
                    max_bytes is not None and sum(record.size_bytes for record in staying) + last.size_bytes > max_bytes
                )
                or (max_age_s is not None and now_ms - last.used_at_ms > max_age_s * 1000)
            )

    def test_what_runs_and_what_is_locked_stays(self) -> None:
        """RR-102: running runs and locked records are never removed, whatever the bounds; nor what was not understood."""
        records = [
            ListedRecord(path="1", state=RecordState.RUNNING),
            ListedRecord(path="2", state=RecordState.FINISHED, is_locked=True),
            ListedRecord(path="3", state=RecordState.UNREADABLE),
            ListedRecord(path="4", state=RecordState.CRASHED),
        ]

        assert names(chosen(records, Retention(max_records=0, max_age_s=0, max_bytes=0), now_ms=NOW_MS)) == ["4"]

    def test_no_bound_removes_nothing(self) -> None:
        """RR-102: an empty retention keeps everything."""
        assert chosen([ListedRecord(path="1", state=RecordState.FINISHED)], Retention(), now_ms=NOW_MS) == []

    @pytest.mark.parametrize("bound", ["max_records", "max_age_s", "max_bytes"])
    def test_a_negative_bound(self, bound: str) -> None:
        """RR-102: is a mistake."""
        with pytest.raises(ValueError, match=bound):
            Retention(**{bound: -1})


class TestPruning:
    @pytest.mark.parametrize(
        ("retention", "left"),
        [
            (Retention(max_records=2), ["c", "d"]),
            (Retention(max_age_s=3.5 * 3600), ["b", "c", "d"]),
            (Retention(max_bytes=len(RECORD) * 2 + 150), ["c", "d"]),
            (Retention(max_records=3, max_age_s=2.5 * 3600), ["c", "d"]),
            (Retention(max_records=0), []),
        ],
    )
    def test_by_count_age_and_bytes(self, tmp_path: Path, retention: Retention, left: list[str]) -> None:
        """RR-102: whole directories go, the least recently used first; a dry run says the same and changes nothing."""
        for number, name in enumerate("dcba"):
            put(tmp_path, name, hours_ago=number + 1, log_bytes=50)
        before = everything(tmp_path)

        foretold = prune(tmp_path, retention, dry_run=True, now_ms=NOW_MS)
        assert everything(tmp_path) == before
        done = prune(tmp_path, retention, now_ms=NOW_MS)

        assert foretold == done
        assert os.listdir(tmp_path) == [] or sorted(os.listdir(tmp_path)) == left
        assert names(done.removed) == sorted(set("abcd") - set(left))
        assert (done.kept, done.unfinished) == ((), ())

    def test_a_running_record_stays(self, tmp_path: Path) -> None:
        """RR-102: also one whose run is finished and whose writer has not let go of it."""
        for name, content in (("running", LINES[0]), ("finished", RECORD)):
            (tmp_path / name).mkdir()
            with record_writer(tmp_path / name / "events.jsonl") as writer:
                writer.write(content)
                assert prune(tmp_path, Retention(max_records=0)).removed == ()
                assert (tmp_path / name / "events.jsonl").read_bytes() == content
                writer.kill()
                assert names(prune(tmp_path, Retention(max_records=0)).removed) == [name]

    @pytest.mark.parametrize("what", ["events.jsonl", "."])
    def test_a_locked_record_stays(self, tmp_path: Path, what: str) -> None:
        """RR-102: whoever has a lock on the file, of any kind, or on the directory, keeps the record, in a dry run too."""
        put(tmp_path, "a", hours_ago=2)
        put(tmp_path, "b", hours_ago=1)
        fd = os.open(tmp_path / "a" / what, os.O_RDONLY)
        try:
            fcntl.flock(fd, fcntl.LOCK_SH)
            foretold = prune(tmp_path, Retention(max_records=0), dry_run=True)
            done = prune(tmp_path, Retention(max_records=0))
        finally:
            os.close(fd)

        assert foretold == done
        assert (names(done.removed), names(done.kept)) == (["b"], ["a"])
        assert os.listdir(tmp_path) == ["a"]

    def test_a_crash_between_renaming_and_deleting(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """RR-102: nobody lists what is left of a removal, and the next one finishes it."""
        put(tmp_path, "a")
        put(tmp_path, "b")

        def die(path: str, **more: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(shutil, "rmtree", die)
            with pytest.raises(KeyboardInterrupt):
                prune(tmp_path, Retention(max_records=1))
        assert len(os.listdir(tmp_path)) == 2
        assert names(records_in(tmp_path)) == ["b"]

        foretold = prune(tmp_path, Retention(), dry_run=True)
        assert [Path(path).name.partition("-")[0] for path in foretold.unfinished] == [".removed"]
        done = prune(tmp_path, Retention())

        assert (done.removed, done.unfinished) == ((), ())
        assert os.listdir(tmp_path) == ["b"]

    def test_what_cannot_be_deleted(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """RR-102: it is told, and no error."""
        put(tmp_path, "a")
        monkeypatch.setattr(shutil, "rmtree", lambda path, **more: None)

        done = prune(tmp_path, Retention(max_records=0))

        assert names(done.removed) == ["a"]
        assert [os.path.exists(path) for path in done.unfinished] == [True]

    @pytest.mark.parametrize(
        "meanwhile",
        [
            pytest.param(shutil.rmtree, id="removed"),
            pytest.param(lambda path: (path / "events.jsonl").unlink(), id="emptied"),
        ],
    )
    def test_somebody_else_removes_it_too(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[Path], object]
    ) -> None:
        """RR-102: two at once do not fail."""
        put(tmp_path, "a", hours_ago=2)
        put(tmp_path, "b", hours_ago=1)

        def and_then(root: str) -> list[ListedRecord]:
            found = records_in(root)
            meanwhile(tmp_path / "a")
            return found

        monkeypatch.setattr("procflow.record.retention.pruning.records_in", and_then)

        done = prune(tmp_path, Retention(max_records=0))

        assert (names(done.removed), names(done.kept)) == (["b"], ["a"])
