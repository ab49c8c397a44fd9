"""Writing a stream to sinks: files, streams, descriptors, and what becomes of their failures."""

from __future__ import annotations

import io
import logging
import os
import socket
import threading
from pathlib import Path

import anyio
import anyio.abc
import pytest
from anyio.lowlevel import checkpoint

import procflow as pf
from procflow._streams.consumers.files import PathFile
from procflow.testing import assert_no_leaks
from tests.core.streams.sources import ScriptedSource

pytestmark = pytest.mark.anyio

LINES = [b"%d\n" % number for number in range(200)]


class MemorySink(anyio.abc.ByteSendStream):
    """Takes bytes, or fails."""

    def __init__(self, *failures: Exception | None) -> None:
        self.failures = list(failures)
        self.data = b""
        self.is_closed = False

    async def send(self, item: bytes) -> None:
        await anyio.lowlevel.checkpoint()
        failure = self.failures.pop(0) if self.failures else None
        if failure is not None:
            raise failure
        self.data += item

    async def aclose(self) -> None:
        self.is_closed = True


async def piped(sink: object, *items: bytes, **options: object) -> pf.Consumed[pf.Written]:
    """Pipe ``items`` to ``sink`` and return the result."""
    async with pf.open_stream(ScriptedSource(*items, b"")) as stream:
        consumer = stream.pipe_to(sink, **options)  # type: ignore[arg-type]  # any sink
        with anyio.fail_after(20):
            return await consumer.wait()


# --- sinks ----------------------------------------------------------------------------------------------------------


async def test_to_a_byte_stream(tmp_path: Path) -> None:
    """C-31: an anyio byte stream gets every byte and stays open: its owner closes it (TPT 149)."""
    sink = MemorySink()

    result = await piped(sink, *LINES)

    assert sink.data == b"".join(LINES)
    assert not sink.is_closed
    assert result.value == pf.Written(bytes_written=len(sink.data))
    assert result.is_complete


@pytest.mark.parametrize("fsync", [False, True])
async def test_to_a_path(tmp_path: Path, fsync: bool) -> None:
    """C-31: the file is created, holds every byte when wait() returns, and is closed."""
    path = tmp_path / "out.log"
    path.write_bytes(b"old")

    async with assert_no_leaks():
        result = await piped(path, *LINES, fsync=fsync)

    assert path.read_bytes() == b"".join(LINES)
    assert result.value == pf.Written(bytes_written=len(b"".join(LINES)), files=(path,))


async def test_append_keeps_what_is_there(tmp_path: Path) -> None:
    """C-31: with append the file keeps what it holds, and an empty stream changes nothing."""
    path = tmp_path / "out.log"
    path.write_bytes(b"old\n")

    await piped(str(path), b"new\n", append=True)
    await piped(str(path), append=True)

    assert path.read_bytes() == b"old\nnew\n"


async def test_two_streams_into_one_file_overwrite_nothing_of_each_other(tmp_path: Path) -> None:
    """C-31: a file is written at its end, whoever else writes it or has cut it."""
    path = tmp_path / "log"
    left, right = ScriptedSource(), ScriptedSource()
    with anyio.fail_after(20):
        async with pf.open_stream(left) as one, pf.open_stream(right) as other:
            consumers = one.pipe_to(path), other.pipe_to(path, append=True)
            for source, consumer, line in ((left, 0, b"1\n"), (right, 1, b"2\n"), (left, 0, b"3\n")):
                before = path.stat().st_size if path.exists() else 0
                source.send(line)
                while not path.exists() or path.stat().st_size <= before:
                    assert not consumers[consumer].is_finished
                    await checkpoint()
            left.send(b"")
            right.send(b"")
    assert path.read_bytes() == b"1\n2\n3\n"


async def test_an_empty_stream_still_makes_the_file(tmp_path: Path) -> None:
    """C-31: like ``>`` of a shell."""
    await piped(tmp_path / "out.log")

    assert (tmp_path / "out.log").read_bytes() == b""


