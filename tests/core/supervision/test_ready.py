"""Probes: when a process counts as ready, and what is said when it does not."""

from __future__ import annotations

import errno
import os
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Self

import anyio
import pytest

import procflow as pf
from procflow import ready
from procflow._supervision.http import parse_address
from procflow._supervision.looks import reason_of
from procflow.testing import FakeSpawner
from tests.core.process.conftest import is_alive, python
from tests.patience import FairClock, Growing

pytestmark = pytest.mark.anyio

SLEEPER = "import sys; print('up', flush=True); sys.stdin.read()"
SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(int(self.path.strip('/').split('?')[0])); self.end_headers()
    def log_message(self, *args): pass
server = http.server.HTTPServer(('127.0.0.1', 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""


@pytest.fixture
def refusing() -> Iterator[socket.socket]:
    """A socket with a port of its own that refuses connections until somebody listens: nobody else can have it meanwhile."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held


@pytest.fixture
def refusing_port(refusing: socket.socket) -> int:
    port: int = refusing.getsockname()[1]
    return port


async def test_line_is_found_in_what_was_written_before_and_taken_from_nobody() -> None:
    """C-91: ready.line sees replayed history, gives the groups, and leaves every line to those who subscribe later."""
    script = "import sys; print('booting'); print('listening on :80', flush=True); print('more'); sys.stdin.read()"
    keeps = pf.StreamConfig(replay=pf.Replay.all())
    async with pf.spawn(python(script), stdin=pf.PIPE, stdout=keeps) as child:
        attached = child.stdout.lines()
        await child.stdout.wait_for_line("more")
        match = await child.wait_ready(ready.line(r"listening on :(\d+)"), timeout_s=30)
        later = child.stdout.lines(start="start")
        await child.stdin.aclose()

        assert match.groups == ("80",)
        assert [line async for line in attached] == ["booting", "listening on :80", "more"]
        assert [line async for line in later] == ["booting", "listening on :80", "more"]


async def test_the_line_is_there_for_the_first_subscriber_after_it() -> None:
    """C-91: a probe takes nothing: whoever subscribes by default afterwards begins at the first byte."""
    async with pf.spawn(pf.shell("echo one; echo ready; echo three; exec cat"), stdin=pf.PIPE) as child:
        await child.wait_ready(ready.line("ready"), timeout_s=30)
        await child.stdin.aclose()
        assert [line async for line in child.stdout.lines()] == ["one", "ready", "three"]


async def test_tcp_and_http_wait_until_somebody_answers() -> None:
    """C-91: ready.tcp once connections are accepted, ready.http once the status counts."""
    async with pf.spawn(python(SERVER).with_(arguments=["-I", "-u", "-c", SERVER])) as child:
        port = int((await child.stdout.wait_for_line(".")).text)

        assert await child.wait_ready(ready.tcp("127.0.0.1", port), timeout_s=30) is True
        assert await child.wait_ready(ready.http(f"http://127.0.0.1:{port}/204?q=1"), timeout_s=30) == 204
        assert await child.wait_ready(ready.http(f"http://localhost:{port}/503", status=503), timeout_s=30) == 503
        with pytest.raises(pf.NotReadyError, match="passed before http://127.0.0.1") as caught:
            await child.wait_ready(ready.http(f"http://127.0.0.1:{port}/500?token=secret"), timeout_s=0.3)
        assert "secret" not in str(caught.value)


async def test_a_port_that_opens_later_is_noticed(refusing: socket.socket, refusing_port: int) -> None:
    """C-91: a refused connection means not yet."""
    script = f"""
import socket, sys
sys.stdin.readline()
s = socket.socket(fileno={refusing.fileno()})
s.listen()
sys.stdin.read()
"""
    command = python(script).with_(arguments=["-I", "-u", "-c", script], pass_fds=[refusing.fileno()])
    async with pf.spawn(command, stdin=pf.PIPE) as child:
        with pytest.raises(pf.NotReadyError):
            await child.wait_ready(ready.tcp("127.0.0.1", refusing_port), timeout_s=0.2)
        await child.stdin.send(b"go\n")
        await child.wait_ready(ready.tcp("127.0.0.1", refusing_port), timeout_s=30)


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-nonsense\r\n", b"HTTP/1.1 2", b"x" * 9000])
async def test_a_server_that_hangs_or_talks_nonsense_is_not_ready(answer: bytes) -> None:
    """C-91: what accepts a connection and never answers is bounded per attempt, and asked again."""
    asked = 0

    async def serve(stream: anyio.abc.SocketStream) -> None:
        nonlocal asked
        asked += 1
        async with stream:
            await stream.send(answer)
            await anyio.sleep_forever()

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, serve)
        async with pf.spawn(pf.Command("cat"), stdin=pf.PIPE) as child:
            probe = ready.http(f"http://127.0.0.1:{port}/", every_s=0.02, attempt_s=0.05)
            timeout = Growing(0.3)
            while True:
                asked = 0
                with pytest.raises(pf.NotReadyError):
                    await child.wait_ready(probe, timeout_s=timeout.seconds)
                if asked >= 2 or not timeout.grow():  # else there was no time to ask again
                    break
        tasks.cancel_scope.cancel()
    assert asked >= 2


async def test_file_counts_only_if_it_was_written_by_this_run(tmp_path: Path) -> None:
    """C-91: ready.file; what an earlier run has left does not count, unless that is asked for."""
    path = tmp_path / "ready"
    path.touch()
    os.utime(path, (1_000_000, 1_000_000))
    script = f"import sys; sys.stdin.readline(); open({str(path)!r}, 'w').close(); sys.stdin.read()"
    async with pf.spawn(python(script), stdin=pf.PIPE) as child:
        await child.wait_ready(ready.file(path, fresh=False), timeout_s=30)
        with pytest.raises(pf.NotReadyError):
            await child.wait_ready(ready.file(path), timeout_s=0.2)
        await child.stdin.send(b"go\n")
        await child.wait_ready(ready.file(path), timeout_s=30)


async def test_call_asks_until_it_is_told_yes() -> None:
    """C-91: ready.call gives what the predicate returned; a call that hangs is cancelled and counts as no."""
    calls = 0

    async def predicate() -> str:
        nonlocal calls
        calls += 1
        if calls == 1:
            await anyio.sleep_forever()
        return "yes" if calls == 4 else ""

    async with pf.spawn(pf.Command("cat"), stdin=pf.PIPE) as child:
        found = await child.wait_ready(ready.call(predicate, every_s=0.01, attempt_s=0.05), timeout_s=30)

    assert (found, calls) == ("yes", 4)


async def test_what_a_predicate_raises_goes_on() -> None:
    """C-91: an error of the caller's code is no "not yet"."""

    async def predicate() -> bool:
        raise ConnectionError("mine")

    async with pf.spawn(pf.Command("cat"), stdin=pf.PIPE) as child:
        for probe in (ready.call(predicate), ready.any(ready.line("never"), ready.call(predicate))):
            with pytest.raises(ConnectionError, match="mine"):
                await child.wait_ready(probe, timeout_s=30)


async def yes() -> bool:
    await anyio.lowlevel.checkpoint()
    return True


async def no() -> bool:
    await anyio.lowlevel.checkpoint()
    return False


async def test_any_and_all_combine_probes() -> None:
    """C-91: any gives what the first gives, all what all give, in their order; they nest."""
    async with pf.spawn(python(SLEEPER), stdin=pf.PIPE) as child:
        assert await child.wait_ready(ready.any(ready.call(no), ready.call(yes)), timeout_s=30) is True
        both = await child.wait_ready(
            ready.all(ready.call(yes), ready.any(ready.call(no), ready.line("up"))), timeout_s=30
        )
        assert both[0] is True
        assert isinstance(both[1], pf.LineMatch)
        with pytest.raises(pf.NotReadyError, match="all of these"):
            await child.wait_ready(ready.all(ready.call(yes), ready.call(no)), timeout_s=0.1)


PROBES: list[Callable[[int], ready.Probe[object]]] = [
    lambda port: ready.line("never"),
    lambda port: ready.tcp("127.0.0.1", port),
    lambda port: ready.http(f"http://127.0.0.1:{port}/"),
    lambda port: ready.file("/nonexistent/ready"),
    lambda port: ready.call(no),
    lambda port: ready.any(ready.line("never"), ready.call(no)),
    lambda port: ready.all(ready.line("never"), ready.call(yes)),
]


@pytest.mark.parametrize("make", PROBES, ids=["line", "tcp", "http", "file", "call", "any", "all"])
async def test_exit_before_ready_is_told_at_once(
    make: Callable[[int], ready.Probe[object]], refusing_port: int, clock: FairClock
) -> None:
    """C-63: exit before ready raises NotReadyError with outcome and tail, within 100 ms (tenfold margin)."""
    script = "import sys; sys.stdin.readline(); print('out'); print('it broke', file=sys.stderr); sys.exit(3)"
    async with pf.spawn(python(script), stdin=pf.PIPE) as child:
        result: list[tuple[float, pf.NotReadyError]] = []

        async def wait() -> None:
            with pytest.raises(pf.NotReadyError) as caught:
                await child.wait_ready(make(refusing_port))
            result.append((time.monotonic(), caught.value))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await child.stdin.send(b"go\n")
        told_at, error = result[0]
        assert error.outcome is not None
        assert error.outcome.exit_code == 3
        assert clock.since(error.outcome.ended_mono_s, told_at) < 1
        assert b"it broke" in error.outcome.stderr_tail + error.tail


async def test_the_deadline_stops_nothing() -> None:
    """C-63: child.wait_ready() past its deadline raises with the tail; the process goes on."""
    async with pf.spawn(python(SLEEPER), stdin=pf.PIPE) as child:
        await child.stdout.wait_for_line("up")
        with pytest.raises(pf.NotReadyError) as caught:
            await child.wait_ready(ready.call(no), timeout_s=0.1)

        assert (caught.value.outcome, caught.value.timeout_s) == (None, 0.1)
        assert caught.value.tail == b"up\n"
        assert is_alive(child.pid)
        await child.stdin.aclose()  # the wait has not closed it
        assert (await child.wait()).ok


async def test_a_wait_can_be_cancelled_and_repeated() -> None:
    """C-91: every wait is cancellable, and leaves nothing changed."""
    async with pf.spawn(python(SLEEPER), stdin=pf.PIPE) as child:
        with anyio.move_on_after(0.05):
            await child.wait_ready(ready.all(ready.line("never"), ready.call(no)))
        await child.wait_ready(ready.line("up"), timeout_s=30)


async def test_a_dead_process_is_never_ready() -> None:
    """C-91: what answers in the place of a process that has exited is not that process; a line that it left is no use either."""
    seen: list[object] = []
    with pf.observe(seen.append):
        async with pf.spawn(pf.shell("echo ready; exit 3")) as child:
            await child.wait()
            for probe in (ready.call(yes), ready.line("ready"), ready.any(ready.line("ready"))):
                with pytest.raises(pf.NotReadyError) as caught:
                    await child.wait_ready(probe, timeout_s=30)
                assert caught.value.outcome is not None
                assert caught.value.outcome.exit_code == 3
                assert caught.value.timeout_s is None

    assert not [event for event in seen if isinstance(event, pf.Ready)]


async def test_observers_are_told_once_that_a_process_is_ready() -> None:
    """C-91, C-92: ``Ready`` comes once for a process, however often it is asked for."""
    seen: list[object] = []
    with pf.observe(seen.append):
        async with pf.spawn(pf.shell("echo ready; exec cat"), stdin=pf.PIPE) as child:
            for _ in range(3):
                await child.wait_ready(ready.line("ready"), timeout_s=30)

    assert len([event for event in seen if isinstance(event, pf.Ready)]) == 1


async def test_the_time_until_ready_goes_by_the_clock_of_the_loop() -> None:
    """C-91, C-92: with a fake in virtual time, ``Ready.after_s`` says what the script says."""
    trio = pytest.importorskip("trio")
    testing = pytest.importorskip("trio.testing")
    seen: list[object] = []

    async def main() -> None:
        fake = FakeSpawner()
        fake.on("server").prints("up\n", after_s=3600).stays()
        with pf.observe(seen.append):
            async with fake.installed(), pf.spawn(pf.Command("server")) as child:
                await child.wait_ready(ready.line("up"))

    await anyio.to_thread.run_sync(partial(trio.run, main, clock=testing.MockClock(autojump_threshold=0)))

    (event,) = (event for event in seen if isinstance(event, pf.Ready))
    assert event.after_s == pytest.approx(3600, abs=60)


async def test_a_line_in_a_history_that_was_cut_is_found() -> None:
    """C-91: ready.line reads what is still held, from its first whole line on, though older bytes are gone that nobody was given."""
    script = "seq 100000 300000; echo ready; exec cat"
    command = pf.shell(script, name="seq")
    async with pf.spawn(command, stdin=pf.PIPE, stdout=pf.StreamConfig(replay=pf.Replay.last_bytes(100))) as child:
        with anyio.fail_after(60):
            while child.stdout.statistics().produced_bytes < 200_001 * 7 + 6:
                await anyio.sleep(0.005)
        oldest = await child.wait_ready(ready.line("."), timeout_s=60)
        found = await child.wait_ready(ready.line("^ready$"), timeout_s=60)
    assert (oldest.text, found.text) == ("299988", "ready")


class OwnEnd:
    """A connection that leads to itself, as one that anyio has made."""

    def __init__(self) -> None:
        self.socket = socket.socket()
        self.socket.bind(("127.0.0.1", 0))
        self.port: int = self.socket.getsockname()[1]
        self.socket.connect(("127.0.0.1", self.port))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.socket.close()

    def extra(self, attribute: Any, *_: object) -> object:
        return {
            anyio.abc.SocketAttribute.local_address: self.socket.getsockname(),
            anyio.abc.SocketAttribute.remote_address: self.socket.getpeername(),
            anyio.abc.SocketAttribute.raw_socket: self.socket,
        }[attribute]


@pytest.mark.parametrize("kind", ["tcp", "http"])
async def test_a_connection_to_itself_is_no_server(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """C-91: what the kernel connects to its own near end is not ready, and keeps the port from nobody."""
    ends: list[OwnEnd] = []

    async def connect(*_: object, **__: object) -> OwnEnd:
        await anyio.lowlevel.checkpoint()
        ends.append(OwnEnd())
        return ends[-1]

    monkeypatch.setattr(anyio, "connect_tcp", connect)
    probe = ready.tcp("127.0.0.1", 1) if kind == "tcp" else ready.http("http://127.0.0.1:1/")
    async with pf.spawn(pf.Command("cat"), stdin=pf.PIPE) as child:
        with pytest.raises(pf.NotReadyError):
            await child.wait_ready(probe, timeout_s=0.2)

    # Without SO_REUSEADDR: refused while the old connection lingers.  Others may take one of the ports, but not each of them.
    assert any(can_be_bound(end.port) for end in ends)


def can_be_bound(port: int) -> bool:
    with socket.socket() as server:
        try:
            server.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


async def test_the_file_of_the_run_before_does_not_count(tmp_path: Path) -> None:
    """C-91: a file may look older than the process by one tick of the kernel's clock, and no more."""
    path = tmp_path / "ready"
    path.touch()
    async with pf.spawn(pf.Command("cat"), stdin=pf.PIPE) as child:
        for older_ns, is_ready in ((11_000_000, False), (0, True)):
            at = round(child._core.parts.first.started_at.timestamp() * 1e9) - older_ns
            os.utime(path, ns=(at, at))
            if is_ready:
                await child.wait_ready(ready.file(path), timeout_s=30)
            else:
                with pytest.raises(pf.NotReadyError):
                    await child.wait_ready(ready.file(path), timeout_s=0.1)


async def test_polling_does_not_spin() -> None:
    """C-91: pauses grow from 10 ms to the interval: a second of waiting is a handful of looks."""
    calls = 0

    async def count() -> bool:
        nonlocal calls
        calls += 1
        return False

    async with pf.spawn(pf.Command("cat"), stdin=pf.PIPE) as child:
        with pytest.raises(pf.NotReadyError):
            await child.wait_ready(ready.call(count, every_s=0.25), timeout_s=1)

    assert 1 <= calls <= 12


@pytest.mark.parametrize(
    "make",
    [
        partial(ready.tcp, "localhost", 0),
        partial(ready.tcp, "localhost", 70000),
        partial(ready.tcp, "localhost", 80, every_s=0),
        partial(ready.http, "ftp://localhost/"),
        partial(ready.http, "http:///x"),
        partial(ready.http, "http://user:secret@localhost/"),
        partial(ready.http, "http://localhost/a b"),
        partial(ready.http, "http://localhost/\r\nX: y"),
        partial(ready.http, "http://localhost:0/"),
        partial(ready.http, "http://localhost:99999/"),
        partial(ready.http, "http://localhost:abc/"),
        partial(ready.http, "http://localhost/", status=()),
        partial(ready.http, "http://localhost/", status=2000),
        partial(ready.http, "http://localhost/", status=[99]),
        partial(ready.line, "x", stream="stdin"),  # type: ignore[arg-type]  # refused
        ready.any,
        ready.all,
    ],
)
def test_a_probe_that_makes_no_sense_is_refused(make: Callable[[], object]) -> None:
    """C-91: what is wrong with a probe is said where it is made, without what may be secret in it."""
    with pytest.raises(ValueError) as caught:
        make()

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("status", ["200", ["200"], True, 200.0, [200.5]])
def test_a_status_is_an_int(status: Any) -> None:
    """C-91: what no answer can have is refused."""
    with pytest.raises(TypeError):
        ready.http("http://localhost/", status=status)


async def test_a_predicate_that_is_not_async_is_told() -> None:
    """C-91: the error says what is wrong with the predicate."""
    async with pf.spawn(pf.Command("cat"), stdin=pf.PIPE) as child:
        with pytest.raises(TypeError, match="must be async, and returned bool"):
            await child.wait_ready(ready.call(lambda: True), timeout_s=30)  # type: ignore[arg-type, return-value]  # refused


@pytest.mark.parametrize(
    "pieces",
    [
        [b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"],
        [b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n", b"\r\nHTTP/1.1 102\r\n\r\nHTTP/1.1 2", b"04\r\n"],
    ],
)
async def test_provisional_answers_are_skipped(pieces: list[bytes]) -> None:
    """C-91: ready.http takes the status of the final answer."""

    async def serve(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await stream.receive()
            for piece in pieces:
                await stream.send(piece)
            with anyio.move_on_after(5):
                await anyio.sleep_forever()

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, serve)
        url = f"http://127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}/"
        async with pf.spawn(pf.Command("cat"), stdin=pf.PIPE) as child:
            assert await child.wait_ready(ready.http(url), timeout_s=30) == 204
        tasks.cancel_scope.cancel()


def test_the_parts_of_a_url() -> None:
    """C-91: ports, queries, IPv6."""
    plain, odd = parse_address("http://example.org"), parse_address("https://[::1]:8443/a?b=c#d")

    assert (plain.host, plain.port, plain.target, plain.authority, plain.is_secure) == (
        "example.org",
        80,
        "/",
        "example.org",
        False,
    )
    assert (odd.host, odd.port, odd.target, odd.authority, odd.is_secure) == (
        "::1",
        8443,
        "/a?b=c",
        "[::1]:8443",
        True,
    )


async def not_ready(probe: ready.Probe[object], *, script: str = "exec cat") -> pf.NotReadyError:
    """Return the error of a deadline that left time for a look at everything."""
    timeout_s = 0.2
    async with pf.spawn(pf.shell(script, name="child"), stdin=pf.PIPE) as child:
        while True:
            with pytest.raises(pf.NotReadyError) as caught:
                await child.wait_ready(probe, timeout_s=timeout_s)
            if "no answer yet" not in caught.value.last_look:
                return caught.value
            timeout_s *= 4


@asynccontextmanager
async def answering(answer: bytes) -> AsyncIterator[int]:
    """A server that says ``answer`` to whatever it is asked, and no more; gives its port."""

    async def serve(stream: anyio.abc.SocketStream) -> None:
        with suppress(
            anyio.EndOfStream, anyio.BrokenResourceError
        ):  # the deadline may fall between two steps of a look
            async with stream:
                await stream.receive()
                await stream.send(answer)
                await anyio.sleep_forever()

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, serve)
        yield listener.extra(anyio.abc.SocketAttribute.local_port)
        tasks.cancel_scope.cancel()


async def test_a_deadline_tells_what_the_last_look_at_a_port_saw(refusing_port: int) -> None:
    """C-91: a refused connection is told from silence, and the message says it."""
    error = await not_ready(ready.tcp("127.0.0.1", refusing_port))

    assert error.last_look == "connection refused"
    assert str(error).endswith(f" s passed before {error.awaited}; the last look saw: connection refused")


async def test_a_deadline_before_the_first_look_says_so() -> None:
    """C-91: nothing is made up while the first look is under way."""

    async def hang() -> bool:
        await anyio.sleep_forever()
        return True

    async with pf.spawn(pf.Command("cat"), stdin=pf.PIPE) as child:
        with pytest.raises(pf.NotReadyError) as caught:
            await child.wait_ready(ready.call(hang), timeout_s=0.05)
    assert caught.value.last_look == "no answer yet"
    assert (await not_ready(ready.call(hang, attempt_s=0.01))).last_look == "no answer in 0.01 s"


@pytest.mark.parametrize(
    ("answer", "seen"),
    [
        (b"HTTP/1.1 503 token=secret\r\nX: secret\r\n\r\nsecret", "status 503"),
        (b"SSH-2.0-secret\r\n", "no answer in HTTP/1"),
        (b"", "no answer in 0.05 s"),
    ],
)
async def test_a_deadline_tells_what_the_last_look_at_a_page_saw(answer: bytes, seen: str) -> None:
    """C-91: the status and no more: neither the query nor anything that the server has said is in the error."""
    async with answering(answer) as port:
        url = f"http://127.0.0.1:{port}/?token=secret"
        error = await not_ready(ready.http(url, every_s=0.01, attempt_s=1 if answer else 0.05))

    assert error.last_look == seen
    assert "secret" not in str(error)


async def test_a_deadline_tells_that_a_server_does_not_speak_tls() -> None:
    """C-91: what the look at an ``https`` page failed with."""
    async with answering(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        error = await not_ready(ready.http(f"https://127.0.0.1:{port}/"))

    assert error.last_look.startswith("TLS failed: ")


async def test_a_deadline_tells_what_the_last_look_at_a_file_saw(tmp_path: Path) -> None:
    """C-91: a file that is not there is told from one that an earlier run has left."""
    path = tmp_path / "ready"
    assert (await not_ready(ready.file(path))).last_look == "no such file or directory"
    path.touch()
    os.utime(path, (1_000_000, 1_000_000))
    assert (await not_ready(ready.file(path))).last_look == "a file that is older than the process"


class Empty(str):
    """False, and says what must not be said."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "secret"


@pytest.mark.parametrize(
    ("answer", "seen"), [(False, "False"), (None, "None"), (0, "0"), ({}, "{}"), (Empty(), "a false Empty")]
)
async def test_a_deadline_tells_what_the_last_call_returned(answer: object, seen: str) -> None:
    """C-91: what was false; a class of the caller's is named, and says nothing itself."""

    async def predicate() -> object:
        await anyio.lowlevel.checkpoint()
        return answer

    assert (await not_ready(ready.call(predicate))).last_look == seen


async def test_a_deadline_tells_of_every_probe_in_order(refusing_port: int) -> None:
    """C-91: combined probes tell each of its own, those that were ready too."""
    probe: ready.Probe[object] = ready.all(
        ready.call(yes), ready.any(ready.tcp("127.0.0.1", refusing_port), ready.line("never")), ready.line("up")
    )
    error = await not_ready(probe, script="echo up; exec cat")

    assert error.last_look == "ready; connection refused; no such line; ready"


async def test_an_exit_tells_of_itself_alone(refusing_port: int) -> None:
    """C-91: what explains a process that has exited is its exit."""
    async with pf.spawn(pf.shell("exit 3", name="child")) as child:
        with pytest.raises(pf.NotReadyError) as caught:
            await child.wait_ready(ready.tcp("127.0.0.1", refusing_port), timeout_s=60)
    assert (caught.value.last_look, "look" in str(caught.value)) == ("", False)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed ('10.0.0.1', 80)"), "connection refused"),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "name or service not known"),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number"), "TLS failed"),
        (TimeoutError(), "TimeoutError"),
    ],
)
def test_an_error_is_told_in_words_of_the_system(error: OSError, text: str) -> None:
    """C-91: without the address that some of them name; also behind the error of somebody who has tried several."""
    assert reason_of(error) == text
    wrapped = OSError("All connection attempts failed")
    wrapped.__cause__ = ExceptionGroup("several", [error, error, OSError(errno.EHOSTUNREACH, "x")])
    assert reason_of(wrapped) == f"{text}, no route to host"


def test_probes_are_values() -> None:
    """C-91: equal probes are equal, and errors can say what they wait for."""
    assert ready.tcp("h", 1) == ready.tcp("h", 1)
    assert ready.line("a").describe() == "a line of stdout matched 'a'"
    assert "h:1 accepted" in ready.any(ready.tcp("h", 1), ready.file("/x")).describe()
