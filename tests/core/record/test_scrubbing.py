"""Secrets taken out of records that are over."""

from __future__ import annotations

import base64
import contextlib
import gzip
import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from procflow.record import (
    CallKey,
    ErrorInfo,
    JobDeclared,
    JobFinished,
    JobStarted,
    Note,
    RecordBusyError,
    RecordEvent,
    RecordState,
    RunFinished,
    ShFinished,
    ShStarted,
    Totals,
    UnreadableRecordError,
    load,
    open_run,
    read_events,
    scrub,
)
from procflow.record.cutting import MAX_LINE_BYTES, fit
from procflow.record.logs import CallLog, Dropped, LogItem, LogLine, LogStream, log_path, read_log, read_output
from procflow.record.logs.format import MAX_FRAGMENT_BYTES, decode_line
from procflow.record.logs.splitter import LineSplitter
from procflow.record.reading.holding import held_record
from procflow.record.redaction import RedactionRules, Redactor, Secret
from procflow.record.redaction.needles import forms_of
from procflow.record.scrubbing.outputs import hidden_parts, scrubbed_lines
from procflow.record.text import words
from tests.core.record.runs import the_run_in
from tests.core.record.sample import CODEC, LINES, RECORD, header, stamp_all
from tests.core.record.writers import record_writer

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="flock is needed")

VALUE = "Corr3ct horse/battery\"staple'"
SECRET = Secret(VALUE, name="canary")
MARKER = "<redacted:canary>"
OUT, ERR = LogStream.STDOUT, LogStream.STDERR
JOB = f"deploy {VALUE}"


def events_of(*middle: RecordEvent) -> list[RecordEvent]:
    end = RunFinished(outcome="failed", duration_ns=5, totals=Totals(jobs=1, sh=1, dropped=0, redacted=0))
    return list(stamp_all([header(meta={"token": VALUE, "why": "cron"}), *middle, end]))  # type: ignore[list-item]


def call(job_id: str, *argv: str | bytes, sh: int = 1, **more: Any) -> ShStarted:
    shown = words(argv)
    return ShStarted(
        job_id=job_id, attempt=1, sh=sh, argv=shown.readable, argv_b64=shown.in_base64, cmd=" ".join(shown.readable),
        cwd="/src", log=log_path(job_id, attempt=1, sh=sh), **more,
    )  # fmt: skip


def put(root: Path, *middle: RecordEvent) -> Path:
    directory = root / "run"
    directory.mkdir()
    (directory / "events.jsonl").write_bytes(b"".join(map(CODEC.encode, events_of(*middle))))
    return directory


def put_log(directory: Path, path: str, *writes: tuple[LogStream, bytes], cap_bytes: int | None = None) -> CallLog:
    log = CallLog(str(directory), path, cap_bytes=cap_bytes)
    for number, (stream, data) in enumerate(writes):
        log.append(stream, data, at_ns=number, mono_ns=number)
        log.flush_idle(number + 10**9)
    return log