async def test_a_relative_path_means_the_directory_at_the_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """C-31: where the file is does not depend on when its thread comes to open it."""
    monkeypatch.chdir(tmp_path)
    async with pf.open_stream(ScriptedSource(b"x", b"")) as stream:
        consumer = stream.pipe_to("out.log")
        monkeypatch.chdir("/")
        await consumer.wait()

    assert (tmp_path / "out.log").read_bytes() == b"x"


async def test_to_a_binary_file_which_stays_open(tmp_path: Path) -> None:
    """C-31: a file object of the caller is written and flushed, and stays open."""
    memory = io.BytesIO()
    with open(tmp_path / "out", "wb") as file, open(tmp_path / "raw", "wb", buffering=0) as raw:
        for sink in (file, raw, memory):
            result = await piped(sink, *LINES)
            assert result.value.bytes_written == len(b"".join(LINES))

        assert [file.closed, raw.closed, memory.closed] == [False] * 3
        assert (tmp_path / "out").read_bytes() == (tmp_path / "raw").read_bytes() == b"".join(LINES)
    assert memory.getvalue() == b"".join(LINES)


async def test_a_buffered_file_is_flushed_when_nothing_more_comes(tmp_path: Path) -> None:
    """C-31: what a quiet child has written can be read from the file before it ends."""
    source = ScriptedSource(b"ready\n")
    with open(tmp_path / "out", "wb") as file:
        async with pf.open_stream(source) as stream:
            stream.pipe_to(file)
            with anyio.fail_after(20):
                while (tmp_path / "out").read_bytes() != b"ready\n":
                    await anyio.sleep(0.001)


async def test_a_minimal_writer_will_do() -> None:
    """C-31: anything with write() is a binary file (TPT 149)."""

    class Minimal:
        def __init__(self) -> None:
            self.parts: list[bytes] = []
            self.threads: set[int] = set()

        def write(self, data: bytes, /) -> None:
            self.threads.add(threading.get_ident())
            self.parts.append(bytes(data))

    minimal = Minimal()
    await piped(minimal, *LINES)

    assert b"".join(minimal.parts) == b"".join(LINES)
    assert threading.get_ident() not in minimal.threads


@pytest.mark.parametrize("sink", [io.StringIO(), True, b"path", None], ids=lambda sink: type(sink).__name__)
async def test_what_is_no_sink_is_refused_at_the_call(sink: object) -> None:
    """C-31: a text file or a path in bytes fails at the call, and leaves no subscriber."""
    async with pf.open_stream(ScriptedSource(b"")) as stream:
        with pytest.raises(TypeError):
            stream.pipe_to(sink)  # type: ignore[arg-type]  # that is the test
        with pytest.raises(OSError, match="descriptor"):
            stream.pipe_to(99999)
        assert not stream.statistics().subscribers


async def test_an_async_file_is_refused_with_a_hint(tmp_path: Path) -> None:
    """C-31: a file whose write() is async would be written by nobody."""
    async with await anyio.open_file(tmp_path / "out", "wb") as file, pf.open_stream(ScriptedSource(b"")) as stream:
        with pytest.raises(TypeError, match="wrapped"):
            stream.pipe_to(file)  # type: ignore[arg-type]  # that is the test
        await stream.pipe_to(file.wrapped).wait()


async def test_to_a_pipe_without_touching_its_mode() -> None:
    """C-31: a full pipe blocks neither the event loop nor gets another mode; closing is for its owner."""
    reader, writer = os.pipe()
    data = b"x" * 1_000_000
    got = b""
    try:
        async with pf.open_stream(ScriptedSource(data, b"")) as stream:
            consumer = stream.pipe_to(writer)
            await anyio.wait_all_tasks_blocked()  # the loop is free although the pipe is full
            assert not consumer.is_finished
            assert os.get_blocking(writer)
            os.set_blocking(reader, False)
            with anyio.fail_after(20):
                while len(got) < len(data):
                    await anyio.wait_readable(reader)
                    got += os.read(reader, 1 << 20)
                assert (await consumer.wait()).value.bytes_written == len(data)
        os.fstat(writer)
    finally:
        os.close(reader)
        os.close(writer)
    assert got == data


