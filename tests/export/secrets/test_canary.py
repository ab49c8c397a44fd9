"""Real exports with secrets in them, and a search for the secrets in everything that was written, said or shown."""

from __future__ import annotations

import base64
import json
import os
import shlex
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, quote_plus, urlsplit

import pytest

from tests.export.secrets.canaries import (
    CORES,
    PASSWORD,
    PASSWORD_CORE,
    TOKEN,
    TOKEN_CORE,
    leaks,
    leaks_in,
    watching,
)
from tests.export.sources.password_servers import postgres_with_passwords
from tools.pytest_servers import mariadb_execute, postgres_execute

TIMEOUT_S = 120.0
KINDS = ("postgres", "mariadb", "sqlite")
ENGINES = ("in-process", "processes")
HOST = Path(__file__).with_name("host.py")
SRC = Path(__file__).parents[3] / "src"


@dataclass(slots=True)
class Bench:
    """A database with a secret at its door, and a folder in which everything stays that an export writes.

    Attributes:
        kind: The database.
        root: The folder.
        source: How to reach it; what it lacks is the password.
        set_password: Changes the password of its role.
        place: Where a worker is at work: the server's port, or the database's file.
        slow: A query that takes some seconds.
        failing: Queries whose errors repeat the value of ``:token``, or of a text in it.
    """

    kind: str
    root: Path
    source: dict[str, Any]
    set_password: Callable[[str], None]
    place: str | int
    slow: str
    failing: tuple[str, ...]
    environ: dict[str, str] = field(default_factory=dict)

    @property
    def conf(self) -> Path:
        """Where the operator keeps his own files, secrets included; the only place that is not searched."""
        return self.root / "conf"

    def with_password(self, way: str, password: str) -> dict[str, Any]:
        """The source, its password given in a way."""
        if self.kind == "sqlite":
            return self.source
        parts = dict(self.source)
        scheme = "postgresql" if parts["type"] == "postgres" else "mysql"

        def url(text: str) -> str:
            place = f"{parts['host']}:{parts['port']}/{parts['database']}"
            return f"{scheme}://{parts['user']}:{text}@{place}"

        kept = {"type": parts["type"], "tuning": parts["tuning"]}
        match way:
            case "url":
                return kept | {"url": url(quote(password, safe=""))}
            case "url with a variable":
                self.environ["SHOP_PASSWORD"] = quote(password, safe="")
                return kept | {"url": url("${SHOP_PASSWORD}")}
            case "url_file":
                (self.conf / "url").write_text(url(quote(password, safe="+")))
                return kept | {"url_file": "url"}
            case "password_env":
                self.environ["SHOP_PASSWORD"] = password
                return parts | {"password_env": "SHOP_PASSWORD"}
            case _:
                return parts | {"password": password}

    def write(self, source: dict[str, Any], query: str, **export: Any) -> Path:
        values = {
            "source": source,
            "destination": {"type": "local", "path": str(self.root / "seen" / "out")},
            "exports": [{"name": "shop", "query": query, "mode": "full", "format": "csv"} | export],
        }
        file = self.conf / "shop.json"
        file.write_text(json.dumps(values))
        return file

    def program(self, *arguments: object, program: tuple[str, ...] = ("-m", "procflow_export")) -> Ended:
        """Run a program to its end, and look at its children meanwhile."""
        return self._run([sys.executable, *program, *map(str, arguments)], kills_in=None)

    def program_with_kill(self, *arguments: object) -> Ended:
        return self._run([sys.executable, "-m", "procflow_export", *map(str, arguments)], kills_in=self.place)

    def _run(self, command: list[str], *, kills_in: str | int | None) -> Ended:
        seen = self.root / "seen"
        for folder in ("home", "tmp", "work"):
            (seen / folder).mkdir(parents=True, exist_ok=True)
        environ = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(SRC),
            "PYTHONUTF8": "1",
            "HOME": str(seen / "home"),
            "TMPDIR": str(seen / "tmp"),
        }
        with subprocess.Popen(
            command,
            cwd=seen / "work",
            env=environ | self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            with watching(process.pid, kills_in=kills_in) as watched:
                out, err = process.communicate(timeout=TIMEOUT_S)
        return Ended(process.returncode, out, err, watched)

    def assert_kept(self, *endings: Ended) -> None:
        """Nothing that was written, said or shown gives a secret away."""
        assert leaks_in(self.root / "seen") == {}
        given = {core for core in CORES if leaks("\0".join(self.environ.values()), (core,))}
        for ended in endings:
            assert (leaks(ended.out), leaks(ended.err)) == ([], []), (ended.out, ended.err)
            for arguments in ended.watched.arguments.values():
                assert leaks(b"".join(arguments)) == [], arguments
            for environ in ended.watched.environments.values():
                # What the operator has put into the environment is there; nothing else is.
                assert set(leaks(b"".join(environ))) <= given, environ


@dataclass(frozen=True, slots=True)
class Ended:
    status: int
    out: bytes
    err: bytes
    watched: Any

    @property
    def data(self) -> Any:
        return json.loads(self.out)


# --- databases ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def secured_postgres() -> Iterator[str]:
    with postgres_with_passwords() as url:
        postgres_execute(
            url,
            "CREATE ROLE keeper LOGIN",
            "CREATE TABLE shop (id int PRIMARY KEY, v text)",
            "INSERT INTO shop SELECT n, 'row ' || n FROM generate_series(1, 200) AS n",
            "GRANT SELECT ON shop TO keeper",
        )
        yield url


def postgres_bench(url: str, root: Path) -> Bench:
    port = int(parse_qs(urlsplit(url).query)["port"][0])

    def set_password(password: str) -> None:
        text = password.replace("'", "''")
        postgres_execute(url, f"ALTER ROLE keeper PASSWORD '{text}'")

    source = {"type": "postgres", "host": "127.0.0.1", "port": port, "user": "keeper", "database": "postgres"}
    return Bench(
        kind="postgres",
        root=root,
        source=source,
        set_password=set_password,
        place=port,
        slow="SELECT id, v, pg_sleep(0.01)::text AS s FROM shop WHERE v <> :token",
        failing=("SELECT CAST(:token AS integer) AS v", "SELECT id FROM shop WHERE v = :token :token"),
    )


def mariadb_bench(url: str, root: Path) -> Bench:
    parts = urlsplit(url)
    database, port = parts.path[1:], parts.port or 0
    mariadb_execute(
        url,
        "CREATE TABLE IF NOT EXISTS shop (id int PRIMARY KEY, v text)",
        "REPLACE INTO shop SELECT seq, 'row' FROM seq_1_to_200",
    )

    def set_password(password: str) -> None:
        text = password.replace("\\", "\\\\").replace("'", "''")
        user = f"'k_{database}'@'%'"
        mariadb_execute(
            url, f"CREATE OR REPLACE USER {user} IDENTIFIED BY '{text}'", f"GRANT SELECT ON {database}.* TO {user}"
        )

    source = {"type": "mysql", "host": "127.0.0.1", "port": port, "user": f"k_{database}", "database": database}
    return Bench(
        kind="mariadb",
        root=root,
        source=source,
        set_password=set_password,
        place=port,
        slow="SELECT id, v, SLEEP(0.01) AS s FROM shop WHERE v <> :token",
        failing=(
            "SELECT nowhere.`${API_TOKEN_NAME}` AS v, :token AS w FROM shop AS nowhere",
            "SELECT id FORM shop WHERE v = :token",
            # MySQL repeats 80 characters: the last of them are the beginning of the secret.
            f"SELECT id FORM shop WHERE v = '{'x' * 40}' OR v = '${{API_TOKEN_NAME}}' OR v = :token",
        ),
    )


def sqlite_bench(root: Path) -> Bench:
    file = root / "shop.sqlite"
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("CREATE TABLE shop (id integer PRIMARY KEY, v text)")
        database.executemany("INSERT INTO shop VALUES (?, 'row')", ((n,) for n in range(200)))
    return Bench(
        kind="sqlite",
        root=root,
        source={"type": "sqlite", "path": str(file)},
        set_password=lambda _: None,
        place=str(file),
        slow="WITH RECURSIVE g (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM g WHERE n < 600000)"
        " SELECT n AS id FROM g WHERE :token <> n",
        failing=("SELECT [${API_TOKEN_NAME}] AS v, :token AS w FROM shop",),
    )


@pytest.fixture(params=KINDS)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    (tmp_path / "conf").mkdir()
    match request.param:
        case "postgres":
            found = postgres_bench(request.getfixturevalue("secured_postgres"), tmp_path)
        case "mariadb":
            found = mariadb_bench(request.getfixturevalue("mariadb_module_database"), tmp_path)
        case _:
            found = sqlite_bench(tmp_path)
    found.source["tuning"] = {"max_retries": 1, "retry_backoff_ms": 1}
    found.set_password(PASSWORD)
    return found


# --- the search itself ----------------------------------------------------------------------------------------------


def test_every_form_of_a_secret_is_found(tmp_path: Path) -> None:
    """E-2: a search that finds nothing has looked for something."""
    for secret, core in ((PASSWORD, PASSWORD_CORE), (TOKEN, TOKEN_CORE)):
        shown = [
            secret,
            quote(secret, safe=""),
            quote_plus(secret),
            repr(secret),
            json.dumps(secret),
            shlex.quote(secret),
            secret.encode().hex(),
            secret.encode().hex().upper(),
        ]
        for before in range(4):
            for after in range(4):
                data = b"u" * before + secret.encode() + b"x" * after
                shown += [base64.b64encode(data).decode(), base64.urlsafe_b64encode(data).decode()]
        for text in shown:
            assert leaks(f"before {text} after") == [core], text
    assert leaks("nothing of the kind") == []
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file").write_text(f"x{TOKEN}")
    assert list(leaks_in(tmp_path).values()) == [[TOKEN_CORE]]


# --- runs -----------------------------------------------------------------------------------------------------------

TOKEN_PARAMETER = {"token": "${API_TOKEN}"}


@pytest.mark.parametrize(
    ("bench", "way"),
    [
        ("postgres", "url"),
        ("postgres", "url with a variable"),
        ("postgres", "url_file"),
        ("postgres", "password_env"),
        ("postgres", "password"),
        ("mariadb", "url"),
        ("mariadb", "password_env"),
        ("sqlite", "path"),
    ],
    indirect=["bench"],
)
def test_a_run_that_succeeds_keeps_its_secrets(bench: Bench, way: str) -> None:
    """E-2: outputs, manifest, record, JSON, screen, arguments and environments of children."""
    bench.environ["API_TOKEN"] = TOKEN
    query = "SELECT id, v FROM shop WHERE v <> :token AND v <> '${API_TOKEN_NAME}'"
    file = bench.write(bench.with_password(way, PASSWORD), query, parameters=TOKEN_PARAMETER)

    records = bench.root / "seen" / "records"
    arguments = ["run", file, "--json", "-v", "--record", records, "--param", f"API_TOKEN_NAME={TOKEN_CORE}"]
    ended = bench.program(*arguments)

    assert ended.status == 0, ended.err.decode()
    assert ended.data["exports"][0]["row_count"] == 200
    assert ended.watched.workers, "no worker was seen"
    bench.assert_kept(ended)
    if way in ("url", "path"):
        token = ["--param", f"API_TOKEN_NAME={TOKEN_CORE}"]
        shown = bench.program("record", next(records.iterdir()), "--json", "-v")
        checked = bench.program("check", file, "--json", "-v", "--type-report", *token)
        bench.assert_kept(shown, checked)


def test_a_run_that_fails_keeps_what_the_server_repeats(bench: Bench) -> None:
    """E-2: a value in the error of a server is masked in every place where the error is told."""
    source = bench.with_password("url", PASSWORD)
    secrets = ["--param", f"API_TOKEN={TOKEN}", "--param", f"API_TOKEN_NAME={TOKEN_CORE}"]
    records = bench.root / "seen" / "records"
    for query in bench.failing:
        file = bench.write(source, query, parameters=TOKEN_PARAMETER)
        ended = bench.program("run", file, "--json", "-v", "--record", records, *secrets)
        checked = bench.program("check", file, "--json", "-v", *secrets)

        assert (ended.status, checked.status) == (1, 1), ended.err.decode()
        assert "***" in ended.data["exports"][0]["failure"]["message"], ended.data
        assert "***" in checked.data["exports"][0]["failures"][0]["message"]
        bench.assert_kept(ended, checked)

        in_process = bench.program("run", file, "--engine", "in-process", "-v", *secrets)
        assert "***" in in_process.err.decode()
        bench.assert_kept(in_process)
    for record in records.iterdir():
        bench.assert_kept(bench.program("record", record, "--json", "-v"))


SERVERS = pytest.mark.parametrize("bench", ["postgres", "mariadb"], indirect=True)


@SERVERS
@pytest.mark.parametrize("way", ["url", "password_env"])
def test_a_wrong_password_is_not_repeated(bench: Bench, way: str) -> None:
    """E-2: the failure says what to fix, without what was tried."""
    bench.set_password("another one")
    file = bench.write(bench.with_password(way, PASSWORD), "SELECT id FROM shop")

    ended = bench.program("run", file, "--json", "-v", "--record", bench.root / "seen" / "records")
    checked = bench.program("check", file, "--json", "-v")

    assert (ended.status, checked.status) == (1, 1)
    assert ended.data["exports"][0]["failure"]["code"] == "SOURCE_AUTH_FAILED"
    bench.assert_kept(ended, checked)


def test_a_killed_child_takes_its_secrets_along(bench: Bench) -> None:
    """E-2: nothing is left of a worker that dies in the middle, and its unit is done by another one."""
    file = bench.write(bench.with_password("password", PASSWORD), bench.slow, parameters=TOKEN_PARAMETER)

    records = bench.root / "seen" / "records"
    ended = bench.program_with_kill("run", file, "--json", "-v", "--record", records, "--param", f"API_TOKEN={TOKEN}")

    assert ended.watched.killed is not None
    assert ended.status == 0, ended.err.decode()
    assert ended.data["exports"][0]["retry_count"] == 1
    bench.assert_kept(ended)


@pytest.mark.parametrize(
    ("bench", "engine", "ending"),
    [
        *((kind, engine, ending) for kind in KINDS for engine in ENGINES for ending in ("success", "failure")),
        ("postgres", "in-process", "wrong password"),
        ("mariadb", "in-process", "wrong password"),
    ],
    indirect=["bench"],
)
def test_logs_and_values_keep_secrets_at_the_lowest_level(bench: Bench, engine: str, ending: str) -> None:
    """E-2: a host that logs everything at DEBUG and prints every value and event."""
    if ending == "wrong password":
        bench.set_password("another one")
    query = bench.failing[0] if ending == "failure" else "SELECT id, v FROM shop WHERE v <> :token"
    if ending != "failure":
        query += " AND v <> '${API_TOKEN_NAME}'"
    file = bench.write(bench.with_password("url_file", PASSWORD), query, parameters=TOKEN_PARAMETER)
    log = bench.root / "seen" / "log"

    arguments = [str(HOST), str(file), engine, str(log), f"API_TOKEN={TOKEN}", f"API_TOKEN_NAME={TOKEN_CORE}"]
    ended = bench.program(*arguments[1:], program=("-X", "dev", arguments[0]))

    assert ended.status == 0
    assert (b"status=<Status.SUCCESS" in ended.out) is (ending == "success"), ended.out.decode()
    assert log.stat().st_size > 0
    bench.assert_kept(ended)


def test_a_broken_configuration_shows_no_value_from_outside(bench: Bench) -> None:
    """E-2: findings show the reference, never what it stands for."""
    file = bench.write(
        bench.with_password("password", PASSWORD) | {"port": "${API_TOKEN}"},
        "SELECT :token",
        parameters={"token": ["${API_TOKEN}", {"x": "${API_TOKEN}"}]},
        mode="${API_TOKEN}",
    )

    for command in ("run", "check"):
        ended = bench.program(command, file, "--json", "-v", "--param", f"API_TOKEN={TOKEN}")

        assert ended.status == 1
        assert ended.data["findings"]
        bench.assert_kept(ended)
