"""Where a source is and how to log in: precedence, URLs with any password, and secrets that stay secret."""

from __future__ import annotations

import copy
import pickle
import ssl
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from procflow_export.model.errors import SourceError
from procflow_export.model.plan import Query
from procflow_export.model.settings import SourceConfig, SourceType, TlsConfig, TlsMode
from procflow_export.model.urls import is_loopback, parse_url, password_of
from procflow_export.sources import open_source
from procflow_export.sources.connection import server_address, sqlite_path
from procflow_export.sources.postgres.session import require_supported
from procflow_export.sources.tls import tls_context
from tests.export.sources.databases import MariaDatabase, PostgresDatabase

CANARY = "c4n4ry/?#@:%&= ä"
PG = SourceType.POSTGRES
MY = SourceType.MYSQL


def address(config: SourceConfig, **environ: str) -> object:
    return server_address(config, environ)


def test_fields_win_over_the_environment() -> None:
    """E-2: the environment says only what the configuration leaves open."""
    environ = {
        "PGHOST": "env-host",
        "PGPORT": "1",
        "PGUSER": "env-user",
        "PGPASSWORD": "env-secret",
        "PGDATABASE": "env-db",
    }

    found = server_address(SourceConfig(type=PG, host="localhost", user="me"), environ)

    assert (found.host, found.port, found.user, found.database) == ("localhost", 1, "me", "env-db")
    assert found.password == password_of("env-secret")


def test_database_url_is_read_when_the_configuration_is_silent() -> None:
    """E-2: DATABASE_URL and the client's variables are understood where nothing else is given."""
    url = {"DATABASE_URL": "postgresql+asyncpg://u:p@h:5/d"}

    assert server_address(SourceConfig(type=PG), url).host == "h"
    assert (
        server_address(SourceConfig(type=MY), {**url, "MYSQL_HOST": "m", "MYSQL_USER": "x", "MYSQL_PWD": "y"}).host
        == "m"
    )
    assert server_address(SourceConfig(type=PG, host="localhost", user="u"), url).host == "localhost"


def test_references_are_followed(tmp_path: Path) -> None:
    """E-2: url_env, url_file and password_env lead to the secret."""
    file = tmp_path / "url"
    file.write_text("mysql://u:p@localhost/d\n")

    by_env = server_address(SourceConfig(type=MY, url_env="X"), {"X": "mysql://u:p@localhost/d"})
    by_file = server_address(SourceConfig(type=MY, url_file=str(file)), {})
    by_field = server_address(SourceConfig(type=MY, host="localhost", user="u", password_env="X"), {"X": CANARY})

    assert by_env == by_file
    assert by_field.password == password_of(CANARY)


@pytest.mark.parametrize(
    ("line", "password"),
    [
        ("h:5432:d:u:secret", "secret"),
        ("*:*:*:*:secret", "secret"),
        ("h:*:d:u:a\\:b\\\\c", "a:b\\c"),
        ("h:5432:d:u:", None),
        ("h:5432:d:u:a:b", "a:b"),
        ("h:5433:d:u:secret", None),
        ("#h:5432:d:u:secret", None),
        ("h:5432:d:u", None),
        ("", None),
        ("x:*:*:*:no\nh:*:*:*:first\nh:*:*:*:second", "first"),
    ],
)
def test_password_files(line: str, password: str | None, tmp_path: Path) -> None:
    """E-2: PGPASSFILE is read where the environment names it and nothing else has a password."""
    file = tmp_path / "pgpass"
    file.write_text(line)
    config = SourceConfig(type=PG, url="postgresql://u@h/d")

    found = server_address(config, {"PGPASSFILE": str(file)}).password
    own = server_address(SourceConfig(type=PG, url="postgresql://u:own@h/d"), {"PGPASSFILE": str(file)}).password

    assert (None if found is None else found.reveal()) == password
    assert own == password_of("own")
    assert server_address(config, {"PGPASSFILE": str(tmp_path / "missing")}).password is None
    assert server_address(config, {"HOME": str(tmp_path)}).password is None