async def test_to_a_socket() -> None:
    """C-31: a socket, by itself or by its descriptor, takes the bytes as it can."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for sink in (ours, ours.fileno()):
            async with pf.open_stream(ScriptedSource(b"x" * 500_000, b"")) as stream:
                consumer = stream.pipe_to(sink)
                await anyio.wait_all_tasks_blocked()
                got = 0
                theirs.setblocking(False)
                with anyio.fail_after(20):
                    while got < 500_000:
                        await anyio.wait_readable(theirs)
                        got += len(theirs.recv(1 << 20))
                    await consumer.wait()


async def test_to_a_regular_descriptor(tmp_path: Path) -> None:
    """C-31: a descriptor of a file is written in a thread, from where it stands; closing ours at the call is fine."""
    fd = os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT)
    async with assert_no_leaks():
        try:
            os.write(fd, b"head\n")
            async with pf.open_stream(ScriptedSource(b"tail\n", b"")) as stream:
                consumer = stream.pipe_to(fd)
                os.close(fd)
                await consumer.wait()
        finally:
            pass
    assert (tmp_path / "out").read_bytes() == b"head\ntail\n"


async def test_to_a_named_pipe_that_nobody_reads_yet(tmp_path: Path) -> None:
    """C-31: the writer waits for a reader without a thread, and can be aborted meanwhile."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    async with assert_no_leaks(), pf.open_stream(ScriptedSource(b"hello", b"")) as stream:
        consumer = stream.pipe_to(fifo)
        given_up = stream.pipe_to(fifo)
        with anyio.fail_after(20):
            assert (await given_up.cancel(0.01)).ending is pf.ConsumerEnding.ABORTED
            reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
            await consumer.wait()
        assert os.read(reader, 99) == b"hello"
        os.close(reader)


# --- rotation -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fsync", [False, True])
async def test_rotating_files_hold_the_newest_lines_whole(tmp_path: Path, fsync: bool) -> None:
    """C-31: no file exceeds its bound, no line is split, the newest files are kept, and the result names them."""
    path = tmp_path / "out.log"

    result = await piped(path, *LINES, rotation=pf.Rotation(max_bytes=100, max_files=3), fsync=fsync)

    names = [path, tmp_path / "out.log.1", tmp_path / "out.log.2"]
    assert sorted(tmp_path.iterdir()) == sorted(names)
    assert result.value.files == tuple(names)
    assert all(name.stat().st_size <= 100 for name in names)
    kept = b"".join(name.read_bytes() for name in reversed(names))
    assert b"".join(LINES).endswith(b"\n" + kept)
    assert all(name.read_bytes().endswith(b"\n") for name in names)
    assert result.value.bytes_written == len(b"".join(LINES))


async def test_a_line_that_arrives_in_pieces_moves_to_the_next_file_whole(tmp_path: Path) -> None:
    """C-31: also a line whose beginning was written before the file was full."""
    path = tmp_path / "out.log"
    source = ScriptedSource(b"12345\nabc")
    async with pf.open_stream(source) as stream:
        consumer = stream.pipe_to(path, rotation=pf.Rotation(max_bytes=10))
        with anyio.fail_after(20):
            while not path.exists() or path.read_bytes() != b"12345\nabc":
                await anyio.sleep(0.001)
            source.send(b"defg\n", b"")
            await consumer.wait()

    assert (path.read_bytes(), (tmp_path / "out.log.1").read_bytes()) == (b"abcdefg\n", b"12345\n")


async def test_rotation_with_append_counts_what_is_there(tmp_path: Path) -> None:
    """C-31: an appended file rotates at the same bound; files of an earlier run move on."""
    path = tmp_path / "out.log"
    path.write_bytes(b"old line\n")

    result = await piped(path, b"new\n", append=True, rotation=pf.Rotation(max_bytes=10, max_files=2))

    assert (path.read_bytes(), (tmp_path / "out.log.1").read_bytes()) == (b"new\n", b"old line\n")
    assert result.value.files == (path, tmp_path / "out.log.1")