def everything(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def assert_no_canary(directory: Path) -> None:
    forms = forms_of(VALUE.encode())
    for path in directory.rglob("*"):
        assert quote(VALUE, safe="").lower() not in str(path).lower()
        content = path.read_bytes() if path.is_file() else b""
        assert not [form for form in forms if form in content], path


def output_of(path: Path, stream: LogStream) -> bytes:
    return b"".join(piece for piece in read_output(str(path), stream) if isinstance(piece, bytes))


class TestEverywhere:
    def test_a_canary(self, tmp_path: Path) -> None:
        """RR-83: a secret in every kind of text, and in the id of a job, is in no file and no name afterwards."""
        directory = put(
            tmp_path,
            JobDeclared(job_id=JOB, after=(JOB, "a")),
            JobStarted(job_id=JOB, attempt=1),
            call(JOB, "psql", f"--password={VALUE}", quote(VALUE), base64.b64encode(b"user:" + VALUE.encode()).decode()),
            call(JOB, "psql", b"\xff" + VALUE.encode(), sh=2),
            call("plain", f"echo '{VALUE}'", shell=True),
            Note(key="deploy.url", value={"url": [f"https://x:{quote(VALUE, safe='')}@h/"], VALUE: 1}, job_id=JOB),
            ShFinished(
                job_id=JOB, attempt=1, sh=1, outcome="spawn_failed", duration_ns=1, stdout_bytes=0, stderr_bytes=0,
                error=ErrorInfo(type="OSError", message=f"no {VALUE}"),
            ),
            JobFinished(job_id=JOB, attempt=1, outcome="failed", duration_ns=1, error=ErrorInfo(type="E", message=VALUE)),
        )  # fmt: skip
        for job_id, sh in ((JOB, 1), (JOB, 2), ("plain", 1)):
            put_log(directory, log_path(job_id, attempt=1, sh=sh), (OUT, VALUE.encode() + b"\n"), (ERR, b"a\n")).close(
                0
            )

        done = scrub(directory, [SECRET])

        assert_no_canary(directory)
        assert (done.event_places >= 15, done.log_places, done.unsearched) == (True, 3, ())
        view = load(directory)
        assert (view.state, view.health.is_clean) == (RecordState.FINISHED, True)
        for found in view.calls.values():
            assert found.log_path is not None
            assert output_of(directory / found.log_path, OUT) == f"{MARKER}\n".encode()
        assert set(done.changed) == {found.log_path for found in view.calls.values()} | {"events.jsonl"}
        assert [found.job_id for found in view.calls.values()] == [f"deploy {MARKER}"] * 2 + ["plain"]

    def test_what_is_no_event_of_ours(self, tmp_path: Path) -> None:
        """RR-83: unknown types, unknown fields of known types, corrupt lines, lines without end, and a torn one."""
        odd = VALUE.encode()
        lines = [
            msgspec.json.encode({"type": "tomorrow", "seq": 1, "at_ms": 1, "mono_ns": 1, "deep": [{VALUE: [VALUE, 7.50]}]}),
            LINES[2].replace(b"{", b'{"news":{"who":' + msgspec.json.encode(VALUE) + b"},", 1).rstrip(),
            b"\xff foreign " + odd,
            b'{"type":"note",' + msgspec.json.encode(VALUE),
            b"x" * (5 << 20) + odd + b"y" * (2 << 20),
            b"",
            LINES[3].rstrip(),
        ]  # fmt: skip
        file = tmp_path / "events.jsonl"
        file.write_bytes(LINES[0] + b"\n".join(lines) + b"\n" + b'{"type":"note","key":' + msgspec.json.encode(VALUE))

        before = list(read_events(file))
        done = scrub(file, [SECRET])

        assert_no_canary(tmp_path)
        assert done.event_places == 7
        after = list(read_events(file))
        assert [line.head.seq for line in after] == [line.head.seq for line in before]
        assert b'"news":{"who":"<redacted:canary>"}' in after[2].raw
        assert msgspec.json.decode(after[1].raw)["deep"] == [{MARKER: [MARKER, 7.5]}]

    def test_without_a_secret_nothing_is_touched(self, tmp_path: Path) -> None:
        """RR-83: a file in which nothing is found is the same file."""
        file = tmp_path / "events.jsonl"
        file.write_bytes(b"".join(LINES[:9]) + b'foreign\n\n{"type":"x", "seq":9, "at_ms":1,"mono_ns":1e0}\ntorn')
        put_log(tmp_path, "jobs/build/sh-0001.log", (OUT, b"all is well\n"), (ERR, b"no newline")).close(0)
        before = {path: path.stat() for path in tmp_path.rglob("*") if path.is_file()}

        done = scrub(tmp_path, [SECRET])

        assert (done.event_places, done.log_places, done.changed) == (0, 0, ())
        after = {path: path.stat() for path in tmp_path.rglob("*") if path.is_file()}
        assert {path: (stat.st_ino, stat.st_mtime_ns) for path, stat in after.items()} == {
            path: (stat.st_ino, stat.st_mtime_ns) for path, stat in before.items()
        }

    def test_other_lines_stay(self, tmp_path: Path) -> None:
        """RR-83: numbers, times and every line without a secret stay byte for byte."""
        directory = put(tmp_path, JobStarted(job_id="a", attempt=1), Note(key="a.b", value=VALUE), call("a", "ls"))
        before = [line.raw for line in read_events(directory)]

        assert scrub(directory, [SECRET]).event_places == 2

        after = [line.raw for line in read_events(directory)]
        assert [number for number, pair in enumerate(zip(before, after, strict=True)) if pair[0] != pair[1]] == [0, 2]

    def test_twice_is_once(self, tmp_path: Path) -> None:
        """RR-77, RR-83: a second time finds nothing, and markers stay as they are."""
        directory = put(tmp_path, call(JOB, VALUE))
        put_log(directory, log_path(JOB, attempt=1, sh=1), (OUT, VALUE.encode())).close(0)
        scrub(directory, [SECRET])
        before = everything(directory)

        done = scrub(directory, [SECRET])

        assert (done.event_places, done.log_places, done.changed) == (0, 0, ())
        assert everything(directory) == before


class TestFields:
    def test_bytes_that_are_no_text(self, tmp_path: Path) -> None:
        """RR-06, RR-83: base64 is made anew of the cleaned words, so what can be read and the bytes agree."""
        directory = put(tmp_path, call("a", b"\xff-" + VALUE.encode(), b"\xfe"))

        scrub(directory, [SECRET])

        found = load(directory).calls[CallKey("a", 1, 1)]
        assert found.argv == (f"\\xff-{MARKER}", "\\xfe")
        assert found.argv_b64 is not None
        assert [base64.b64decode(word) for word in found.argv_b64] == [b"\xff-" + MARKER.encode(), b"\xfe"]

    def test_a_short_secret(self, tmp_path: Path) -> None:
        """RR-82, RR-83: it is replaced where it is a whole word, in the command too."""
        directory = put(tmp_path, call("a", "login", "hunter2", "hunter22"))

        with pytest.warns(UserWarning, match="too short"):
            scrub(directory, [Secret("hunter2", name="short")])

        found = load(directory).calls[CallKey("a", 1, 1)]
        assert found.argv == ("login", "<redacted:short>", "hunter22")
        assert found.cmd == "login '<redacted:short>' hunter22"

    def test_what_was_cut(self, tmp_path: Path) -> None:
        """RR-83, RR-100: ``cut`` says the original sizes as before, and the texts still say that they were cut."""
        cut = call("a", "x" * 300_000, VALUE, "y" * 400_000)
        line, _ = fit(events_of(cut)[1], CODEC)
        file = tmp_path / "events.jsonl"
        file.write_bytes(LINES[0] + line)
        before = load(file).calls[CallKey("a", 1, 1)]

        scrub(file, [SECRET])

        after = load(file).calls[CallKey("a", 1, 1)]
        assert after.cut == before.cut
        assert after.argv == (before.argv[0], MARKER, before.argv[2])
        assert after.cmd == before.cmd
        assert_no_canary(tmp_path)

    def test_a_line_that_becomes_too_long(self, tmp_path: Path) -> None:
        """RR-83, RR-100: markers longer than their secrets do not make a line too long."""
        value = " ".join(["12345678"] * 25_000)
        directory = put(tmp_path, Note(key="a.b", value=1), call("a", "echo", value))

        scrub(directory, [Secret("12345678", name="a-name-that-is-longer-than-its-value")])

        lines = [line.raw for line in read_events(directory)]
        assert max(map(len, lines)) < MAX_LINE_BYTES
        found = load(directory).calls[CallKey("a", 1, 1)]
        assert found.cut is not None
        assert b"12345678" not in lines[2]

    def test_a_secret_that_looks_like_the_format(self, tmp_path: Path) -> None:
        """RR-83: words and numbers of the format are no secrets; the record stays one."""
        directory = put(tmp_path, call("a", "echo", "succeeded", "run_finished", "-"))
        before = [line.head for line in read_events(directory)]

        scrub(
            directory,
            [Secret(word, name="odd") for word in ("failed--", "run_finished", "sh_started", "1767225600001")],
        )

        view = load(directory)
        assert view.state is RecordState.FINISHED
        assert [(head.seq, head.at_ms, head.mono_ns) for head in before] == [
            (line.head.seq, line.head.at_ms, line.head.mono_ns) for line in read_events(directory)
        ]
        assert "<redacted:odd>" in view.calls[CallKey("a", 1, 1)].argv

    def test_two_jobs_that_become_one(self, tmp_path: Path) -> None:
        """RR-83: their logs keep names of their own."""
        other = Secret("another-value", name="canary")
        directory = put(tmp_path, call(f"x {VALUE}", "a"), call("x another-value", "b"))
        for job_id, said in ((f"x {VALUE}", b"first"), ("x another-value", b"second")):
            put_log(directory, log_path(job_id, attempt=1, sh=1), (OUT, said)).close(0)

        scrub(directory, [SECRET, other])

        assert_no_canary(directory)
        logs = [line.event.log for line in read_events(directory) if isinstance(line.event, ShStarted)]
        assert [output_of(directory / log, OUT) for log in logs if log is not None] == [b"first", b"second"]
        assert len(os.listdir(directory / "jobs")) == 1


BITS = st.sampled_from([VALUE.encode(), VALUE.encode()[:9], VALUE.encode()[9:], b"x\n", b"\n", b"\0\xff", b"z" * 40])


def parts_of(items: list[LogItem], stream: LogStream) -> list[bytes]:
    """The bytes of a stream between the holes."""
    parts = [b""]
    for item in items:
        if isinstance(item, Dropped):
            parts.append(b"")
        elif isinstance(item, LogLine) and item.stream is stream:
            parts[-1] += item.output
    return parts


def is_same_place(one: LogItem, other: LogItem) -> bool:
    if isinstance(one, LogLine) and isinstance(other, LogLine):
        return (one.at_ns, one.stream) == (other.at_ns, other.stream)
    return one == other


class TestLogs:
    @given(
        writes=st.lists(st.tuples(st.sampled_from(LogStream), st.lists(BITS, max_size=3).map(b"".join)), max_size=20),
        holes=st.sets(st.integers(0, 20), max_size=2),
    )
    def test_each_stream_is_redacted_as_a_whole(self, writes: list[tuple[LogStream, bytes]], holes: set[int]) -> None:
        """RR-79, RR-83: however lines, pieces and the other stream divide a secret, the stream is as if it had been redacted at once."""
        splitters = {stream: LineSplitter(stream) for stream in LogStream}
        items: list[LogItem] = []
        for number, (stream, data) in enumerate(writes):
            if number in holes:
                items.append(Dropped(at_ns=number, dropped_bytes=dict.fromkeys(LogStream, 5)))
            lines = splitters[stream].feed(data, at_ns=number) + splitters[stream].flush()
            items += map(decode_line, lines.split(b"\n")[:-1])
        redactor = Redactor([SECRET], rules=RedactionRules.none())

        scrubbed = list(scrubbed_lines(items, hidden_parts(items, redactor), redactor))

        after: list[LogItem] = [decode_line(line.removesuffix(b"\n")) for line in scrubbed]
        whole = Redactor([SECRET], rules=RedactionRules.none())
        for stream in LogStream:
            assert parts_of(after, stream) == [whole.redact_bytes(part) for part in parts_of(items, stream)]
        assert redactor.statistics() == whole.statistics()
        left = iter(items)
        for item in after:  # each in its place, with its time
            assert any(is_same_place(item, other) for other in left)

    def test_a_secret_in_pieces(self, tmp_path: Path) -> None:
        """RR-79, RR-83: split by pauses and by the other stream; lines keep their times and their order."""
        (tmp_path / "events.jsonl").write_bytes(RECORD)
        value = VALUE.encode()
        put_log(
            tmp_path, "jobs/a/sh-0001.log",
            (OUT, b"before " + value[:5]), (ERR, b"meanwhile\n"), (OUT, value[5:12]), (OUT, value[12:] + b" after\n"), (OUT, b"end\n"),
        ).close(0)  # fmt: skip

        done = scrub(tmp_path, [SECRET])

        assert done.log_places == 1
        items = [
            (item.at_ns, item.stream, item.output)
            for item in read_log(str(tmp_path / "jobs/a/sh-0001.log"))
            if isinstance(item, LogLine)
        ]
        assert items == [
            (0, OUT, f"before {MARKER}".encode()), (1, ERR, b"meanwhile\n"), (3, OUT, b" after\n"), (4, OUT, b"end\n"),
        ]  # fmt: skip

    def test_fragments_stay_short(self, tmp_path: Path) -> None:
        """RR-68, RR-83: a marker that is longer than its secret makes no fragment too long to be read."""
        (tmp_path / "events.jsonl").write_bytes(RECORD)
        data = (b"12345678." * 4000) + b"\n"
        put_log(tmp_path, "jobs/a/sh-0001.log", (OUT, data)).close(0)
        secret = Secret("12345678", name="longer-than-its-value")

        scrub(tmp_path, [secret])

        items = list(read_log(str(tmp_path / "jobs/a/sh-0001.log")))
        assert all(isinstance(item, LogLine) and len(item.data) <= MAX_FRAGMENT_BYTES for item in items)
        assert output_of(tmp_path / "jobs/a/sh-0001.log", OUT) == Redactor([secret]).redact_bytes(data)

    def test_a_hole(self, tmp_path: Path) -> None:
        """RR-72, RR-83: the line that says how much is missing stays, and what is on both sides of it is not taken for one."""
        (tmp_path / "events.jsonl").write_bytes(RECORD)
        path = tmp_path / "jobs/a/sh-0001.log"
        said = [(OUT, b"%03d %b\n" % (number, VALUE.encode())) for number in range(300)]
        put_log(tmp_path, "jobs/a/sh-0001.log", *said, cap_bytes=4000).close(7)
        (hole,) = [item for item in read_log(str(path)) if isinstance(item, Dropped)]

        scrub(tmp_path, [SECRET])

        assert_no_canary(tmp_path)
        assert [item for item in read_log(str(path)) if isinstance(item, Dropped)] == [hole]
        assert output_of(path, OUT).startswith(f"000 {MARKER}\n001".encode())
        assert output_of(path, OUT).endswith(f"299 {MARKER}\n".encode())

    def test_segments_of_a_crash(self, tmp_path: Path) -> None:
        """RR-72, RR-83: a log that was never put together is one file afterwards, and says the same."""
        (tmp_path / "events.jsonl").write_bytes(b"".join(LINES[:9]))
        path = tmp_path / "jobs/a/sh-0001.log"
        said = [(OUT, b"%03d %b\n" % (number, VALUE.encode())) for number in range(300)]
        put_log(tmp_path, "jobs/a/sh-0001.log", *said, cap_bytes=4000)  # never closed
        before = output_of(path, OUT)
        assert len(os.listdir(path.parent)) > 2

        scrub(tmp_path, [SECRET])

        assert os.listdir(path.parent) == ["sh-0001.log"]
        assert output_of(path, OUT) == Redactor([SECRET]).redact_bytes(before)
        assert_no_canary(tmp_path)

    def test_segments_without_a_secret(self, tmp_path: Path) -> None:
        """RR-83: they are left as the crash left them."""
        (tmp_path / "events.jsonl").write_bytes(b"".join(LINES[:9]))
        put_log(tmp_path, "jobs/a/sh-0001.log", *[(OUT, b"%04d\n" % number) for number in range(300)], cap_bytes=4000)
        before = everything(tmp_path)

        assert scrub(tmp_path, [SECRET]).unsearched == ()

        assert everything(tmp_path) == before

    def test_foreign_text_in_a_log(self, tmp_path: Path) -> None:
        """RR-83: what is no line of a log is searched too, and a torn end."""
        (tmp_path / "events.jsonl").write_bytes(RECORD)
        path = tmp_path / "jobs/a/sh-0001.log"
        put_log(tmp_path, "jobs/a/sh-0001.log", (OUT, b"ok\n")).close(0)
        with path.open("ab") as file:
            file.write(b"foreign " + VALUE.encode() + b"\n" + b"torn " + VALUE.encode())

        scrub(tmp_path, [SECRET])

        assert_no_canary(tmp_path)
        assert b"foreign <redacted:canary>\n" in path.read_bytes()
        assert output_of(path, OUT) == b"ok\n"


class TestWhatMayBeScrubbed:
    def test_a_running_record(self, tmp_path: Path) -> None:
        """RR-83: refused, and untouched; when its writer is dead it is not."""
        file = tmp_path / "events.jsonl"
        with record_writer(file) as writer:
            writer.write(LINES[0] + CODEC.encode(events_of(Note(key="a.b", value=VALUE))[1]))
            before = file.read_bytes()
            with pytest.raises(RecordBusyError):
                scrub(tmp_path, [SECRET])
            assert file.read_bytes() == before
            writer.kill()

            assert scrub(tmp_path, [SECRET]).event_places == 1
            assert load(tmp_path).state is RecordState.CRASHED

    def test_one_that_somebody_else_rewrites(self, tmp_path: Path) -> None:
        """RR-83: two at once would undo each other's work."""
        directory = put(tmp_path, Note(key="a.b", value=VALUE))
        with held_record(str(directory), str(directory / "events.jsonl"), alone=False):
            assert load(directory).state is RecordState.FINISHED
            with pytest.raises(RecordBusyError):
                scrub(directory, [SECRET])

    @pytest.mark.parametrize("content", [b"foreign\n", b'{"type":"run_started","format":[2,0]}\n'])
    def test_one_that_cannot_be_read(self, tmp_path: Path, content: bytes) -> None:
        """RR-10, RR-83: what is not understood is not rewritten."""
        (tmp_path / "events.jsonl").write_bytes(content)

        with pytest.raises(UnreadableRecordError):
            scrub(tmp_path, [SECRET])

        assert (tmp_path / "events.jsonl").read_bytes() == content

    def test_a_packed_one(self, tmp_path: Path) -> None:
        """RR-38, RR-83: it is packed again."""
        directory = put(tmp_path, Note(key="a.b", value=VALUE))
        plain = (directory / "events.jsonl").read_bytes()
        (directory / "events.jsonl").unlink()
        (directory / "events.jsonl.gz").write_bytes(gzip.compress(plain))

        assert scrub(directory, [SECRET]).changed == ("events.jsonl.gz",)

        unpacked = gzip.decompress((directory / "events.jsonl.gz").read_bytes())
        assert unpacked.count(MARKER.encode()) == 2
        assert VALUE.encode() not in unpacked
        assert load(directory).state is RecordState.FINISHED

    def test_other_files_are_named(self, tmp_path: Path) -> None:
        """RR-83: what is none of the record's is left alone, and said."""
        directory = put(tmp_path, JobStarted(job_id="a", attempt=1))
        put_log(directory, "jobs/a/sh-0001.log", (OUT, VALUE.encode())).close(0)
        (directory / "report.html").write_text(VALUE)
        (directory / "notes.scrub").write_text(VALUE)
        (directory / "jobs" / "a" / "core").write_text(VALUE)

        done = scrub(directory, [SECRET])

        assert done.unsearched == ("jobs/a/core", "notes.scrub", "report.html")
        assert (directory / "report.html").read_text() == VALUE

    def test_modes(self, tmp_path: Path) -> None:
        """RR-83, RR-103: a new file is as private as the old one was, whatever the umask."""
        directory = put(tmp_path, Note(key="a.b", value=VALUE), call(JOB, "x"))
        put_log(directory, log_path(JOB, attempt=1, sh=1), (OUT, VALUE.encode())).close(0)
        (directory / "events.jsonl").chmod(0o600)
        before = os.umask(0)
        try:
            scrub(directory, [SECRET])
        finally:
            os.umask(before)

        modes = {stat.S_IMODE(path.stat().st_mode) for path in directory.rglob("*")}
        assert modes == {0o600, 0o700}


@pytest.mark.anyio
async def test_a_real_run(tmp_path: Path) -> None:
    """RR-83: what a run has recorded because nobody named the secret is gone, and the record is as good as before."""
    says = f"import sys; print({VALUE!r}); print({VALUE!r}, file=sys.stderr)"
    async with open_run(JOB, record=tmp_path, rules=RedactionRules.none(), meta={"who": VALUE}) as run:
        async with run.job(JOB) as job:
            await job.sh(sys.executable, "-c", says, env={VALUE[:4]: VALUE})
            await job.sh("sh", "-c", "exit 3", VALUE, check=False)
    directory = the_run_in(tmp_path)
    before = load(directory)
    assert before.health.is_clean

    done = scrub(directory, [SECRET])

    assert_no_canary(directory)
    assert done.log_places == 2
    after = load(directory)
    assert (after.state, after.health, after.run.outcome) == (before.state, before.health, before.run.outcome)
    assert [(call.sh, call.exit_code, call.pid) for call in after.calls.values()] == [
        (call.sh, call.exit_code, call.pid) for call in before.calls.values()
    ]
    assert [line.head.seq for line in read_events(directory)] == list(range(after.run.last_seq + 1))


class Crash(BaseException):
    pass


def crash_at(number: int, patch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Let the process die before the ``number``-th step that changes a directory or syncs; return how many there were."""
    count = 0

    def dying(real: Callable[..., object]) -> Callable[..., object]:
        def step(*arguments: Any, **more: Any) -> object:
            nonlocal count
            count += 1
            if count > number:  # a dead process removes nothing either
                raise Crash
            return real(*arguments, **more)

        return step

    for name in ("rename", "replace", "unlink", "fsync", "mkdir", "rmdir"):
        patch.setattr(os, name, dying(getattr(os, name)))
    return lambda: count


def steps() -> Iterator[int]:
    return iter(range(60))


def test_a_crash_at_any_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RR-83: every file is old or new as a whole, the record can be read, and the same call again does the rest."""
    original = put(tmp_path, call(JOB, VALUE), call("plain", VALUE), Note(key="a.b", value=VALUE))
    put_log(original, log_path(JOB, attempt=1, sh=1), (OUT, VALUE.encode() + b"\n"), (ERR, b"x\n")).close(0)
    said = [(OUT, b"%03d %b\n" % (number, VALUE.encode())) for number in range(100)]
    put_log(original, log_path("plain", attempt=1, sh=1), *said, cap_bytes=4000)  # with segments
    whole = tmp_path / "whole"
    shutil.copytree(original, whole)
    plain = log_path("plain", attempt=1, sh=1)
    old_said = output_of(whole / plain, OUT)
    old_events = (whole / "events.jsonl").read_bytes()
    scrub(whole, [SECRET])
    new, new_said = everything(whole), output_of(whole / plain, OUT)

    for number in steps():
        copy = tmp_path / f"copy-{number}"
        shutil.copytree(original, copy)
        with monkeypatch.context() as patch:
            counted = crash_at(number, patch)
            with contextlib.suppress(Crash):
                scrub(copy, [SECRET])
            is_over = counted() <= number

        assert (copy / "events.jsonl").read_bytes() in (old_events, new["events.jsonl"])
        assert load(copy).state is RecordState.FINISHED
        assert output_of(copy / plain, OUT) in (old_said, new_said)
        scrub(copy, [SECRET])
        assert everything(copy) == new
        shutil.rmtree(copy)
        if is_over:
            return
    raise AssertionError("it never came to its end")