def test_services(tmp_path: Path) -> None:
    """E-2: PGSERVICE names a section of a file; the configuration's fields win over it, and it wins over the environment."""
    file = tmp_path / ".pg_service.conf"
    file.write_text(
        "# all\n[shop]\nhost = db.example\nport=5433\nuser=u\npassword=a=b#c\ndbname=d\nsslmode=require\nother=x\n"
    )
    environ = {"PGSERVICE": "shop", "HOME": str(tmp_path), "PGHOST": "elsewhere", "PGDATABASE": "e"}

    found = server_address(SourceConfig(type=PG), environ)
    partly = server_address(SourceConfig(type=PG, host="own.example"), environ)

    assert (found.host, found.port, found.user, found.database, found.tls) == (
        "db.example",
        5433,
        "u",
        "d",
        TlsMode.REQUIRE,
    )
    assert found.password == password_of("a=b#c")
    assert (partly.host, partly.user) == ("own.example", "u")
    for wrong in ({"PGSERVICE": "nothere"}, {"PGSERVICEFILE": str(tmp_path / "missing")}):
        with pytest.raises(SourceError, match="PGSERVICE"):
            server_address(SourceConfig(type=PG), environ | wrong)


@pytest.mark.parametrize(
    "config",
    [
        SourceConfig(type=PG, url="postgres://a@b/c", url_env="X"),
        SourceConfig(type=PG, url="postgres://a@b/c", host="b"),
        SourceConfig(type=PG, url_env="NOT_SET"),
        SourceConfig(type=PG, url_file="/nonexistent/file"),
        SourceConfig(type=PG, host="localhost", user="u", password="x", password_env="Y"),
        SourceConfig(type=PG, host="localhost", user="u", password_env="NOT_SET"),
        SourceConfig(type=PG, host="localhost"),
        SourceConfig(type=PG, url=f"http://u:{CANARY}@b/c"),
        SourceConfig(type=PG, url=f"postgres://u:{CANARY}@b:99999/c"),
        SourceConfig(type=PG, url=f"postgres://u:{CANARY}@b/c?sslmode=maybe"),
        SourceConfig(type=PG, url=f"postgres://u:{CANARY}@[::1/c"),
    ],
)
def test_mistakes_are_refused_without_secrets(config: SourceConfig) -> None:
    """E-2: what is wrong is said, what is secret is not."""
    with pytest.raises(SourceError) as caught:
        server_address(config, {})

    assert "c4n4ry" not in str(caught.value)
    assert not caught.value.is_transient


PASSWORDS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1)


@given(password=PASSWORDS, user=st.text("abc-_.", min_size=1), database=st.text("abc_", min_size=1))
@example(password="/?#@:", user="u", database="d")
@example(password="1/2@h:3/x", user="u", database="d")
@example(password="a?b=c@d", user="u", database="d")
def test_escaped_passwords_are_read_exactly(password: str, user: str, database: str) -> None:
    """E-2: any password can be written, percent-encoded."""
    parts = parse_url(f"postgres://{user}:{quote(password, safe='')}@db.example:5433/{database}", schemes=("postgres",))

    assert parts.password == password_of(password)
    assert (parts.user, parts.host, parts.port, parts.database) == (user, "db.example", 5433, database)


@given(password=PASSWORDS.filter(lambda text: "%" not in text))
@example(password="/?#@:")
@example(password="1/2@h:3/x")
@example(password="a?b=c@d")
@example(password="1?a=b")
@example(password="@")
def test_raw_passwords_are_read_exactly(password: str) -> None:
    """E-2: a password with any character may stand in a URL as it is."""
    parts = parse_url(f"postgres://user:{password}@db.example/base", schemes=("postgres",))

    assert parts.password == password_of(password)
    assert (parts.user, parts.host, parts.database) == ("user", "db.example", "base")