async def test_one_file_starts_over_when_it_is_full(tmp_path: Path) -> None:
    """C-31: max_files=1 keeps the newest part only, and leaves no other file."""
    await piped(tmp_path / "out", *LINES, rotation=pf.Rotation(max_bytes=20, max_files=1))

    assert list(tmp_path.iterdir()) == [tmp_path / "out"]
    assert b"".join(LINES).endswith((tmp_path / "out").read_bytes())


async def test_a_directory_that_forbids_rotation_loses_nothing_that_is_written(tmp_path: Path) -> None:
    """C-31: a rotation that fails leaves the full file as it was."""
    path = tmp_path / "out.log"
    blocker = tmp_path / "out.log.next"
    blocker.mkdir()

    with pytest.raises(pf.ConsumerError) as caught:
        await piped(path, b"12345\n", b"6789\n", rotation=pf.Rotation(max_bytes=8))

    assert isinstance(caught.value.__cause__, IsADirectoryError)
    assert path.read_bytes() == b"12345\n"
    written = caught.value.result.value
    assert isinstance(written, pf.Written)
    assert (written.bytes_written, written.failed_bytes) == (6, 5)


# --- failures -------------------------------------------------------------------------------------------------------


async def test_a_full_disk_fails_the_writer_only() -> None:
    """C-31, C-51: ENOSPC is the consumer's error, with exact books; others go on (TPT 146)."""
    async with assert_no_leaks(), pf.open_stream(ScriptedSource(*LINES, b"")) as stream:
        consumer = stream.pipe_to("/dev/full")
        other = stream.consume(pf.Collect.tail(5))
        with anyio.fail_after(20):
            with pytest.raises(pf.ConsumerError) as caught:
                await consumer.wait()
            assert (await other.wait()).value.bytes == b"\n199\n"

    assert isinstance(caught.value.__cause__, OSError)
    written = caught.value.result.value
    assert isinstance(written, pf.Written)
    assert written.bytes_written == 0
    assert written.failed_bytes == caught.value.result.delivered_bytes > 0


async def test_a_broken_pipe_fails_the_writer() -> None:
    """C-31: a reader that goes away is EPIPE, no signal and no end of the process."""
    reader, writer = os.pipe()
    try:
        source = ScriptedSource(b"x")
        async with pf.open_stream(source) as stream:
            consumer = stream.pipe_to(writer)
            await anyio.wait_all_tasks_blocked()
            os.close(reader)
            source.send(b"y" * 100, b"")
            with anyio.fail_after(20), pytest.raises(pf.ConsumerError) as caught:
                await consumer.wait()
        assert isinstance(caught.value.__cause__, BrokenPipeError)
    finally:
        os.close(writer)


async def test_continue_logs_the_first_failure_and_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    """C-31: log and go on: what fails is counted, what comes later is written (TPT 146, 153)."""
    sink = MemorySink(OSError("full"), OSError("full"), None)
    source = ScriptedSource()
    with caplog.at_level(logging.WARNING, "procflow.stream"):
        async with pf.open_stream(source) as stream:
            consumer = stream.pipe_to(sink, on_error="continue")
            for data in (b"1", b"22", b"333"):
                source.send(data)
                await anyio.wait_all_tasks_blocked()
            source.send(b"")
            with anyio.fail_after(20):
                result = await consumer.wait()

    assert sink.data == b"333"
    assert result.value == pf.Written(bytes_written=3, failed_bytes=3, failures=2)
    assert result.ending is pf.ConsumerEnding.EOF
    assert len(caplog.records) == 1


async def test_a_callback_decides_about_each_failure() -> None:
    """C-31: it is told stream, operation, bytes and error, and says STOP or goes on (TPT 147, 152, 153)."""
    sink = MemorySink(OSError("one"), None, OSError("two"))
    told: list[pf.SinkFailure] = []

    def decide(failure: pf.SinkFailure) -> object:
        told.append(failure)
        return pf.STOP if len(told) == 2 else None

    source = ScriptedSource()
    async with pf.open_stream(source, name="mine") as stream:
        consumer = stream.pipe_to(sink, on_error=decide)
        for data in (b"1", b"22", b"333"):
            source.send(data)
            await anyio.wait_all_tasks_blocked()
        with anyio.fail_after(20), pytest.raises(pf.ConsumerError) as caught:
            await consumer.wait()

    assert [(failure.operation, failure.failed_bytes, str(failure.error)) for failure in told] == [
        ("write", 1, "one"),
        ("write", 3, "two"),
    ]
    assert (told[0].stream_name, told[0].sink) == ("mine", "MemorySink")
    assert str(caught.value.__cause__) == "two"
    assert sink.data == b"22"


