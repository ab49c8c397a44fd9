"""The log of a call on files: exact, capped, and harmless when the disk fails."""

from __future__ import annotations

import errno
import os
import stat
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from procflow.record.logs.format import HEADER_BYTES, Dropped, LogLine, LogStream
from procflow.record.logs.reader import Damaged, read_log, read_output
from procflow.record.logs.writer import CallLog, LogSummary
from procflow.record.redaction import RedactionRules, Redactor, Secret

OUT, ERR = LogStream.STDOUT, LogStream.STDERR
PATH = "jobs/build/a2/sh-0001.log"
WRITES = st.lists(
    st.tuples(
        st.sampled_from(LogStream),
        st.sampled_from([b"\n", b"line\n", b"x" * 70, b"\0\xff\r\n"]) | st.binary(max_size=90),
    ),
    max_size=60,
)
Writes = list[tuple[LogStream, bytes]]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("logs")


@contextmanager
def fresh(base: Path) -> Iterator[Path]:
    number = len(list(base.iterdir()))
    root = base / str(number)
    root.mkdir()
    yield root


def write(log: CallLog, writes: Writes) -> None:
    for number, (stream, data) in enumerate(writes):
        log.append(stream, data, at_ns=number, mono_ns=number)


def logged(root: Path, writes: Writes, cap_bytes: int | None = None) -> LogSummary:
    log = CallLog(str(root), PATH, cap_bytes=cap_bytes)
    write(log, writes)
    return log.close(at_ns=99)


def output(root: Path, stream: LogStream) -> bytes:
    pieces = list(read_output(str(root / PATH), stream))
    assert all(isinstance(piece, bytes) for piece in pieces)
    return b"".join(piece for piece in pieces if isinstance(piece, bytes))


def written(writes: Writes, stream: LogStream) -> bytes:
    return b"".join(data for of, data in writes if of is stream)


@settings(max_examples=50)
@given(writes=WRITES)
def test_a_log_gives_the_exact_bytes_back(writes: Writes, base: Path) -> None:
    """RR-67: for each stream the log holds the bytes that were written, whatever they are."""
    with fresh(base) as root:
        summary = logged(root, writes)

        for stream in LogStream:
            assert output(root, stream) == written(writes, stream)
            assert summary.read_bytes[stream] == len(written(writes, stream))
        assert summary.dropped_bytes == 0
        assert summary.failure is None


def test_no_output_is_an_empty_file(tmp_path: Path) -> None:
    """RR-67: a silent call has a log, and it is empty."""
    logged(tmp_path, [])

    assert (tmp_path / PATH).read_bytes() == b""


def test_output_is_there_while_the_call_runs(tmp_path: Path) -> None:
    """RR-69: lines are in the file at once, unfinished ones after 200 ms, and both streams in the order of reading."""
    log = CallLog(str(tmp_path), PATH)
    log.append(OUT, b"one\n", at_ns=1, mono_ns=1)
    log.append(ERR, b"two\n", at_ns=2, mono_ns=2)
    log.append(OUT, b"three", at_ns=3, mono_ns=3)
    assert [line.data for line in read_log(str(tmp_path / PATH)) if isinstance(line, LogLine)] == [b"one", b"two"]
    assert log.due_ns == 200_000_003

    log.flush_idle(200_000_003)

    assert [line.data for line in read_log(str(tmp_path / PATH)) if isinstance(line, LogLine)][2:] == [b"three"]
    assert log.due_ns is None
    log.close(at_ns=4)


def test_modes(tmp_path: Path) -> None:
    """RR-103: with an umask of 0 the directories are 0700 and the files 0600, segments too."""
    before = os.umask(0)
    try:
        log = CallLog(str(tmp_path), PATH, cap_bytes=1000)
        write(log, [(OUT, b"x" * 50 + b"\n")] * 50)
    finally:
        os.umask(before)

    for directory in ("jobs", "jobs/build", "jobs/build/a2"):
        assert stat.S_IMODE((tmp_path / directory).stat().st_mode) == 0o700
    files = list((tmp_path / "jobs/build/a2").iterdir())
    assert len(files) > 2
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    log.close(at_ns=0)