@pytest.mark.parametrize(
    ("url", "host", "port", "database"),
    [
        ("postgres://u@[::1]:5/d", "::1", 5, "d"),
        ("postgres://u@h", "h", None, None),
        ("postgres://u@/d?host=/var/run/postgresql", "/var/run/postgresql", None, "d"),
        ("postgres://u@%2Ftmp/d", "/tmp", None, "d"),
        ("postgres://u@h/d?application_name=a@b", "h", None, "d"),
        ("POSTGRES://u@h/d%20e", "h", None, "d e"),
    ],
)
def test_forms_of_addresses(url: str, host: str, port: int | None, database: str | None) -> None:
    """E-2: IPv6, sockets and options in URLs are understood."""
    parts = parse_url(url, schemes=("postgres",))

    assert (parts.host, parts.port, parts.database) == (host, port, database)


def test_secret_shows_itself_nowhere() -> None:
    """E-2: a secret's text leaves it only through reveal()."""
    secret = password_of(CANARY)
    assert secret is not None
    place = server_address(SourceConfig(type=PG, host="localhost", user="u", password=CANARY), {})

    shown = [repr(secret), str(secret), f"{secret}", f"{secret!r}", f"{secret:}", repr(place), repr(place.password)]
    assert not any("c4n4ry" in text for text in shown)
    assert secret.reveal() == CANARY
    assert copy.deepcopy(secret) is secret
    with pytest.raises(TypeError):
        pickle.dumps(secret)


@pytest.mark.parametrize(("password", "kept"), [("", None), ("source", "source"), ("login", "login"), ("a\n", "a\n")])
def test_a_password_may_be_any_text_or_none(password: str, kept: str | None) -> None:
    """E-2: an empty password is none; any other is kept as it is."""
    found = parse_url(f"postgres://u:{quote(password)}@h/d", schemes=("postgres",)).password

    assert (None if found is None else found.reveal()) == kept


def test_a_password_that_cannot_be_sent_is_refused() -> None:
    """E-2: what is wrong with a password is said without it."""
    with pytest.raises(SourceError, match="no text that could be sent"):
        parse_url("postgres://u:%0A@h/d", schemes=("postgres",))


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("/tmp", True),
        ("db.example", False),
        ("10.0.0.1", False),
        ("localhost.example", False),
    ],
)
def test_loopback_may_be_plain_and_nothing_else(host: str, expected: bool) -> None:
    """E-3: without a choice a remote host is verified in full."""
    found = server_address(SourceConfig(type=PG, host=host, user="u"), {})

    assert is_loopback(host) is expected
    assert found.tls is (TlsMode.DISABLE if expected else TlsMode.VERIFY_FULL)


def test_configured_mode_wins_over_the_url() -> None:
    """E-3: the tls block decides; a URL's sslmode counts without one, and a weak one never lowers the default."""
    url = "postgres://u@db.example/d?sslmode="

    assert server_address(SourceConfig(type=PG, url=url + "require"), {}).tls is TlsMode.REQUIRE
    assert server_address(SourceConfig(type=PG, url=url + "prefer"), {}).tls is TlsMode.VERIFY_FULL
    config = SourceConfig(type=PG, url=url + "disable", tls=TlsConfig(mode=TlsMode.VERIFY_CA))
    assert server_address(config, {}).tls is TlsMode.VERIFY_CA


def test_contexts_check_what_their_mode_says() -> None:
    """E-3: the four modes."""
    assert tls_context(TlsMode.DISABLE) is None
    checks = {}
    for mode in (TlsMode.REQUIRE, TlsMode.VERIFY_CA, TlsMode.VERIFY_FULL):
        context = tls_context(mode)
        assert context is not None
        checks[mode] = (context.verify_mode, context.check_hostname)
    assert checks == {
        TlsMode.REQUIRE: (ssl.CERT_NONE, False),
        TlsMode.VERIFY_CA: (ssl.CERT_REQUIRED, False),
        TlsMode.VERIFY_FULL: (ssl.CERT_REQUIRED, True),
    }


