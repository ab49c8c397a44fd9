"""One server in one directory: started, killed, started again on the same data and port.

Owns the server's process for as long as the process that started it lives: the kernel kills it with its parent.  Must not
know whose it is.  Start it from the main thread: a death signal is sent when the *thread* that started a child ends.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from tools.servers.kinds import RECIPES, Kind, binaries
from tools.servers.system import PR_SET_PDEATHSIG, free_port, libc_prctl, unprivileged

START_DEADLINE_S: Final = 60.0
PORT_ATTEMPTS: Final = 5


class ServerStartError(Exception):
    """The server was found but did not start; the message ends with its log."""


class Server:
    """One server; ``directory`` is created and holds its data and log.

    Args:
        kind: What it is.
        directory: Where it lives; its parent exists.
        programs: Where its programs are.
        options: Words that end its command line.
    """

    def __init__(self, kind: Kind, directory: Path, programs: Path, options: Sequence[str] = ()) -> None:
        self._recipe = RECIPES[kind]
        self._directory = directory
        self._programs = programs
        self._options = options
        self._log = directory / "log"
        self._prefix, self._as_user = unprivileged() if self._recipe.refuses_root else ((), {})
        self._process: subprocess.Popen[bytes] | None = None
        self._port: int | None = None

    @property
    def url(self) -> str:
        """The administrator's URL, the same after every start.

        Raises:
            RuntimeError: Before the first start.
        """
        if self._port is None:
            raise RuntimeError("the server was never started")
        return self._recipe.url(self._port)

    @property
    def pid(self) -> int:
        """The process of the server that runs.

        Raises:
            RuntimeError: If none does.
        """
        if self._process is None:
            raise RuntimeError("the server does not run")
        return self._process.pid

    def start(self) -> None:
        """Start the server, on its old data and port if it ran before, and return when it answers.

        Raises:
            ServerStartError: If it does not.
        """
        if self._port is not None:
            if not self._start_on(self._port):
                raise ServerStartError(f"port {self._port} was taken meanwhile")
            return
        self._prepare()
        for _ in range(PORT_ATTEMPTS):
            port = free_port()
            if self._start_on(port):
                self._port = port
                return
        raise ServerStartError(self._log_tail())

    def kill(self) -> None:
        """End the server at once, as a crash would; its data stays."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _prepare(self) -> None:
        self._directory.mkdir(mode=0o755)
        if "user" in self._as_user:
            shutil.chown(self._directory, self._as_user["user"], self._as_user["group"])
        argv = self._recipe.initialise(self._programs, self._directory)
        if argv and self._popen(argv).wait(START_DEADLINE_S) != 0:
            raise ServerStartError(self._log_tail())

    def _start_on(self, port: int) -> bool:
        self._log.write_bytes(b"")
        process = self._popen([*self._recipe.command(self._programs, self._directory, port), *self._options])
        if not self._wait_ready(process, port):
            return False
        self._process = process
        return True

    def _popen(self, argv: Sequence[str]) -> subprocess.Popen[bytes]:
        # The kernel's last resort when this process itself is killed.
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [*self._prefix, *argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env={"PATH": os.environ.get("PATH", os.defpath) + ":/usr/sbin", "LC_ALL": "C.UTF-8", "TZ": "UTC"},
                start_new_session=True,
                preexec_fn=functools.partial(libc_prctl, PR_SET_PDEATHSIG, self._recipe.death_signal),  # noqa: PLW1509  # no threads
                **self._as_user,
            )

    def _wait_ready(self, process: subprocess.Popen[bytes], port: int) -> bool:
        """Return whether this server, not another one that took the port, answers; False asks for another port."""
        deadline = time.monotonic() + START_DEADLINE_S
        while time.monotonic() < deadline:
            if process.poll() is not None:
                if b"ddress already in use" in self._log.read_bytes():
                    return False
                raise ServerStartError(self._log_tail())
            if self._recipe.is_ready(self._directory, process.pid):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    return True
            time.sleep(0.01)
        raise ServerStartError(self._log_tail())

    def _log_tail(self) -> str:
        return self._log.read_text(errors="replace")[-2000:] if self._log.exists() else ""


@contextlib.contextmanager
def own_server(kind: Kind, options: Sequence[str] = ()) -> Iterator[Server]:
    """Give a started server that nobody else uses, to be killed and started again; it is gone after the block.

    Raises:
        ServerUnavailableError: If it is not installed.
        ServerStartError: If it does not start.
    """
    programs = binaries(kind)
    with tempfile.TemporaryDirectory(prefix=f"procflow-{kind}-", ignore_cleanup_errors=True) as directory:
        Path(directory).chmod(0o755)
        server = Server(kind, Path(directory) / kind, programs, options)
        try:
            server.start()
            yield server
        finally:
            server.kill()