def check_capped(root: Path, writes: Writes, cap_bytes: int) -> int:
    """Check that the log holds a beginning and an end of ``writes`` as logged without a cap, and what is missing is said."""
    with_all = root / "all"
    with_all.mkdir()
    logged(with_all, writes)
    whole = [item for item in read_log(str(with_all / PATH)) if isinstance(item, LogLine)]
    items = list(read_log(str(root / PATH)))
    holes = [at for at, item in enumerate(items) if isinstance(item, Dropped)]
    assert len(holes) <= 1
    first = items[: holes[0]] if holes else items
    last = items[holes[0] + 1 :] if holes else []
    assert first == whole[: len(first)]
    assert last == whole[len(whole) - len(last) :]
    if not holes:
        assert len(first) == len(whole)
        return 0
    hole = items[holes[0]]
    assert isinstance(hole, Dropped)
    missing = whole[len(first) : len(whole) - len(last)]
    assert missing
    for stream in LogStream:
        assert hole.dropped_bytes[stream] == sum(len(line.output) for line in missing if line.stream is stream)
    # Each half is full but for a line that did not fit.
    longest = HEADER_BYTES + 1 + max(len(line.data) for line in whole)
    for part in (first, last):
        part_bytes = sum(HEADER_BYTES + 1 + len(line.data) for line in part if isinstance(line, LogLine))
        assert cap_bytes // 2 - longest <= part_bytes <= cap_bytes // 2
    return sum(hole.dropped_bytes.values())


@settings(max_examples=60)
@given(writes=WRITES, cap_bytes=st.integers(1000, 4000))
def test_a_cap_keeps_the_first_and_the_last_half(writes: Writes, cap_bytes: int, base: Path) -> None:
    """RR-72: one marker says to the byte what is missing of each stream; totals stay true."""
    with fresh(base) as root:
        summary = logged(root, writes, cap_bytes)

        assert summary.dropped_bytes == check_capped(root, writes, cap_bytes)
        assert os.listdir(os.path.dirname(root / PATH)) == ["sh-0001.log"]
        for stream in LogStream:
            assert summary.read_bytes[stream] == len(written(writes, stream))


def test_a_cap_smaller_than_a_line(tmp_path: Path) -> None:
    """RR-72: a cap that no line fits in drops all but what is counted, and is no error."""
    summary = logged(tmp_path, [(OUT, b"a line\n"), (ERR, b"another\n"), (OUT, b"last\n")], cap_bytes=2)

    assert summary.failure is None
    assert summary.dropped_bytes == 20
    (hole,) = read_log(str(tmp_path / PATH))
    assert isinstance(hole, Dropped)
    assert hole.dropped_bytes == {OUT: 12, ERR: 8}


def disk_bytes(root: Path) -> int:
    return sum(file.stat().st_size for file in (root / PATH).parent.iterdir())


def test_the_disk_holds_at_most_the_cap_and_a_segment(tmp_path: Path) -> None:
    """RR-72: at every moment, the merge at the end included, the files are no longer than that; memory holds none of it."""
    log = CallLog(str(tmp_path), PATH, cap_bytes=64_000)
    most = 0
    for number in range(4000):
        log.append(OUT, b"%d %b\n" % (number, b"x" * (number % 90)), at_ns=number, mono_ns=number)
        most = max(most, disk_bytes(tmp_path))
    assert most <= 64_000 + 4_000
    assert log._files is not None
    assert len(log._files.plan.segments) <= 9

    real, seen = os.unlink, list[int]()

    def unlink_(path: str) -> None:
        seen.append(disk_bytes(tmp_path))
        real(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "unlink", unlink_)
        log.close(at_ns=0)
    assert max(seen) <= 64_000 + 4_000 + 100
    assert disk_bytes(tmp_path) <= 64_000 + 100


def test_memory_of_a_long_log_is_bounded(tmp_path: Path) -> None:
    """RR-72: 24 MB through a cap of 8 MiB, the merge included, hold less than 1 MiB at any time."""
    log = CallLog(str(tmp_path), PATH, cap_bytes=8 << 20, redactor=Redactor([Secret("hunter2-hunter2", name="db")]))
    block = (b"x" * 79 + b"\n") * 409
    tracemalloc.start()
    try:
        for number in range(750):
            log.append(OUT, block, at_ns=number, mono_ns=number)
        log.close(at_ns=0)
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert most_bytes < 1 << 20
    assert (tmp_path / PATH).stat().st_size <= (8 << 20) + 100


