"""Standard input from anything: who pulls, who closes, what an early end and a failing source mean."""

from __future__ import annotations

import array
import asyncio
import fcntl
import gzip
import io
import os
import socket
import tempfile
import termios
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import pytest

import procflow as pf
from procflow._process.stdio.stdin import GROWN_BYTES, InputPipe
from procflow._streams.reading import pipes
from tests.patience import Growing

from .conftest import python

pytestmark = pytest.mark.anyio

CAT = pf.Command("cat")
EVERYTHING = pf.StreamConfig(replay=pf.Replay.all())
NOW = pf.Shutdown.now()


class Closable:
    """An iterable in both worlds that counts how often it was closed."""

    def __init__(self, *items: object, error: BaseException | None = None, then_waits: bool = False) -> None:
        self.items = list(items)
        self.error = error
        self.then_waits = then_waits
        self.begun = 0
        self.closed = 0
        self.pulled = 0
        self.is_waiting = anyio.Event()

    def _next(self) -> bytes | None:
        self.pulled += 1
        if self.items:
            return self.items.pop(0)  # type: ignore[return-value]  # tests give wrong ones on purpose
        if self.error is not None:
            raise self.error
        return None


class SyncSource(Closable):
    def __iter__(self) -> Iterator[bytes]:
        self.begun += 1
        return self

    def __next__(self) -> bytes:
        item = self._next()
        if item is None:
            raise StopIteration
        return item

    def close(self) -> None:
        self.closed += 1


class AsyncSource(Closable):
    def __aiter__(self) -> AsyncIterator[bytes]:
        self.begun += 1
        return self

    async def __anext__(self) -> bytes:
        await anyio.lowlevel.checkpoint()
        if self.then_waits and not self.items:
            self.is_waiting.set()
            await anyio.sleep_forever()
        item = self._next()
        if item is None:
            raise StopAsyncIteration
        return item

    async def aclose(self) -> None:
        self.closed += 1
        await anyio.lowlevel.checkpoint()


def as_generator(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), 1000):
        yield data[start : start + 1000]


async def as_async_generator(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 1000):
        yield data[start : start + 1000]


class _Stream(anyio.abc.ByteReceiveStream):
    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    async def receive(self, max_bytes: int = 65536) -> bytes:
        await anyio.lowlevel.checkpoint()
        data = self._data.read(max_bytes)
        if not data:
            raise anyio.EndOfStream
        return data

    async def aclose(self) -> None: ...


