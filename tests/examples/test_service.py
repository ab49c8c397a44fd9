"""The service, as its users and its operators meet it: real HTTP, real jobs, and every way to kill it.

What is left over is counted from outside: every process of a job has a cookie of its test in its arguments.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

ROOT = Path(__file__).parents[2]
ENVIRON = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
LIMIT_S = 60.0
"""For what has no promise of its own; nothing waits that long unless something is broken."""

GONE_S = 10.0
"""Ten times what is promised for the end of everything after the end of the service."""

HOSTILE = """
import os, signal, sys, time
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
ready, tell = os.pipe()
def child(*steps):
    if os.fork() == 0:
        for step in steps:
            step()
        os.write(tell, b".")
        time.sleep(120)
        os._exit(0)
def orphan():
    if os.fork():
        os._exit(0)
def forget():
    script = "import os, time; os.write(%d, b'.'); time.sleep(120)" % tell
    os.set_inheritable(tell, True)
    os.execve(sys.executable, [sys.executable, "-I", "-S", "-c", script, sys.argv[1]], {})
steps = [[]]                                      # in the group, and holds the pipe
if "escape" in sys.argv[2:]:
    steps += [[os.setsid], [os.setsid, orphan]]   # in sessions of their own, one of them without a parent
if "forget" in sys.argv[2:]:
    steps += [[os.setsid, orphan, forget]]        # and with nothing in its environment
for each in steps:
    child(*each)
for _ in steps:
    os.read(ready, 1)
print("ready", os.getpid(), flush=True)
time.sleep(120)
"""
"""Ignores what can be ignored, and so do those that it leaves behind; says when all of them are there."""

KINDS = {"guarded": ("escape",), "strict": ("escape", "forget")}


class Served:
    """A running service, its clients, and the jobs of one test."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.cookie = f"cookie-{uuid.uuid4().hex}"
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "examples" / "run.py"), "service", "--port", "0", *options],
            cwd=folder,
            env=ENVIRON,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.log = self.process.stdout
        first = self.log.readline()
        match = re.search(r"http://127\.0\.0\.1:(\d+)", first)
        assert match is not None, first + self.process.communicate()[1]
        self.port = int(match[1])
        self._connections: list[http.client.HTTPConnection] = []

    # --- HTTP -------------------------------------------------------------------------------------------------------

    def open(
        self, method: str, path: str, body: bytes | None = None, *, receive_bytes: int = 0, **headers: Any
    ) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT_S)
        self._connections.append(connection)
        connection.sock = socket.socket()
        if receive_bytes:
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        connection.sock.settimeout(LIMIT_S)
        connection.sock.connect(("127.0.0.1", self.port))
        connection.request(method, path, body, {name.replace("_", "-"): text for name, text in headers.items()})
        return connection.getresponse()

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: Any) -> tuple[int, Any]:
        response = self.open(method, path, body, **headers)
        answer = json.loads(response.read())
        self._connections.pop().close()
        return response.status, answer

    def order(self, *argv: str, **options: object) -> tuple[int, Any]:
        body = json.dumps({"argv": argv, **options}).encode()
        return self.ask("POST", "/jobs", body, content_type="application/json")

    def start(self, *argv: str, **options: object) -> int:
        status, job = self.order(*argv, **options)
        assert status == 201, job
        number: int = job["id"]
        return number

    def python(self, script: str, *arguments: str, **options: object) -> int:
        return self.start(sys.executable, "-I", "-S", "-u", "-c", script, self.cookie, *arguments, **options)

    def hostile(self, kind: str) -> int:
        """Start the job that is the worst in its ``kind`` of containment, and wait until all of it is there."""
        return self._wait_hostile(kind, KINDS[kind])[0]

    def unpleasant(self, kind: str) -> tuple[int, int]:
        """Start the worst that a job of this ``kind`` reaches while the service runs; return its number, and its leader's."""
        return self._wait_hostile(kind, KINDS[kind] if kind == "strict" else ())

    def _wait_hostile(self, kind: str, steps: tuple[str, ...]) -> tuple[int, int]:
        number = self.python(HOSTILE, *steps, strict=kind == "strict", timeout_s=600)
        word, leader = self.stream(number).readline().split()
        assert word == b"ready"
        count = 2 + len(steps) + steps.count("escape")
        deadline = time.monotonic() + LIMIT_S
        while len(living := self.living()) != count:  # parents of orphans may still be about to exit
            assert time.monotonic() < deadline, living
            time.sleep(0.005)
        return number, int(leader)

    def job(self, number: int) -> Any:
        status, job = self.ask("GET", f"/jobs/{number}")
        assert status == 200, job
        return job

    def wait_job(self, number: int, is_so: Callable[[Any], bool]) -> Any:
        deadline = time.monotonic() + LIMIT_S
        while not is_so(job := self.job(number)):
            assert time.monotonic() < deadline, job
        return job

    def stream(self, number: int, query: str = "", **options: Any) -> http.client.HTTPResponse:
        response = self.open("GET", f"/jobs/{number}/output{query}", **options)
        assert response.status == 200, response.read()
        return response

    def hang_up(self) -> None:
        """Close the newest connection."""
        connection = self._connections.pop()
        assert connection.sock is not None
        connection.sock.shutdown(socket.SHUT_RDWR)
        connection.close()

    # --- from outside -----------------------------------------------------------------------------------------------

    def living(self) -> list[int]:
        return [int(name) for name in os.listdir("/proc") if name.isdigit() and self.cookie.encode() in arguments(name)]

    def assert_gone(self, watched: list[int]) -> None:
        """Prove that ``watched``, and everything else with the cookie, ends within a stated time of now."""
        deadline = time.monotonic() + GONE_S
        for pid in watched:
            with contextlib.suppress(ProcessLookupError):
                wait_exit(pid, deadline)
        while left := self.living():
            assert time.monotonic() < deadline, left
            time.sleep(0.005)

    def wait(self) -> tuple[int, str, str]:
        """Wait for the end of the service; return its code, and what it wrote since."""
        output, errors = self.process.communicate(timeout=LIMIT_S)
        return self.process.returncode, output, errors

    def close(self) -> None:
        for connection in self._connections:
            connection.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
        for pid in self.living():  # of a test that failed
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def arguments(name: str) -> bytes:
    """The arguments of a process; empty for zombies and for the kernel's own."""
    with contextlib.suppress(OSError):
        while True:
            with open(f"/proc/{name}/cmdline", "rb") as file:
                if words := file.read():
                    return words
            with open(f"/proc/{name}/stat", "rb") as file:
                state, parent, *_ = file.read().rpartition(b")")[2].split()
            if state in (b"Z", b"X") or parent in (b"0", b"2"):
                return b""
            time.sleep(0.0005)  # it is between two programs: the arguments of the new one are not there yet
    return b""


