"""The fault proxy: it does each thing that it is told, to the request that it is told, and is transparent otherwise."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar, Final

import pytest

from tools.servers.faults import Answer, Break, Fault, FaultProxy, fault_proxy

BODY: Final = b"answer" * 100_000


class Echo(BaseHTTPRequestHandler):
    """Answers every request with its own body, or a large one, and counts."""

    protocol_version = "HTTP/1.1"
    seen: ClassVar[list[tuple[str, str, bytes]]] = []

    def answer(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.seen.append((self.command, self.path, data))
        self.send_response(200)
        body = data or BODY
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_PUT = do_HEAD = answer  # noqa: N815  # named by the base class

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def proxy() -> Iterator[FaultProxy]:
    Echo.seen.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with fault_proxy(f"http://127.0.0.1:{server.server_address[1]}/path") as started:
            yield started
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def ask(proxy: FaultProxy, method: str, target: str, body: bytes | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(proxy.url.removeprefix("http://"), timeout=30)
    try:
        connection.request(method, target, body)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_requests_and_answers_pass_unchanged(proxy: FaultProxy) -> None:
    """Without a fault the proxy is not there: bodies of any size, both ways."""
    assert ask(proxy, "PUT", "/b/a%20b?x=1", b"z" * 5_000_000) == (200, b"z" * 5_000_000)
    assert ask(proxy, "GET", "/b/a") == (200, BODY)
    assert ask(proxy, "HEAD", "/b/a") == (200, b"")
    assert proxy.requests == [("PUT", "/b/a%20b?x=1"), ("GET", "/b/a"), ("HEAD", "/b/a")]


def test_a_fault_strikes_the_request_that_it_names(proxy: FaultProxy) -> None:
    """By method, by a pattern of the target, after so many, so many times."""
    fault = Fault(what=Answer(status=503, code="SlowDown"), method="PUT", target=r"/b/.*\.csv$", after=1, times=2)
    proxy.inject(fault)

    answers = [ask(proxy, "PUT", "/b/a.csv", b"x")[0] for _ in range(5)]

    assert answers == [200, 503, 503, 200, 200]
    assert fault.hits == 2
    assert ask(proxy, "PUT", "/b/a.csv.json", b"x")[0] == 200
    proxy.inject(Fault(what=Answer(status=403, code="AccessDenied"), times=None))
    assert b"<Code>AccessDenied</Code>" in ask(proxy, "GET", "/b/a")[1]
    proxy.clear()
    assert ask(proxy, "GET", "/b/a")[0] == 200


@pytest.mark.parametrize(
    ("what", "is_done"), [(Break.CUT_REQUEST, False), (Break.CUT_ANSWER, True), (Break.LOSE_ANSWER, True)]
)
def test_cut_connections(proxy: FaultProxy, what: Break, is_done: bool) -> None:
    """A cut request never reaches the store; one whose answer is cut or lost was done."""
    proxy.inject(Fault(what=what, method="PUT"))

    with pytest.raises((OSError, http.client.HTTPException)):
        ask(proxy, "PUT", "/b/a", b"z" * 1_000_000)

    assert bool(Echo.seen) is is_done
    assert ask(proxy, "PUT", "/b/a", b"z")[0] == 200


@pytest.mark.parametrize(("what", "is_done"), [(Break.STALL, False), (Break.HOLD_ANSWER, True)])
def test_what_has_stalled_can_be_made_to_fail(proxy: FaultProxy, what: Break, is_done: bool) -> None:
    """A test does what it wants to while a request waits, before the store has done it or after."""
    proxy.inject(Fault(what=what))
    connection = http.client.HTTPConnection(proxy.url.removeprefix("http://"), timeout=30)
    connection.request("GET", "/b/a")
    assert proxy.stalled.wait(30)
    assert bool(Echo.seen) is is_done

    proxy.release()

    with pytest.raises((OSError, http.client.HTTPException)):
        connection.getresponse()
    connection.close()


def test_a_stalled_request_is_never_answered(proxy: FaultProxy) -> None:
    """The client waits until it gives up, and others are answered meanwhile."""
    proxy.inject(Fault(what=Break.STALL))
    connection = http.client.HTTPConnection(proxy.url.removeprefix("http://"), timeout=0.1)
    connection.request("GET", "/b/a")

    with pytest.raises(TimeoutError):
        connection.getresponse()

    assert proxy.stalled.is_set()
    assert ask(proxy, "GET", "/b/b")[0] == 200
    connection.close()


def test_the_proxy_ends_with_a_stalled_request() -> None:
    """Leaving the block ends what still waits."""
    with fault_proxy("http://127.0.0.1:1") as proxy:
        proxy.inject(Fault(what=Break.STALL))
        connection = http.client.HTTPConnection(proxy.url.removeprefix("http://"), timeout=30)
        connection.request("GET", "/b/a")
        assert proxy.stalled.wait(30)

    with pytest.raises((OSError, http.client.HTTPException)):
        connection.getresponse()
    connection.close()