@settings(max_examples=40)
@given(writes=WRITES, cap_bytes=st.integers(1000, 3000))
def test_after_a_crash_the_reader_merges(writes: Writes, cap_bytes: int, base: Path) -> None:
    """RR-72: a log that nobody closed reads as its first half, what is missing, and its last half, to the byte."""
    with fresh(base) as root:
        log = CallLog(str(root), PATH, cap_bytes=cap_bytes)
        write(log, writes)
        for stream in LogStream:
            log.finish_stream(stream)

        items = list(read_log(str(root / PATH)))

        for stream in LogStream:
            missing = sum(item.dropped_bytes[stream] for item in items if isinstance(item, Dropped))
            data = b"".join(item.output for item in items if isinstance(item, LogLine) and item.stream is stream)
            assert missing + len(data) == len(written(writes, stream))
            if not missing:
                assert data == written(writes, stream)
        log.close(at_ns=0)


class Crash(BaseException):
    """The end of the process."""


@contextmanager
def crash_at(step: int) -> Iterator[None]:
    """Crash at the ``step``-th write or removal; a write that crashes writes a part."""
    real_write, real_unlink, left = os.write, os.unlink, [step]

    def is_now() -> bool:
        left[0] -= 1
        return left[0] < 0

    def write_(descriptor: int, data: bytes) -> int:
        if is_now():
            real_write(descriptor, data[: len(data) * 2 // 3])
            raise Crash
        return real_write(descriptor, data)

    def unlink_(path: str) -> None:
        if is_now():
            raise Crash
        real_unlink(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "write", write_)
        patch.setattr(os, "unlink", unlink_)
        yield


def test_a_crash_in_the_merge_changes_nothing(base: Path) -> None:
    """RR-72: wherever the merge ends, a reader finds every byte that is kept once, and the hole to the byte."""
    writes: Writes = [
        (OUT if number % 3 else ERR, b"%d-%b\n" % (number, b"y" * (number % 40))) for number in range(120)
    ]
    seen = []
    for step in range(30):
        with fresh(base) as root:
            log = CallLog(str(root), PATH, cap_bytes=3000)
            write(log, writes)
            try:
                with crash_at(step):
                    log.close(at_ns=99)
                is_done = True
            except Crash:
                is_done = False
            items = list(read_log(str(root / PATH)))
            (hole,) = (item for item in items if isinstance(item, Dropped))
            at = items.index(hole)
            for stream in LogStream:
                first = b"".join(i.output for i in items[:at] if isinstance(i, LogLine) and i.stream is stream)
                last = b"".join(i.output for i in items[at + 1 :] if isinstance(i, LogLine) and i.stream is stream)
                whole = written(writes, stream)
                assert whole.startswith(first)
                assert whole.endswith(last)
                assert len(first) + hole.dropped_bytes[stream] + len(last) == len(whole)
            seen.append(is_done)
            if is_done:
                break
    assert len(seen) > 10
    assert seen[-1]


def test_a_line_that_a_crash_cut_off_is_there_as_far_as_it_goes(tmp_path: Path) -> None:
    """RR-67: a torn last line loses no byte that was written, and claims no newline."""
    logged(tmp_path, [(OUT, b"one\n"), (OUT, b"two\n")])
    path = tmp_path / PATH
    whole = path.read_bytes()

    for cut in range(len(whole) // 2 + 1, len(whole)):
        path.write_bytes(whole[:cut])
        lost = len(whole) - cut
        assert output(tmp_path, OUT) == b"one\ntwo\n"[: max(4, 8 - lost)]


def test_foreign_text_is_shown_as_damage(tmp_path: Path) -> None:
    """RR-67: what is no line of a log is handed out as such, in bounded pieces, and costs no other line."""
    logged(tmp_path, [(OUT, b"one\n")])
    path = tmp_path / PATH
    path.write_bytes(b"foreign\n" + b"z" * 40_000 + b"\n" + path.read_bytes())

    items = list(read_log(str(path)))

    assert items[0] == Damaged(b"foreign\n")
    assert isinstance(items[1], Damaged)
    assert len(items) == 3
    assert output(tmp_path, OUT) == b"one\n"


@contextmanager
def full_disk(room_bytes: int) -> Iterator[None]:
    """Let ``room_bytes`` be written, then fail as a full disk does: with a part, then with an error."""
    real, left = os.write, [room_bytes]

    def write_(descriptor: int, data: bytes) -> int:
        if not left[0]:
            raise OSError(errno.ENOSPC, "no space left on device")
        count = real(descriptor, data[: left[0]])
        left[0] -= count
        return count

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "write", write_)
        yield


@settings(max_examples=60)
@given(writes=WRITES, room_bytes=st.integers(0, 3000), cap_bytes=st.none() | st.integers(500, 2000))
def test_a_full_disk_ends_the_log_and_nothing_else(
    writes: Writes, room_bytes: int, cap_bytes: int | None, base: Path
) -> None:
    """RR-73: nothing is raised; the log ends with a whole line, the totals stay true, and the summary says what is missing."""
    with fresh(base) as root:
        with full_disk(room_bytes):
            summary = logged(root, writes, cap_bytes)

        kept = 0
        for item in read_log(str(root / PATH)):
            assert not isinstance(item, Damaged)
            kept += len(item.output) if isinstance(item, LogLine) else 0
        total = sum(summary.read_bytes.values())
        assert total == sum(len(data) for _, data in writes)
        assert kept + summary.dropped_bytes == total
        assert (root / PATH).read_bytes()[-1:] in {b"", b"\n"}
        assert summary.failure is None or summary.failure.errno == errno.ENOSPC
        assert summary.failure is not None or cap_bytes is not None or kept == total


def exists(root: Path) -> None:
    (root / PATH).parent.mkdir(parents=True)
    (root / PATH).write_text("something else")


def is_no_directory(root: Path) -> None:
    (root / "jobs").write_text("a file")


@pytest.mark.parametrize("spoil", [exists, is_no_directory])
def test_a_log_that_cannot_be_made_is_no_error(spoil: Callable[[Path], None], tmp_path: Path) -> None:
    """RR-73: a log that cannot be opened counts and says so; what is there stays as it is."""
    spoil(tmp_path)
    before = [(path, path.read_text()) for path in tmp_path.rglob("*") if path.is_file()]

    log = CallLog(str(tmp_path), PATH)
    assert log.failure is not None
    log.append(OUT, b"lost\n", at_ns=0, mono_ns=0)
    log.flush_idle(10**12)
    summary = log.close(at_ns=0)

    assert summary.read_bytes == {OUT: 5, ERR: 0}
    assert summary.dropped_bytes == 5
    assert summary.failure is log.failure
    assert [(path, path.read_text()) for path in tmp_path.rglob("*") if path.is_file()] == before


def test_closed_twice_and_used_after(tmp_path: Path) -> None:
    """RR-73: closing again gives the same summary; what comes late is refused or does nothing."""
    log = CallLog(str(tmp_path), PATH)
    log.append(OUT, b"x", at_ns=0, mono_ns=0)

    summary = log.close(at_ns=0)

    assert log.close(at_ns=1) is summary
    log.flush_idle(10**12)
    log.finish_stream(OUT)
    with pytest.raises(ValueError, match="closed"):
        log.append(OUT, b"x", at_ns=0, mono_ns=0)
    assert "closed" in repr(log)


@pytest.mark.parametrize("cap_bytes", [0, -1])
def test_a_cap_of_nothing_is_refused(cap_bytes: int, tmp_path: Path) -> None:
    """RR-72: a cap keeps something."""
    with pytest.raises(ValueError, match="cap_bytes"):
        CallLog(str(tmp_path), PATH, cap_bytes=cap_bytes)


@settings(max_examples=40)
@given(data=st.data(), cap_bytes=st.none() | st.integers(600, 1000))
def test_secrets_are_in_no_log(data: st.DataObject, cap_bytes: int | None, base: Path) -> None:
    """RR-74, RR-76: a secret, however it was cut by reads, is not in the file; the bytes that were given stay as they are."""
    secret = b"hunter2-hunter2"
    whole = b"".join(data.draw(st.lists(st.sampled_from([secret, b" text ", b"\n", b"hunter2"]), max_size=30)))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=10)))
    pieces = [bytearray(whole[a:b]) for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    redactor = Redactor([Secret(secret, name="db")], rules=RedactionRules.none())
    with fresh(base) as root:
        log = CallLog(str(root), PATH, cap_bytes=cap_bytes, redactor=redactor)
        for number, piece in enumerate(pieces):
            log.append(OUT, bytes(piece), at_ns=number, mono_ns=number)
            if data.draw(st.booleans()):
                log.flush_idle(10**12 + number)
        summary = log.close(at_ns=0)

        assert b"".join(pieces) == whole
        assert summary.read_bytes[OUT] == len(whole)
        for path in (root / PATH).parent.iterdir():
            assert secret not in path.read_bytes()
        if not summary.dropped_bytes:
            shown = output(root, OUT)
            assert shown.replace(b"<redacted:db>", b"") == redactor.redact_bytes(whole).replace(b"<redacted:db>", b"")