async def test_a_path_that_cannot_be_opened(tmp_path: Path) -> None:
    """C-31: the failure names the operation open, before anything was read; to go on means to try again with each write."""
    told: list[str] = []

    with pytest.raises(pf.ConsumerError) as caught:
        await piped(tmp_path / "none" / "out", b"x")
    assert isinstance(caught.value.__cause__, FileNotFoundError)

    source = ScriptedSource(b"early\n")
    async with pf.open_stream(source) as stream:
        consumer = stream.pipe_to(tmp_path / "late" / "out", on_error=lambda failure: told.append(failure.operation))
        with anyio.fail_after(20):
            while "write" not in told:
                await anyio.sleep(0.001)
            (tmp_path / "late").mkdir()
            source.send(b"late\n", b"")
            result = await consumer.wait()

    assert told == ["open", "write"]
    assert (tmp_path / "late" / "out").read_bytes() == b"late\n"
    assert (result.value.bytes_written, result.value.failed_bytes) == (5, 6)


# --- delivery and gaps ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mark_gaps", [False, True])
async def test_a_best_effort_writer_counts_gaps_and_can_mark_them(mark_gaps: bool) -> None:
    """C-31, C-24: a slow sink holds nobody back; what is missing is counted, and marked in a line of its own if asked for."""
    source = ScriptedSource(b"begin")

    class Slow(MemorySink):
        def __init__(self) -> None:
            super().__init__()
            self.entered, self.go_on = anyio.Event(), anyio.Event()

        async def send(self, item: bytes) -> None:
            self.entered.set()
            await self.go_on.wait()
            await super().send(item)

    sink = Slow()
    async with pf.open_stream(source) as stream:
        consumer = stream.pipe_to(sink, delivery=pf.BestEffort(buffer_bytes=5), mark_gaps=mark_gaps)
        with anyio.fail_after(20):
            await sink.entered.wait()
            source.send(*[b"%05d" % number for number in range(100)], b"")
            await stream.wait_ended()
            sink.go_on.set()
            result = await consumer.wait()

    mark = b"\n[procflow: 495 bytes lost]\n" if mark_gaps else b""
    assert sink.data == b"begin" + mark + b"00099"
    assert (result.lost_bytes, result.gaps, result.value.bytes_written, result.value.failed_bytes) == (495, 1, 10, 0)


async def test_a_reliable_writer_holds_the_source_back() -> None:
    """C-23, C-31: a slow sink of a reliable writer stalls the source, and nothing is lost."""
    sink = MemorySink()
    go_on = anyio.Event()
    send = sink.send

    async def slowly(item: bytes) -> None:
        await go_on.wait()
        await send(item)

    sink.send = slowly  # type: ignore[method-assign]  # that is the test
    source = ScriptedSource(*[b"x" * 10] * 100, b"")
    async with pf.open_stream(source) as stream:
        consumer = stream.pipe_to(sink, delivery=pf.Reliable(buffer_bytes=50), name="log")
        await anyio.wait_all_tasks_blocked()
        assert stream.statistics().stalled_by == ("log",)
        go_on.set()
        with anyio.fail_after(20):
            assert (await consumer.wait()).value.bytes_written == 1000


# --- endings --------------------------------------------------------------------------------------------------------