def wait_exit(pid: int, deadline: float) -> None:
    fd = os.pidfd_open(pid)
    try:
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        poller.poll(max(0.0, deadline - time.monotonic()) * 1000)
    finally:
        os.close(fd)


def objects(response: http.client.HTTPResponse) -> list[Any]:
    return [json.loads(line) for line in response.read().splitlines()]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    with contextlib.ExitStack() as stack:

        def start(*options: str) -> Served:
            served = Served(tmp_path, *options)
            stack.callback(served.close)
            return served

        yield start


@pytest.fixture
def served(serve: Callable[..., Served]) -> Served:
    return serve()


@pytest.fixture
def hasty(serve: Callable[..., Served]) -> Served:
    """For jobs that no time would end."""
    return serve("--grace-s", "0.3")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One service for what only asks, and is not to make it complain."""
    served = Served(tmp_path_factory.mktemp("shared"))
    try:
        yield served
        served.process.terminate()
        assert served.wait()[2] == ""
    finally:
        served.close()


@pytest.fixture
def gate(tmp_path: Path) -> Callable[[], None]:
    """Lets a job go on that does ``read _ < gate`` in the folder of the service."""
    path = tmp_path / "gate"
    os.mkfifo(path)

    def open_gate() -> None:
        path.write_text("go\n")

    return open_gate


@pytest.mark.parametrize("containment", ["guarded", "strict"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_service_and_every_job(hasty: Served, containment: str, number: signal.Signals) -> None:
    """C-67, C-80, C-82: it stops by itself, clients get the end of what they read, and nothing of the most hostile job is left."""
    job = hasty.hostile(containment)
    client = hasty.stream(job, "?format=ndjson")
    watched = hasty.living()

    hasty.process.send_signal(number)
    ended = objects(client)[-1]["ended"]
    code, output, errors = hasty.wait()

    hasty.assert_gone(watched)
    assert (code, errors) == (0, "")
    assert output.splitlines()[-1] == "service: stopped; no job is running any more"
    assert ended["outcome"]["signal"] == signal.SIGKILL
    assert ended["outcome"]["ended_by"] == "cancel"


@pytest.mark.parametrize("containment", ["guarded", "strict"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGQUIT])
def test_a_service_that_is_killed_leaves_nothing(served: Served, containment: str, number: signal.Signals) -> None:
    """C-80, C-82: a second after a SIGKILL, or a signal that nobody handles, nothing of the most hostile job is left."""
    job = served.hostile(containment)
    client = served.stream(job)
    watched = served.living()
    assert client.readline().startswith(b"ready ")

    served.process.send_signal(number)
    code, _, errors = served.wait()

    served.assert_gone(watched)
    assert (code, errors) == (-number, "")
    with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):  # the client can tell that this was no end
        client.read()


@pytest.mark.parametrize("containment", ["guarded", "strict"])
def test_a_second_ctrl_c_kills_what_takes_its_time(serve: Callable[..., Served], containment: str) -> None:
    """C-64, C-67: whoever presses it twice does not wait for the minute that the jobs were given."""
    served = serve("--grace-s", "300")
    served.hostile(containment)
    watched = served.living()

    served.process.send_signal(signal.SIGINT)
    while "stopping because of SIGINT" not in served.log.readline():
        pass
    served.process.send_signal(signal.SIGINT)
    code, output, errors = served.wait()

    served.assert_gone(watched)
    assert (code, errors) == (130, "")
    assert "was ended by SIGKILL (cancel)" in output


def test_a_client_that_reads_nothing_does_not_keep_the_service(served: Served, tmp_path: Path) -> None:
    """C-67: once all jobs have ended, clients have a second to take the rest."""
    job = served.python("while True: print('x' * 1000)")
    served.stream(job, receive_bytes=4096)
    served.wait_job(job, lambda report: report["output_bytes"] > 32 << 20)
    watched = served.living()

    served.process.send_signal(signal.SIGTERM)
    code, output, _ = served.wait()

    served.assert_gone(watched)
    assert code == 0
    assert output.splitlines()[-1] == "service: stopped; no job is running any more"


@pytest.mark.parametrize("containment", ["guarded", "strict"])
def test_the_end_of_a_leader_is_the_end_of_its_job(hasty: Served, containment: str) -> None:
    """C-61, C-65, C-83: when a leader is killed, what holds its pipe ends too: its group, and of a strict job everything."""
    job, leader = hasty.unpleasant(containment)
    client = hasty.stream(job, "?format=ndjson")
    watched = hasty.living()

    os.kill(leader, signal.SIGKILL)
    ended = objects(client)[-1]["ended"]

    hasty.assert_gone(watched)
    assert ended["outcome"]["signal"] == signal.SIGKILL
    assert ended["outcome"]["ended_by"] == "itself"
    assert hasty.job(job)["clients"] == 0


@pytest.mark.parametrize("containment", ["guarded", "strict"])
@pytest.mark.parametrize("way", ["delete", "timeout", "service"])
def test_a_stopped_job_ends_like_any_other(served: Served, containment: str, way: str) -> None:
    """C-64: SIGSTOP keeps no job from being deleted, from running out of time, or from ending with the service."""
    job = served.python(
        "import os, signal, time; os.kill(os.getpid(), signal.SIGSTOP); time.sleep(120)",
        strict=containment == "strict",
        timeout_s=3 if way == "timeout" else 600,
    )
    if way == "timeout":  # on a slow machine it runs out of time before it stops itself
        report = served.wait_job(job, lambda report: report["state"] == "ended")
        assert report["timed_out"]
        assert report["outcome"]["signal"] == signal.SIGTERM
        served.assert_gone([])
        return
    [leader] = served.living()
    deadline = time.monotonic() + LIMIT_S
    while psutil.Process(leader).status() != psutil.STATUS_STOPPED:
        assert time.monotonic() < deadline

    if way == "delete":
        status, report = served.ask("DELETE", f"/jobs/{job}")
        assert status == 200
        assert report["outcome"]["text"] == "was ended by SIGTERM (terminate)"
    else:
        served.process.terminate()
        assert served.wait()[0] == 0

    served.assert_gone([leader])


def test_a_log_that_nobody_reads_any_more_stops_nothing(served: Served) -> None:
    """C-67: with a broken pipe behind it the service goes on, and ends as it would have."""
    first = served.python("import time; print('ready'); time.sleep(120)")
    served.log.close()

    second = served.python("print('second')")

    assert served.stream(second).read() == b"second\n"
    assert served.stream(first).readline() == b"ready\n"
    watched = served.living()
    served.process.terminate()
    assert served.process.wait(LIMIT_S) == 0
    served.assert_gone(watched)
    assert served.process.stderr is not None
    assert served.process.stderr.read() == ""


def test_a_log_that_is_full_stops_nothing(served: Served) -> None:
    """The service never waits for whoever should read what it prints."""
    with open(f"/proc/{served.process.pid}/fd/1", "wb", buffering=0, opener=open_nonblocking) as pipe:
        while pipe.write(b"x" * 512):
            pass

    job = served.start("true")

    assert served.stream(job).read() == b""
    served.process.terminate()
    assert served.process.wait(LIMIT_S) == 0


def open_nonblocking(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


@pytest.mark.parametrize("containment", ["guarded", "strict"])
def test_a_job_that_is_out_of_time_is_ended(hasty: Served, containment: str) -> None:
    """C-63: its group is ended, of a strict job everything; the report says what happened, and keeps the output."""
    steps = KINDS[containment] if containment == "strict" else ()
    job = hasty.python(HOSTILE, *steps, strict=containment == "strict", timeout_s=3)

    *items, last = objects(hasty.stream(job, "?format=ndjson"))

    hasty.assert_gone([])
    assert last["ended"]["timed_out"]
    assert last["ended"]["outcome"]["signal"] in (signal.SIGTERM, signal.SIGKILL)  # it may be slow to ignore SIGTERM
    assert last["ended"]["outcome"]["duration_s"] >= 3
    assert hasty.stream(job).read().decode() == "".join(f"{item['line']}\n" for item in items)


@pytest.mark.parametrize("containment", ["guarded", "strict"])
def test_delete_answers_when_nothing_is_left(hasty: Served, containment: str) -> None:
    """C-65, C-83: the answer comes after the end of the group, of a strict job of everything; to ask twice is fine."""
    job, _ = hasty.unpleasant(containment)

    status, report = hasty.ask("DELETE", f"/jobs/{job}")

    assert hasty.living() == []
    assert status == 200
    assert report["state"] == "ended"
    assert report["outcome"]["ended_by"] == "terminate"
    status, again = hasty.ask("DELETE", f"/jobs/{job}")
    assert status == 200
    assert again | {"clients": 0} == report | {"clients": 0}  # who has read its output may be gone by now, or not yet


def test_every_client_gets_the_whole_output(served: Served, gate: Callable[[], None]) -> None:
    """C-20, C-26: those who were there, one who comes late, and one who comes after the end read the same bytes."""
    job = served.start("sh", "-c", "seq 1000; read _ < gate; echo an error >&2; seq 1001 2000")
    early = [served.stream(job) for _ in range(3)]
    for client in early:
        assert [client.readline() for _ in range(1000)][-1] == b"1000\n"
    late = served.stream(job)
    assert late.readline() == b"1\n"

    gate()

    first, second = (b"".join(b"%d\n" % i for i in range(start, start + 1000)) for start in (1, 1001))
    for client in early:
        assert client.read() == b"an error\n" + second
    assert late.read() == first.removeprefix(b"1\n") + b"an error\n" + second
    assert served.stream(job).read() == first + b"an error\n" + second


def test_a_slow_client_sees_a_gap_and_slows_nobody(served: Served, gate: Callable[[], None]) -> None:
    """C-22, C-24, C-25: while it reads nothing, another one gets every byte and the job ends; then it is told what it missed."""
    size = 32 << 20
    job = served.start("sh", "-c", f"read _ < gate; yes 0123456789abcde | head -c {size}")
    slow = served.stream(job, "?format=ndjson", receive_bytes=4096)
    fast = served.stream(job, "?reliable=1")
    served.wait_job(job, lambda report: report["clients"] == 2)

    gate()
    received = 0
    while piece := fast.read(1 << 16):
        received += len(piece)
    report = served.wait_job(job, lambda report: report["state"] == "ended")

    assert received == size
    assert report["outcome"]["exit_code"] == 0
    items = objects(slow)
    gaps = [item["missing"] for item in items if "missing" in item]
    lines = [item["line"] for item in items if "line" in item]
    assert gaps
    assert sum(stop - start for start, stop in gaps) + sum(len(line) + 1 for line in lines) == size
    assert set(lines) == {"0123456789abcde"}
    assert items[-1]["ended"]["output_bytes"] == size


def test_what_was_forgotten_is_said(served: Served) -> None:
    """C-26: a late client begins with a line about what it cannot have any more, or is refused if it wants every byte."""
    job = served.start("sh", "-c", "yes | head -c 3000000")
    served.wait_job(job, lambda report: report["state"] == "ended")

    text = served.stream(job).read()
    status, answer = served.ask("GET", f"/jobs/{job}/output?reliable=1")

    head, _, rest = text.partition(b"\n")
    match = re.fullmatch(rb"\[(\d+) bytes are missing\]", head)
    assert match is not None
    assert int(match[1]) + len(rest) == 3000000
    assert status == 410
    assert answer == {
        "error": f"the first {int(match[1])} bytes of the output were forgotten: leave out reliable=1",
    }


@pytest.mark.parametrize("query", ["", "?reliable=1"])
def test_a_client_that_hangs_up_is_forgotten_at_once(served: Served, gate: Callable[[], None], query: str) -> None:
    """C-29: also while the job is silent, so that nothing would be sent to it; the job goes on."""
    job = served.start("sh", "-c", "echo ready; read _ < gate; echo done")
    assert served.stream(job, query).readline() == b"ready\n"
    assert served.job(job)["clients"] == 1

    served.hang_up()

    served.wait_job(job, lambda report: report["clients"] == 0)
    gate()
    assert served.stream(job).read() == b"ready\ndone\n"


def test_a_reliable_client_that_hangs_up_lets_the_job_go_on(served: Served, gate: Callable[[], None]) -> None:
    """C-29: a job that waits for a client which is gone waits no more."""
    job = served.start("sh", "-c", "read _ < gate; yes | head -c 30000000")
    served.stream(job, "?reliable=1", receive_bytes=4096)
    served.wait_job(job, lambda report: report["clients"] == 1)
    gate()
    served.wait_job(job, lambda report: report["output_bytes"] > 1 << 16)

    served.hang_up()

    assert served.wait_job(job, lambda report: report["state"] == "ended")["outcome"]["exit_code"] == 0


JSON = {"content_type": "application/json"}


@pytest.mark.parametrize(
    ("body", "headers", "status", "text"),
    [
        (b"{", JSON, 400, "the body is no order of a job: Input data was truncated; send one such as {"),
        (b"\xff", JSON, 400, "the body is no order of a job: "),
        (b"{}", JSON, 400, "missing required field `argv`"),
        (b'{"argv": "ls -l"}', JSON, 400, "Expected `array`, got `str` - at `$.argv`"),
        (b'{"argv": []}', JSON, 400, "length >= 1 - at `$.argv`"),
        (b'{"argv": ["ls", 1]}', JSON, 400, "Expected `str`, got `int` - at `$.argv[1]`"),
        (b'{"argv": ["ls", "a\\u0000b"]}', JSON, 400, "argv: argument 1 must not hold a NUL"),
        (b'{"argv": ["no-such-program"]}', JSON, 400, "argv[0]: cannot start 'no-such-program': No such file"),
        (b'{"argv": ["/etc"]}', JSON, 400, "argv[0]: cannot start '/etc': Permission denied"),
        (b'{"argv": [""]}', JSON, 400, "argv"),
        (b'{"argv": ["ls"], "timeout_s": 0}', JSON, 400, "> 0.0 - at `$.timeout_s`"),
        (b'{"argv": ["ls"], "timeout_s": 1e9}', JSON, 400, "<= 3600.0 - at `$.timeout_s`"),
        (b'{"argv": ["ls"], "strict": 1}', JSON, 400, "Expected `bool`, got `int` - at `$.strict`"),
        (b'{"argv": ["ls"], "cwd": "/"}', JSON, 400, "unknown field `cwd`"),
        (b'{"argv": ["' + b"x" * 70000 + b'"]}', JSON, 413, "longer than 65536 bytes"),
        (b'{"argv": ["ls"]}', {"content_type": "text/plain"}, 415, "must be application/json"),
        (b'{"argv": ["ls"]}', {**JSON, "Host": "evil.example"}, 403, "Host: this service is called 127.0.0.1:"),
    ],
)
def test_a_bad_order_is_one_clear_sentence(
    shared: Served, body: bytes, headers: dict[str, str], status: int, text: str
) -> None:
    """C-4: what is wrong, where, and what to do; nothing is started."""
    before = shared.ask("GET", "/jobs")

    answered, answer = shared.ask("POST", "/jobs", body, **headers)

    assert answered == status
    assert list(answer) == ["error"]
    assert text in answer["error"]
    assert shared.ask("GET", "/jobs") == before


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        ("GET", "/", 404, "POST /jobs"),
        ("PUT", "/jobs", 404, "POST /jobs"),
        ("GET", "/jobs/1000", 404, "there is no such job"),
        ("GET", "/jobs/x/output", 404, "there is no such job"),
        ("DELETE", "/jobs/-1", 404, "there is no such job"),
        ("GET", "/jobs/{job}/output?reliable=yes", 400, "reliable: must be 0 or 1, not 'yes'"),
        ("GET", "/jobs/{job}/output?format=xml", 400, "format: must be text or ndjson, not 'xml'"),
    ],
)
def test_a_bad_question_is_one_clear_sentence(shared: Served, method: str, path: str, status: int, text: str) -> None:
    """It says what is wrong, and what there is instead."""
    job = shared.start("true")
    shared.wait_job(job, lambda report: report["state"] == "ended")

    answered, answer = shared.ask(method, path.format(job=job))

    assert answered == status
    assert text in answer["error"]


def test_one_job_too_many_is_refused_until_another_ends(served: Served) -> None:
    """The number of jobs that run is bounded, and the answer says what to do."""
    jobs = [served.python("import time; time.sleep(120)") for _ in range(8)]

    status, answer = served.order("true")

    assert status == 429
    assert answer == {"error": "8 jobs are running, and no more may: wait for one, or DELETE one"}
    assert served.ask("DELETE", f"/jobs/{jobs[0]}")[0] == 200
    assert served.order("true")[0] == 201


def test_history_and_memory_are_bounded(served: Served) -> None:
    """C-28: the newest 32 ended jobs are known, each with a megabyte of its output."""
    before = psutil.Process(served.process.pid).memory_info().rss

    for _ in range(40):
        job = served.start("head", "-c", "3000000", "/dev/zero")
        served.stream(job).read()
        served.wait_job(job, lambda report: report["state"] == "ended")

    status, jobs = served.ask("GET", "/jobs")
    assert (status, [report["id"] for report in jobs]) == (200, list(range(9, 41)))
    assert psutil.Process(served.process.pid).memory_info().rss - before < 64 << 20


def test_arguments_are_told_to_nobody(served: Served) -> None:
    """C-2: what was ordered may be a secret, so neither the log nor another client gets it."""
    job = served.start("sh", "-c", "exit 3", "s3cret")
    served.order("s3cret-program")
    report = served.wait_job(job, lambda report: report["state"] == "ended")

    served.process.terminate()
    code, output, errors = served.wait()

    assert code == 0
    assert "job 1 exited with 3" in output
    assert "s3cret" not in output + errors + json.dumps(report)


def test_a_port_that_is_taken_is_one_clear_line(served: Served, tmp_path: Path) -> None:
    """It says what is wrong, and what to do."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "run.py"), "service", "--port", str(served.port)],
        env=ENVIRON,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )

    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == (
        f"service: cannot listen on port {served.port}: Address already in use; take another one: --port 0\n"
    )