MAKERS: dict[str, Callable[[bytes], object]] = {
    "bytes": lambda data: data,
    "str": lambda data: data.decode(),
    "list": lambda data: [data[:5], bytearray(data[5:100]), memoryview(data[100:])],
    "generator": as_generator,
    "async generator": as_async_generator,
    "anyio stream": _Stream,
    "BytesIO": io.BytesIO,
    "iterable class": SyncSource,
    "async iterable class": AsyncSource,
}


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("size", [0, 9, 300_000])
async def test_input_from_anything(kind: str, size: int) -> None:
    """C-7: whatever yields bytes reaches the child whole and in order, and then its input ends."""
    data = (b"0123456789abcdef" * (size // 16 + 1))[:size]

    done = await pf.run(CAT, stdin=MAKERS[kind](data), stdout=EVERYTHING)  # type: ignore[arg-type]  # from a table

    assert done.stdout.bytes == data
    assert not done.outcome.stdin_broken


class TestKernel:
    """Paths and files that the child reads itself."""

    @pytest.mark.parametrize("wrap", [Path, os.fsencode])
    async def test_path(self, tmp_path: Path, wrap: Callable[[Path], object]) -> None:
        """C-7: a path is a PathLike; its file is opened for the child, so the child's standard input is that file."""
        path = tmp_path / "input"
        path.write_bytes(b"from the file")
        given = wrap(path)
        script = "import os, sys; print(os.readlink('/proc/self/fd/0')); print(sys.stdin.read())"
        if isinstance(given, bytes):  # bytes are data, never a path
            assert (await pf.run(CAT, stdin=given)).stdout.bytes == given
            return

        done = await pf.run(python(script), stdin=given)  # type: ignore[arg-type]  # from a table

        assert done.stdout.lines == [str(path), "from the file"]

    async def test_text_is_never_a_path(self, tmp_path: Path) -> None:
        """C-7: a str is text, also if it names a file."""
        path = tmp_path / "input"
        path.write_bytes(b"content")

        done = await pf.run(CAT, stdin=str(path))

        assert done.stdout.text == str(path)

    @pytest.mark.parametrize("mode", ["rb", "r", "rb raw", "temporary", "number"])
    async def test_files_with_a_descriptor_are_handed_over(self, tmp_path: Path, mode: str) -> None:
        """C-7: no byte of a file passes through Python: the child's descriptor is the file; it stays open here."""
        path = tmp_path / "input"
        path.write_bytes(b"content")
        file: Any  # of bytes, of text, wrapped: whatever a caller has
        if mode == "temporary":
            file = tempfile.NamedTemporaryFile(dir=tmp_path)
            file.write(b"content")
            file.flush()
            file.seek(0)
        elif mode == "rb raw":
            file = path.open("rb", buffering=0)
        else:
            file = path.open("r" if mode == "r" else "rb")
        with file:
            script = "import os, sys; print(os.readlink('/proc/self/fd/0')); print(sys.stdin.read())"
            done = await pf.run(python(script), stdin=file.fileno() if mode == "number" else file)

            assert done.stdout.lines == [file.name, "content"]
            assert not file.closed

    async def test_buffered_reader_goes_on_where_it_is(self, tmp_path: Path) -> None:
        """C-7: what a buffered reader has read ahead is not lost: the child begins where the reader is."""
        path = tmp_path / "input"
        path.write_bytes(b"header\nrest\n")
        with path.open("rb") as file:
            assert file.readline() == b"header\n"

            done = await pf.run(CAT, stdin=file)

        assert done.stdout.text == "rest\n"

    async def test_temporary_file_goes_on_where_it_is(self) -> None:
        """C-7: the wrapper of a temporary file hides nothing: the child reads on from where the file stands."""
        with tempfile.NamedTemporaryFile() as file:
            file.write(b"1\n" + b"2\n" * 10_000)
            file.seek(0)
            assert file.readline() == b"1\n"

            done = await pf.run(pf.Command("wc", "-l"), stdin=file)

        assert done.stdout.text.strip() == "10000"

    @pytest.mark.parametrize("mode", ["wb+", "w+"])
    async def test_what_a_file_still_buffers_is_written_first(self, tmp_path: Path, mode: str) -> None:
        """C-7: what the host wrote last is in the file before the child reads it, and in its place."""
        path = tmp_path / "file"
        with path.open(mode) as file:
            is_binary = "b" in mode
            file.write(b"0123456789" if is_binary else "0123456789")
            file.seek(2)
            file.write(b"XY" if is_binary else "XY")

            done = await pf.run(pf.Command("cat"), stdin=file)

        assert done.stdout.text == "456789"
        assert path.read_text() == "01XY456789"

    async def test_file_that_cannot_be_read(self, tmp_path: Path) -> None:
        """C-7: a file that is open for writing only is refused, before anything is started."""
        with (tmp_path / "file").open("wb") as file, pytest.raises(ValueError, match="open for writing only"):
            pf.spawn(pf.Command("cat"), stdin=file)

    async def test_descriptor_that_is_not_open(self) -> None:
        """C-4: a number that is no open descriptor is named, with what it was given for."""
        for wrong in ({"stdin": 9999}, {"stdout": 9999}):
            with pytest.raises(pf.SpawnError, match=rf"descriptor 9999 \({next(iter(wrong))}\) is not open"):
                await pf.run(pf.Command("cat"), **wrong)  # type: ignore[arg-type]  # an int for either
        with pytest.raises(pf.SpawnError, match=r"descriptor 9999 \(pass_fds\) is not open"):
            await pf.run(pf.Command("cat", pass_fds=[9999]))

    async def test_socket(self) -> None:
        """C-7: what has a descriptor and no read() of its own is handed over."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.sendall(b"through a socket")
            ours.shutdown(socket.SHUT_WR)

            done = await pf.run(CAT, stdin=theirs)

        assert done.stdout.text == "through a socket"

    async def test_file_that_changes_bytes_is_read_in_python(self, tmp_path: Path) -> None:
        """C-7: a descriptor below a layer that changes bytes is not handed over: gzip is unpacked."""
        path = tmp_path / "packed.gz"
        path.write_bytes(gzip.compress(b"unpacked" * 100_000))
        with gzip.open(path) as file:
            done = await pf.run(CAT, stdin=file, stdout=EVERYTHING)

            assert done.stdout.bytes == b"unpacked" * 100_000
            assert not file.closed

    async def test_directory_and_missing_file(self, tmp_path: Path) -> None:
        """C-7: what cannot be opened is named, with the reason, and nothing is started."""
        for path, reason in ((tmp_path, "Is a directory"), (tmp_path / "missing", "No such file")):
            with pytest.raises(pf.SpawnError, match=reason) as caught:
                await pf.run(CAT, stdin=path)
            assert repr(str(path)) in str(caught.value)
            assert "stdin" in str(caught.value)
            assert caught.value.program == "cat"

    async def test_fifo_does_not_stop_the_loop(self, tmp_path: Path) -> None:
        """C-7: a FIFO would be opened only once its other side is; the error says what to do instead."""
        path = tmp_path / "fifo"
        os.mkfifo(path)
        with pytest.raises(pf.SpawnError, match="open it yourself"):
            await pf.run(CAT, stdin=path)
        with pytest.raises(pf.SpawnError, match="open it yourself"):
            await pf.run(CAT, stdout=path)

    async def test_blocking_mode_is_whole_again(self, tmp_path: Path) -> None:
        """C-7: the child finds its file in blocking mode, although we must not block while opening it."""
        path = tmp_path / "input"
        path.write_bytes(b"")
        script = "import os; print(os.get_blocking(0), os.get_blocking(1))"
        await pf.run(python(script), stdin=path, stdout=tmp_path / "output")
        assert (tmp_path / "output").read_text() == "True True\n"


class TestRefusals:
    """Wrong choices fail when the block is made."""

    @pytest.mark.parametrize("choice", [5.5, object(), True])
    async def test_what_is_no_input(self, choice: object) -> None:
        """C-7: the error lists what is possible."""
        with pytest.raises(TypeError, match="stdin must"):
            pf.spawn(CAT, stdin=choice)  # type: ignore[arg-type]  # wrong on purpose

    async def test_constants_of_subprocess(self) -> None:
        """C-7: subprocess.PIPE is the number -1: refused, with the cure."""
        with pytest.raises(ValueError, match="procflow has constants of its own"):
            pf.spawn(CAT, stdin=-1)

    async def test_text_file_without_a_descriptor(self) -> None:
        """C-7: characters are not bytes."""
        with pytest.raises(TypeError, match="give its text as a str"):
            pf.spawn(CAT, stdin=io.StringIO("text"))

    async def test_closed_file(self, tmp_path: Path) -> None:
        """C-7: a closed file is refused, at once or, if it is closed later, at the start."""
        path = tmp_path / "input"
        path.write_bytes(b"")
        with path.open("rb") as file:
            block = pf.spawn(CAT, stdin=file)
        with pytest.raises(ValueError, match="closed"):
            pf.spawn(CAT, stdin=file)
        with pytest.raises(pf.SpawnError, match="closed"):
            await block.__aenter__()

    async def test_text_that_cannot_be_encoded_stays_secret(self) -> None:
        """C-7, C-2: the error says where, and not what."""
        with pytest.raises(ValueError, match="position 6") as caught:
            pf.spawn(CAT, stdin="secret\udcff")
        assert "secret" not in str(caught.value)
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None


class TestEarlyEnd:
    """A child that does not want all of it."""

    @pytest.mark.parametrize("kind", [SyncSource, AsyncSource])
    async def test_child_that_stops_reading_is_normal(self, kind: type[Closable]) -> None:
        """C-7: EPIPE is in the outcome, not raised; pulling stops and the source is closed once."""
        source = kind(*[b"x" * 100_000] * 100)

        done = await pf.run(pf.shell("head -c 5; exec 0<&-; echo; echo done"), stdin=source)  # type: ignore[arg-type]  # both

        assert done.stdout.lines == ["xxxxx", "done"]
        assert done.outcome.ok
        assert done.outcome.stdin_broken
        assert source.closed == 1
        assert source.pulled < 100

    @pytest.mark.parametrize("source", [b"x" * 1_000_000, [b"x" * 1_000_000]])
    async def test_asked_for_it_is_an_error(self, source: bytes) -> None:
        """C-7: with check_stdin=True it is an error that carries outcome and output and says how much was taken."""
        with pytest.raises(pf.InputError, match="not all of it") as caught:
            await pf.run(pf.shell("echo out; exit 0"), stdin=source, check_stdin=True)
        error = caught.value
        assert error.outcome.ok
        assert error.outcome.stdin_broken
        assert error.stdout is not None
        assert error.stdout.text == "out\n"
        assert error.fed_bytes < 1_000_000
        assert error.__cause__ is None

    async def test_exit_status_says_more(self) -> None:
        """C-7: a bad exit comes first; that input was left over is a note on it."""
        with pytest.raises(pf.ExitError) as caught:
            await pf.run(pf.shell("exit 3"), stdin=b"x" * 1_000_000, check_stdin=True)
        assert any("stdin" in note for note in caught.value.__notes__)

    async def test_block_raises_it_too(self) -> None:
        """C-7: a block with check_stdin=True raises on leaving, unless something else propagates."""
        with pytest.raises(pf.InputError):
            async with pf.spawn(pf.Command("true"), stdin=b"x" * 1_000_000, check_stdin=True) as child:
                await child.wait()
        with pytest.raises(KeyError) as caught:
            async with pf.spawn(pf.Command("true"), stdin=b"x" * 1_000_000, check_stdin=True) as child:
                await child.wait()
                raise KeyError
        assert any("stdin" in note for note in caught.value.__notes__)

    async def test_input_that_is_never_taken_ends_with_the_leader(self) -> None:
        """C-7: a straggler that holds the pipe does not hold run(); what was not taken is noted."""
        with anyio.fail_after(20):
            done = await pf.run(pf.shell("sleep 60 >/dev/null 2>&1 & exit 0"), stdin=b"x" * 1_000_000)
        assert done.outcome.stdin_broken

    async def test_endless_source_ends_with_the_leader(self) -> None:
        """C-7: a source that waits for ever is cancelled and closed once."""
        source = AsyncSource(b"line\n", then_waits=True)
        with anyio.fail_after(20):
            done = await pf.run(pf.shell("read line; echo $line"), stdin=source)
        assert done.stdout.text == "line\n"
        assert source.closed == 1


class TestFailingSource:
    """A source that raises must not look like one that has ended."""

    @pytest.mark.parametrize("kind", [SyncSource, AsyncSource])
    async def test_run_stops_the_process_and_raises_once(self, kind: type[Closable]) -> None:
        """C-7: the child never sees an end of its input; one error tells the cause, the bytes and the outcome."""
        source = kind(b"first\n", b"second\n", error=RuntimeError("no more"))

        with anyio.fail_after(20), pytest.raises(pf.InputError) as caught:
            await pf.run(pf.shell("cat; echo complete"), stdin=source, shutdown=NOW)  # type: ignore[arg-type]  # both

        error = caught.value
        assert isinstance(error.__cause__, RuntimeError)
        assert "RuntimeError: no more" in str(error)
        assert "stopped" in str(error)
        assert error.fed_bytes == 13
        assert error.outcome.ended_by is pf.EndedBy.INPUT
        assert [phase.ended for phase in error.outcome.phases] == [True]
        assert error.stdout is not None
        assert "complete" not in error.stdout.text
        assert source.closed == 1

    @pytest.mark.parametrize("kind", [SyncSource, AsyncSource])
    async def test_what_is_no_exception_goes_through(self, kind: type[Closable]) -> None:
        """C-7: what is raised to end the program (or a test) ends the block as itself, not in a group."""

        class Enough(BaseException):
            pass

        with pytest.raises(Enough):
            await pf.run(pf.Command("cat"), stdin=kind(b"x", error=Enough()), shutdown=NOW)  # type: ignore[arg-type]  # both

    @pytest.mark.parametrize("kind", [SyncSource, AsyncSource])
    async def test_text_items_are_refused(self, kind: type[Closable]) -> None:
        """C-7: an item that is no bytes is named by its number, with the cure and without its content."""
        with pytest.raises(pf.InputError, match="item 1 is str, not bytes; encode it") as caught:
            await pf.run(CAT, stdin=kind(b"fine", "secret"), shutdown=NOW)  # type: ignore[arg-type]  # wrong on purpose
        assert "secret" not in str(caught.value)

    async def test_block_raises_on_leaving(self) -> None:
        """C-7: in a block wait() gives the outcome, and leaving raises the error, as a note if another one propagates."""
        with anyio.fail_after(20), pytest.raises(pf.InputError) as caught:
            async with pf.spawn(CAT, stdin=SyncSource(error=RuntimeError("broken")), shutdown=NOW) as child:
                assert (await child.wait()).ended_by is pf.EndedBy.INPUT
        assert caught.value.outcome.ended_by is pf.EndedBy.INPUT
        with anyio.fail_after(20), pytest.raises(KeyError) as other:
            async with pf.spawn(CAT, stdin=SyncSource(error=RuntimeError("broken")), shutdown=NOW) as child:
                await child.wait()
                raise KeyError
        assert any("broken" in note for note in other.value.__notes__)

    async def test_stragglers_go_too(self) -> None:
        """C-7: the stop for a failed source is one of the whole tree."""
        source = AsyncSource(b"go\n", error=RuntimeError("broken"))
        with anyio.fail_after(20), pytest.raises(pf.InputError) as caught:
            await pf.run(pf.shell("cat >/dev/null & cat; wait"), stdin=source)
        assert caught.value.outcome.ended_by is pf.EndedBy.INPUT

    async def test_no_end_of_input_while_it_is_being_stopped(self) -> None:
        """C-7: a child that outlives the first signal still does not see an end of its input."""
        is_ready = anyio.Event()

        async def source() -> AsyncIterator[bytes]:
            yield b"go\n"
            await is_ready.wait()
            raise RuntimeError("broken")

        command = pf.shell("trap '' TERM; cat; echo complete")
        with anyio.fail_after(20), pytest.raises(pf.InputError) as caught:
            async with pf.spawn(command, stdin=source(), shutdown=pf.Shutdown.sigterm(grace_s=0.3)) as child:
                await child.stdout.wait_for_line("go")
                is_ready.set()
                assert (await child.wait()).signal == 9
        assert b"complete" not in caught.value.outcome.stdout_tail

    async def test_timeout_of_a_process_that_resists(self) -> None:
        """C-7: a deadline that passes while the process is being stopped for its source changes nothing about the cause."""
        timeout = Growing(0.1)
        while True:
            source = AsyncSource(b"go\n", error=RuntimeError("broken"))
            with anyio.fail_after(100), pytest.raises((pf.InputError, pf.TimedOut)) as caught:
                await pf.run(
                    pf.shell("trap '' TERM; echo ready; while :; do sleep 60 & wait; done"),
                    stdin=source,
                    timeout_s=timeout.seconds,
                    shutdown=pf.Shutdown.sigterm(grace_s=5 * timeout.seconds),
                )
            if isinstance(caught.value, pf.InputError) or not timeout.grow():  # else the source had no time to fail
                break
        assert isinstance(caught.value, pf.InputError)

    async def test_iterable_that_cannot_begin(self) -> None:
        """C-7: also what __iter__ raises is the source's failure."""

        class Bad:
            def __iter__(self) -> Iterator[bytes]:
                raise OSError("cannot begin")

        with anyio.fail_after(20), pytest.raises(pf.InputError, match="cannot begin"):
            await pf.run(CAT, stdin=Bad(), shutdown=NOW)

    async def test_stray_cancellation(self, anyio_backend_name: str) -> None:
        """C-7: a source that lets the cancellation of another task escape has failed; the block is not torn down by it."""

        class Stray(AsyncSource):
            async def __anext__(self) -> bytes:
                await anyio.lowlevel.checkpoint()
                raise asyncio.CancelledError

        if anyio_backend_name == "trio":
            pytest.skip("asyncio only: on trio nobody can raise a cancellation")
        with anyio.fail_after(20), pytest.raises(pf.InputError, match="let a cancellation escape") as caught:
            await pf.run(CAT, stdin=Stray(), shutdown=NOW)
        assert caught.value.outcome.ended_by is pf.EndedBy.INPUT

    async def test_close_that_fails(self) -> None:
        """C-7: a source that fails in closing is told of; the child had all of its input and was not stopped."""

        class Bad(SyncSource):
            def close(self) -> None:
                raise OSError("cannot close")

        with pytest.raises(pf.InputError, match="cannot close") as caught:
            await pf.run(CAT, stdin=Bad(b"all of it"))
        assert caught.value.outcome.ok
        assert caught.value.stdout is not None
        assert caught.value.stdout.text == "all of it"


class TestLaziness:
    """Pulling."""

    @pytest.mark.parametrize("kind", [SyncSource, AsyncSource])
    async def test_nothing_is_pulled_that_has_no_room(self, kind: type[Closable]) -> None:
        """C-7: a child that does not read holds the source back: what is pulled is bounded by the pipe."""
        source = kind(*[b"x" * 10_000] * 10_000)
        async with pf.spawn(pf.shell("echo ready; sleep 60"), stdin=source, shutdown=NOW) as child:  # type: ignore[arg-type]  # both
            await child.stdout.wait_for_line("ready")
            for _ in range(200):
                await anyio.lowlevel.checkpoint()
            assert source.pulled < 60
        assert source.closed == 1
        assert child.outcome is not None
        assert child.outcome.stdin_broken

    @pytest.mark.parametrize("make", [as_generator, as_async_generator])
    async def test_sources_that_never_wait_leave_the_loop_responsive(self, make: Callable[[bytes], object]) -> None:
        """C-7: others get their turn although source and child are always ready."""
        turns, is_over = 0, False

        async def count() -> None:
            nonlocal turns
            while not is_over:
                turns += 1
                await anyio.lowlevel.checkpoint()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(count)
            await pf.run(pf.Command("wc", "-c"), stdin=make(b"x" * (16 << 20)))  # type: ignore[arg-type]  # both
            is_over = True
        assert turns > 20

    async def test_empty_items_do_not_stop_the_loop(self) -> None:
        """C-7: a source of nothing but empty items can be cancelled."""

        async def empties() -> AsyncIterator[bytes]:
            while True:
                yield b""

        def sync_empties() -> Iterator[bytes]:
            while True:
                yield b""

        for source in (empties(), sync_empties()):
            with anyio.move_on_after(0.1) as scope:
                await pf.run(CAT, stdin=source, shutdown=NOW)
            assert scope.cancelled_caught

    async def test_conversation(self) -> None:
        """C-7: an item of an asynchronous source is written at once: it may depend on what the child has answered."""
        answers: list[str] = []
        send, receive = anyio.create_memory_object_stream[bytes](1)
        async with pf.spawn(CAT, stdin=receive) as child:
            async with send:
                async with child.stdout.lines() as lines:
                    for number in range(3):
                        await send.send(b"%d\n" % number)
                        answers.append(await anext(aiter(lines)))
            assert (await child.wait()).ok
        assert answers == ["0", "1", "2"]


class TestFileInThreads:
    """Files without a descriptor."""

    async def test_blocking_read_does_not_hold_the_end_of_a_block(self) -> None:
        """C-7: a read that blocks for ever is left to its thread; leaving the block does not wait for it."""
        gate = threading.Event()
        begun = threading.Event()

        class Blocking(io.RawIOBase):
            def readable(self) -> bool:
                return True

            def read(self, size: int = -1) -> bytes:
                begun.set()
                gate.wait(30)
                return b""

        try:
            with anyio.fail_after(10):
                async with pf.spawn(CAT, stdin=Blocking(), shutdown=NOW):
                    await anyio.to_thread.run_sync(begun.wait)
        finally:
            gate.set()

    async def test_failing_read(self) -> None:
        """C-7: an error of the file is a failure of the source."""

        class Broken(io.RawIOBase):
            def read(self, size: int = -1) -> bytes:
                raise OSError("disk on fire")

        with anyio.fail_after(20), pytest.raises(pf.InputError, match="disk on fire"):
            await pf.run(CAT, stdin=Broken(), shutdown=NOW)

    async def test_read_of_text(self) -> None:
        """C-7: a file that gives text is refused at its first read."""

        class Text:
            def read(self, size: int = -1) -> str:
                return "text"

        with anyio.fail_after(20), pytest.raises(pf.InputError, match="is str, not bytes"):
            await pf.run(CAT, stdin=Text(), shutdown=NOW)  # type: ignore[arg-type]  # wrong on purpose


class TestClosing:
    """Who ends the input of a child, and when."""

    async def test_source_that_was_never_pulled(self) -> None:
        """C-7: a source is closed once also if its block is left before the first step of the feeder."""
        for kind in (SyncSource, AsyncSource):
            source = kind(*[b"x" * 100_000] * 50)
            async with pf.spawn(pf.Command("sleep", "60"), stdin=source, shutdown=NOW):
                pass
            assert source.closed == source.begun <= 1

    async def test_source_of_a_start_that_fails_is_untouched(self) -> None:
        """C-7: a source belongs to the process, so what was never started leaves it alone."""
        source = SyncSource(b"data")
        with pytest.raises(pf.SpawnError):
            await pf.run(pf.Command("/nonexistent/program"), stdin=source)
        assert (source.begun, source.closed) == (0, 0)

    async def test_generator_cleans_up_when_cancelled(self) -> None:
        """C-7: the clean-up of a generator runs, and may await for a while, however the block is left."""
        steps: list[str] = []
        is_waiting = anyio.Event()

        async def source() -> AsyncIterator[bytes]:
            try:
                yield b"line\n"
                is_waiting.set()
                await anyio.sleep_forever()
            finally:
                steps.append("closing")
                with anyio.CancelScope(shield=True):
                    await anyio.lowlevel.checkpoint()
                steps.append("closed")

        async with pf.spawn(CAT, stdin=source(), shutdown=NOW):
            await is_waiting.wait()
        assert steps == ["closing", "closed"]

    async def test_close_that_takes_too_long_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """C-7: closing a source is given a bound, and its overrun is told."""
        monkeypatch.setattr("procflow._process.stdio.feeder.CLOSE_S", 0.05)

        class Slow(AsyncSource):
            async def aclose(self) -> None:
                await anyio.sleep_forever()

        with anyio.fail_after(20), pytest.raises(pf.InputError, match="to close it"):
            await pf.run(CAT, stdin=Slow(b"data"))

    async def test_handle_refuses_a_fed_input(self) -> None:
        """C-7: what is fed has one writer: child.stdin says so."""
        async with pf.spawn(CAT, stdin=b"x" * 1_000_000, shutdown=NOW) as child:
            with pytest.raises(pf.UsageError, match="stdin=procflow.PIPE"):
                _ = child.stdin

    async def test_slot_reports_open_then_closed(self) -> None:
        """C-7: an open input gives its writer and says so; after closing, writing is refused (TPT 25)."""
        async with pf.spawn(CAT, stdin=pf.PIPE) as child:
            assert not child.stdin.is_closed
            await child.stdin.send(b"x")
            child.stdin.close()
            assert child.stdin.is_closed
            with pytest.raises(anyio.ClosedResourceError):
                await child.stdin.send(b"y")

    async def test_closing_again_is_nothing(self) -> None:
        """C-7: closing a closed input does nothing, however it is closed (TPT 26)."""
        async with pf.spawn(CAT, stdin=pf.PIPE) as child:
            for _ in range(2):
                child.stdin.close()
                await child.stdin.aclose()
            assert (await child.wait()).ok

    async def test_wait_closes_what_nobody_touched(self) -> None:
        """C-7: wait() ends an input that nobody ever asked for, so a cat ends (TPT 27)."""
        with anyio.fail_after(20):
            async with pf.spawn(CAT, stdin=pf.PIPE) as child:
                assert (await child.wait()).ok

    async def test_wait_leaves_an_input_that_was_touched(self) -> None:
        """C-7: whoever asked for child.stdin closes it, or leaves the block: wait() does not (ours in place of TPT 27)."""
        async with pf.spawn(CAT, stdin=pf.PIPE) as child:
            await child.stdin.send(b"line\n")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(child.wait)
                await child.stdout.wait_for_line("line")
                assert not child.stdin.is_closed
                await child.stdin.aclose()
        assert child.outcome is not None
        assert child.outcome.ok

    async def test_run_closes_an_input_that_is_a_pipe(self) -> None:
        """C-7: run(), which waits and collects, ends the input at once (TPT 28)."""
        with anyio.fail_after(20):
            assert (await pf.run(CAT, stdin=pf.PIPE)).outcome.ok

    async def test_leaving_the_block_ends_a_cat(self) -> None:
        """C-7: leaving the block closes the input; a child that ends at that is not waited for to no end."""
        async with pf.spawn(CAT, stdin=pf.PIPE, stdout=EVERYTHING) as child:
            await child.stdin.send(b"line\n")
            await child.stdout.wait_for_line("line")
            stdin = child.stdin
        assert stdin.is_closed

    async def test_kill_closes_the_input(self) -> None:
        """C-7: the input is open before a kill and closed after it (TPT 29)."""
        async with pf.spawn(CAT, stdin=pf.PIPE) as child:
            assert not child.stdin.is_closed
            await child.kill()
            assert child.stdin.is_closed


class TestFullPipe:
    """A writer that waits for room: in callbacks where the loop has them."""

    async def test_closed_meanwhile(self) -> None:
        """C-7: closing from another task ends a send that waits, at once."""
        async with pf.spawn(pf.Command("sleep", "60"), stdin=pf.PIPE, shutdown=NOW) as child:
            async with anyio.create_task_group() as tasks:

                async def send() -> None:
                    with pytest.raises(anyio.ClosedResourceError):
                        await child.stdin.send(b"x" * 1_000_000)

                tasks.start_soon(send)
                await _until_full(child)
                child.stdin.close()

    async def test_cancelled_and_used_again(self) -> None:
        """C-7: a send that was cancelled while it waited leaves the input usable, and no callback behind."""
        async with pf.spawn(pf.Command("sleep", "60"), stdin=pf.PIPE) as child:
            for _ in range(3):  # the second time it grows
                before = child.stdin._pipe._full_count
                with anyio.CancelScope() as scope:
                    async with anyio.create_task_group() as tasks:
                        tasks.start_soon(child.stdin.send, b"x" * 1_000_000)
                        await _until_full(child, before)
                        scope.cancel()
                assert scope.cancelled_caught
            await child.kill()

    async def test_second_sender_is_refused(self) -> None:
        """C-7: one task sends at a time, and a second one is told."""
        async with pf.spawn(pf.Command("sleep", "60"), stdin=pf.PIPE, shutdown=NOW) as child:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(child.stdin.send, b"x" * 1_000_000)
                await _until_full(child)
                with pytest.raises(anyio.BusyResourceError):
                    await child.stdin.send(b"y")
                tasks.cancel_scope.cancel()

    async def test_child_that_ends_meanwhile(self) -> None:
        """C-7: a send that waits for a child that ends raises BrokenResourceError, and so does the next one."""
        async with pf.spawn(pf.Command("sleep", "60"), stdin=pf.PIPE, shutdown=NOW) as child:
            async with anyio.create_task_group() as tasks:

                async def send() -> None:
                    for _ in range(2):
                        with pytest.raises(anyio.BrokenResourceError):
                            await child.stdin.send(b"x" * 1_000_000)

                tasks.start_soon(send)
                await _until_full(child)
                child.send_signal(9)
            assert child.stdin.is_broken
        assert child.outcome is not None
        assert child.outcome.stdin_broken


async def _until_full(child: pf.Process, before: int = 0) -> None:
    """Return when the pipe of ``child`` was found full more often than ``before``, and its writer waits."""
    with anyio.fail_after(10):
        while child.stdin._pipe._full_count <= before:
            await anyio.lowlevel.checkpoint()
    await anyio.lowlevel.checkpoint()


class TestCancelled:
    """A cancellation at every step of a fed run; the leak check of this suite looks after each."""

    @pytest.mark.parametrize("kind", ["sync", "async", "waiting", "file", "bytes"])
    async def test_at_every_turn(self, kind: str) -> None:
        """C-7, C-3: whenever a run is cancelled, its source is closed exactly once if it was begun, and nothing is left."""
        for turns in range(40):
            source = _source(kind)
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(_cancel_after, turns, scope)
                    await pf.run(pf.shell("head -c 1000; sleep 60"), stdin=source, shutdown=NOW)  # type: ignore[arg-type]  # from a table
            assert scope.cancelled_caught
            if isinstance(source, Closable):
                assert source.closed == source.begun <= 1, turns
            elif isinstance(source, io.BytesIO):
                assert not source.closed

    @pytest.mark.parametrize("turns", range(12))
    async def test_of_a_failing_source(self, turns: int) -> None:
        """C-7: a source that fails while the run is being cancelled does not take the cancellation's place."""
        source = AsyncSource(b"x", b"y", error=RuntimeError("broken"))
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_cancel_after, turns, scope)
                try:
                    await pf.run(pf.Command("cat"), stdin=source, shutdown=NOW)
                except pf.InputError:
                    tasks.cancel_scope.cancel()
        assert source.closed == source.begun <= 1


def _source(kind: str) -> object:
    match kind:
        case "sync":
            return SyncSource(*[b"x" * 1000] * 1000)
        case "async":
            return AsyncSource(*[b"x" * 1000] * 1000)
        case "waiting":
            return AsyncSource(b"x", then_waits=True)
        case "file":
            return io.BytesIO(b"x" * 1_000_000)
    return b"x" * 1_000_000


async def _cancel_after(turns: int, scope: anyio.CancelScope) -> None:
    for _ in range(turns):
        await anyio.lowlevel.checkpoint()
    scope.cancel()


async def test_pipe_of_a_large_input_grows_and_gives_back() -> None:
    """C-7: a pipe that is found full twice is made larger, within the budget that all pipes share."""
    left_bytes = pipes.BUDGET.left_bytes
    theirs, ours = os.pipe()
    os.set_blocking(ours, False)
    pipe = InputPipe(ours)
    read_bytes = 0
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pipe.write_all, memoryview(bytes(1 << 20)))
            while read_bytes < 1 << 20:
                with anyio.fail_after(10):
                    while _held_bytes(theirs) < min(65_536, (1 << 20) - read_bytes):
                        await anyio.lowlevel.checkpoint()
                read_bytes += len(os.read(theirs, 65_536))
        assert pipes.capacity(theirs) == GROWN_BYTES
        assert pipes.BUDGET.left_bytes == left_bytes - (GROWN_BYTES - 65_536)
    finally:
        pipe.close()
        os.close(theirs)
    pipe.close()
    assert pipes.BUDGET.left_bytes == left_bytes


def _held_bytes(fd: int) -> int:
    held = array.array("i", [0])
    fcntl.ioctl(fd, termios.FIONREAD, held)
    return held[0]