async def test_a_hanging_sink_is_aborted_and_the_books_say_so() -> None:
    """C-51: cancel() of a writer that is stuck aborts it; what was given and not taken counts as failed (TPT 55)."""
    sink = MemorySink()

    async def hang(_item: bytes) -> None:
        await anyio.sleep_forever()

    sink.send = hang  # type: ignore[method-assign,assignment]  # that is the test
    source = ScriptedSource(b"12345")
    async with pf.open_stream(source) as stream:
        consumer = stream.pipe_to(sink)
        await anyio.wait_all_tasks_blocked()
        with anyio.fail_after(20):
            result = await consumer.cancel(0.01)

            assert (result.ending, result.value) == (pf.ConsumerEnding.ABORTED, pf.Written(failed_bytes=5))
            source.send(b"6", b"")
            assert (await stream.consume(pf.Collect.tail(9)).wait()).value.bytes == b"6"


async def test_a_thread_that_hangs_in_a_write_is_left_alone_and_closes_its_file_later() -> None:
    """C-31, C-51: aborting does not wait for a blocked write, and nobody closes the descriptor under it."""
    entered, go_on, done = threading.Event(), threading.Event(), threading.Event()

    class Hanging:
        def write(self, data: bytes, /) -> int:
            entered.set()
            go_on.wait(20)
            done.set()
            return len(data)

    async with pf.open_stream(ScriptedSource(b"x")) as stream:
        consumer = stream.pipe_to(Hanging())
        try:
            with anyio.fail_after(20):
                while not entered.is_set():
                    await anyio.sleep(0.001)
                result = await consumer.cancel(0.01)
            assert result.ending is pf.ConsumerEnding.ABORTED
            assert not done.is_set()
        finally:
            go_on.set()
            done.wait(20)


def test_an_abandoned_file_is_closed_by_whoever_uses_it_last(tmp_path: Path) -> None:
    """C-31: a descriptor is never closed under a write: the thread that comes back from it closes it."""
    entered, go_on = threading.Event(), threading.Event()

    class Hanging(PathFile):
        def _write_here(self, data: bytes) -> None:
            entered.set()
            go_on.wait(20)
            super()._write_here(data)

    with assert_no_leaks():
        file = Hanging(str(tmp_path / "out"), is_append=False, rotation=None, is_synced=False)
        thread = threading.Thread(target=file.write, args=(b"late",))
        thread.start()
        entered.wait(20)

        file.abandon()
        file.abandon()
        go_on.set()
        thread.join(20)

        assert (tmp_path / "out").read_bytes() == b"late"
        with pytest.raises(ValueError, match="abandoned"):
            file.write(b"more")


async def test_cancelling_a_writer_leaves_a_whole_file(tmp_path: Path) -> None:
    """C-51: a cooperative cancel flushes and closes; what was written is what the result says."""
    source = ScriptedSource(b"one\n")
    path = tmp_path / "out"
    async with assert_no_leaks(), pf.open_stream(source) as stream:
        consumer = stream.pipe_to(path)
        with anyio.fail_after(20):
            while not path.exists() or not path.read_bytes():
                await anyio.sleep(0.001)
            result = await consumer.cancel(20)

    assert (result.ending, result.value.bytes_written) == (pf.ConsumerEnding.CANCELLED, 4)
    assert path.read_bytes() == b"one\n"


async def test_cancelling_at_every_step_leaks_no_descriptor(tmp_path: Path) -> None:
    """C-31, C-51: wherever the scope is cancelled, the file is closed and holds what the result counts."""
    reader, writer = os.pipe()
    try:
        async with assert_no_leaks():
            for step in range(1, 25):
                with anyio.CancelScope() as scope:
                    async with pf.open_stream(ScriptedSource(b"1\n", b"2\n")) as stream:
                        file = stream.pipe_to(tmp_path / "out", finish_s=20)
                        pipe = stream.pipe_to(writer, finish_s=20)
                        for count in range(50):
                            if count == step:
                                scope.cancel()
                            await anyio.lowlevel.checkpoint()
                for consumer in (file, pipe):
                    assert consumer.result is not None
                    assert consumer.result.value.failed_bytes == 0
                    assert consumer.result.value.bytes_written == consumer.result.stop
                assert os.read(reader, 99) == b"1\n2\n"[: pipe.result.stop if pipe.result else 0]
                assert (tmp_path / "out").stat().st_size == (file.result.stop if file.result else 0)
    finally:
        os.close(reader)
        os.close(writer)