def test_sqlite_paths() -> None:
    """E-2: a file is named by path or URL."""
    assert sqlite_path(SourceConfig(type=SourceType.SQLITE, path="a/b.db"), {}) == Path("a/b.db")
    assert sqlite_path(SourceConfig(type=SourceType.SQLITE, url="sqlite:///a%20b.db"), {}) == Path("a b.db")
    assert sqlite_path(SourceConfig(type=SourceType.SQLITE, url="sqlite:////a/b.db"), {}) == Path("/a/b.db")
    for config in (SourceConfig(type=SourceType.SQLITE), SourceConfig(type=SourceType.SQLITE, url="file:x")):
        with pytest.raises(SourceError):
            sqlite_path(config, {})


# --- against servers ------------------------------------------------------------------------------------------------


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def failure_of(config: SourceConfig) -> SourceError:
    async with open_source(config, environ={}) as source:
        with pytest.raises(SourceError) as caught:
            await source.profile(Query(text="SELECT 1 AS a"))
    return caught.value


@pytest.mark.anyio
async def test_passwords_with_any_character_log_in(mariadb: MariaDatabase) -> None:
    """E-2: the server gets the password as it is."""
    from urllib.parse import urlsplit

    parts = urlsplit(mariadb.url)
    base = parts.path[1:]
    user = f"u{base}"[:32]
    for password in (CANARY, "pässwörd 密码", "it's \"\\"):
        text = password.replace("\\", "\\\\").replace("'", "''")
        mariadb.execute(
            f"CREATE OR REPLACE USER '{user}'@'%' IDENTIFIED BY '{text}'", f"GRANT SELECT ON {base}.* TO '{user}'@'%'"
        )
        config = SourceConfig(type=MY, host="127.0.0.1", port=parts.port, user=user, password=password, database=base)
        async with open_source(config, environ={}) as source:
            assert (await source.profile(Query(text="SELECT 1 AS a"))).columns
        from msgspec.structs import replace

        wrong = await failure_of(replace(config, password=password + "x"))
        assert wrong.code.value == "SOURCE_AUTH_FAILED"
        assert password not in "".join(map(str, [wrong, *getattr(wrong, "__notes__", [])]))
    mariadb.execute(f"DROP USER '{user}'@'%'")


@pytest.mark.parametrize(("major", "is_supported"), [(9, False), (10, False), (11, False), (12, True), (18, True)])
def test_old_postgres_servers_are_refused(major: int, is_supported: bool) -> None:
    """E-1: PostgreSQL 12 is the first that is read from; the error says so."""
    if is_supported:
        require_supported(major)
        return
    with pytest.raises(SourceError, match=f"PostgreSQL {major} is too old: 12 or later is needed") as caught:
        require_supported(major)
    assert caught.value.code.value == "SOURCE_NOT_SUPPORTED"
    assert not caught.value.is_transient


@pytest.mark.anyio
async def test_an_old_postgres_server_is_told_before_anything_is_read(
    postgres: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E-1: the check is part of every log-in."""
    monkeypatch.setattr("procflow_export.sources.postgres.session.MIN_VERSION", 99)

    error = await failure_of(postgres.config)

    assert "is too old: 99 or later" in error.message


@pytest.mark.anyio
@pytest.mark.parametrize("kind", [PG, MY])
async def test_unreachable_server_fails_fast(kind: SourceType) -> None:
    """E-61: nobody listening is a mistake to fix, told from everything else."""
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        error = await failure_of(
            SourceConfig(type=kind, host="127.0.0.1", port=port, user="u", password=CANARY, database="d")
        )

    assert error.code.value == "SOURCE_UNREACHABLE"
    assert "c4n4ry" not in str(error)


@pytest.mark.anyio
async def test_server_without_tls_is_refused_before_the_password(
    postgres: PostgresDatabase, mariadb: MariaDatabase
) -> None:
    """E-3: asked for TLS, a source never falls back to plain text."""
    from msgspec.structs import replace

    for database in (postgres, mariadb):
        error = await failure_of(replace(database.config, tls=TlsConfig(mode=TlsMode.REQUIRE)))
        assert error.code.value == "SOURCE_TLS_FAILED", error
