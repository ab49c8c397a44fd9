"""Whole exports to object stores, by the command line and by every engine, read back by somebody else."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pyarrow.parquet as pq
import pytest

from procflow_export import Exporter
from procflow_export.destinations import Depth, read_published
from procflow_export.destinations.crash import CRASH_ENV
from procflow_export.destinations.stores.store import StoreDestination
from procflow_export.model.manifest import MANIFEST_KEY, MARKER_KEY
from tests.export.destinations.buckets import TYPES, destination_in, uploads_of
from tests.export.destinations.scripted_store import scripted_store
from tests.export.secrets.canaries import PASSWORD_CORE, TOKEN_CORE, leaks, leaks_in
from tools.pytest_servers import fresh_bucket
from tools.servers.buckets import ObjectStore, StoreKind

SRC = Path(__file__).parents[3] / "src"
ROWS = 5_000


@pytest.fixture(params=["s3", "gcs", "azure", "rclone"])
def bucket(request: pytest.FixtureRequest, pytestconfig: pytest.Config) -> ObjectStore:
    kind: StoreKind = request.param
    return fresh_bucket(kind, pytestconfig)


def write_config(root: Path, store: ObjectStore, prefix: str, **export: Any) -> Path:
    with closing(sqlite3.connect(root / "shop.db")) as shop, shop:
        shop.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, note TEXT)")
        shop.executemany("INSERT INTO orders VALUES (?, ?)", ((number, f"note {number}") for number in range(ROWS)))
    values = {
        "source": {"type": "sqlite", "path": "shop.db"},
        "destination": {
            "type": TYPES[store.kind].value,
            "bucket": store.bucket,
            "prefix": prefix,
            "endpoint": store.endpoint,
        },
        "exports": [{"name": "orders", "table": "orders", "mode": "full", "format": "parquet"} | export],
    }
    file = root / "shop.json"
    file.write_text(json.dumps(values))
    return file


def run(file: Path, store: ObjectStore, *arguments: str) -> subprocess.CompletedProcess[str]:
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(SRC), "HOME": str(file.parent)} | dict(store.environ)
    return subprocess.run(
        [sys.executable, "-m", "procflow_export", "run", str(file), "--json", *arguments],
        env=environ,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.mark.parametrize("engine", ["in-process", "processes"])
def test_an_export_is_published_in_a_bucket(bucket: ObjectStore, engine: str, tmp_path: Path) -> None:
    """E-36, E-40: every engine publishes the same rows in every store; workers find the credentials that the run has."""
    chunks = {"mode": "chunked", "chunk_column": "id", "chunk_size": 2_000, "parallel": 2}
    file = write_config(tmp_path, bucket, "exports/{table}", **chunks)

    ended = run(file, bucket, "--engine", engine)

    assert ended.returncode == 0, ended.stderr
    destination = destination_in(bucket, "exports/orders/orders")
    published = read_published(destination, depth=Depth.CHECKSUMS)
    assert published is not None
    assert published.is_complete
    assert published.manifest.row_count == ROWS
    assert len(published.manifest.parts) == 3
    assert f"{destination.location}" in ended.stdout
    rows: list[int] = []
    for part in published.manifest.parts:
        with destination.open_object(part.key) as stream:
            local = tmp_path / part.key
            local.write_bytes(stream.read())
        rows += pq.read_table(local).column("id").to_numpy().tolist()
    assert sorted(rows) == list(range(ROWS))


def test_placeholders_make_a_prefix(s3_store: ObjectStore, tmp_path: Path) -> None:
    """E-41: date, hour, export, table and run id stand in a prefix as they do in a path."""
    file = write_config(tmp_path, s3_store, "e/{table}/{date}/{hour}/{run_id}/{export}")

    ended = run(file, s3_store)

    assert ended.returncode == 0, ended.stderr
    location = json.loads(ended.stdout)["exports"][0]["destination"]
    bucket, _, prefix = location.removeprefix("s3://").partition("/")
    assert bucket == s3_store.bucket
    assert read_published(destination_in(s3_store, prefix)) is not None
    first, table, date, hour, run_id, export = prefix.split("/")
    assert (first, table, export) == ("e", "orders", "orders")
    assert (len(date), len(hour), len(run_id)) == (10, 2, 36)


def test_an_export_that_goes_on_adds_to_the_set_in_the_bucket(bucket: ObjectStore, tmp_path: Path) -> None:
    """E-43: a second run of an incremental export adds its parts by one conditional swap; its parts lie by date."""
    file = write_config(tmp_path, bucket, "{export}/{date}", mode="incremental", cursor_column="id")
    assert run(file, bucket).returncode == 0
    with closing(sqlite3.connect(tmp_path / "shop.db")) as shop, shop:
        shop.execute("INSERT INTO orders VALUES (?, 'late')", (ROWS,))

    ended = run(file, bucket)

    assert ended.returncode == 0, ended.stderr
    published = read_published(destination_in(bucket, "orders"), depth=Depth.CHECKSUMS)
    assert published is not None
    assert published.is_complete
    assert published.manifest.row_count == ROWS + 1
    assert len({part.key for part in published.manifest.parts}) == 2


@pytest.mark.parametrize("engine", ["in-process", "processes"])
def test_wrong_keys_stop_a_run_before_it_reads(azure_store: ObjectStore, engine: str, tmp_path: Path) -> None:
    """E-2, E-40: keys that the store refuses are the operator's to correct, at once, and are shown nowhere."""
    file = write_config(tmp_path, azure_store, "exports")
    wrong = ObjectStore(
        kind=azure_store.kind,
        endpoint=azure_store.endpoint,
        bucket=azure_store.bucket,
        credentials={},
        environ={**azure_store.environ, "AZURE_STORAGE_ACCOUNT_KEY": "YzRuNHJ5UDRzc3cwcmQ3"},
    )

    ended = run(file, wrong, "--engine", engine)

    assert ended.returncode == 1
    assert "DESTINATION_DENIED" in ended.stdout
    assert leaks(ended.stdout + ended.stderr) == []


@pytest.mark.parametrize("engine", ["in-process", "processes"])
@pytest.mark.parametrize("kind", ["s3", "azure"])
def test_what_gives_access_is_written_nowhere(kind: str, engine: str, tmp_path: Path) -> None:
    """E-2: a server that repeats the request in its refusal finds no listener: no event, record, state or text has a key."""
    canaries = {"SECRET": PASSWORD_CORE, "TOKEN": TOKEN_CORE, "SAS": f"sv=2024&sig={PASSWORD_CORE}", "KEY": "AKIA"}
    keys: dict[str, str] = {"access_key_env": "KEY", "secret_key_env": "SECRET", "session_token_env": "TOKEN"}
    if kind == "azure":
        keys = {"account_name": "shop", "sas_token_env": "SAS"}
    sent = TOKEN_CORE if kind == "s3" else PASSWORD_CORE
    store = ObjectStore(kind="s3", endpoint="", bucket="shop", credentials={}, environ=canaries)
    file = write_config(tmp_path, store, "exports")
    with scripted_store() as script:
        script.status = 400
        script.body = f"<Error><Code>Odd</Code><Message>{sent} and ?sig={sent}</Message></Error>"
        values = json.loads(file.read_text())
        values["destination"] = {"type": kind, "bucket": "shop", "prefix": "p", "endpoint": f"{script.url}/shop"} | keys
        file.write_text(json.dumps(values))

        ended = run(file, store, "--engine", engine, "--verbose")

    assert ended.returncode == 1
    assert "DESTINATION_FAILED" in ended.stdout
    assert any(sent in str(request) for request in script.asked)
    assert leaks(ended.stdout + ended.stderr) == []
    assert leaks_in(tmp_path) == {}


def test_the_uploads_of_a_killed_run_are_aborted_by_the_next(s3_store: ObjectStore, tmp_path: Path) -> None:
    """E-34, E-44: SIGKILL in the middle of an upload leaves blocks that nobody sees; the next run has them forgotten."""
    file = write_config(
        tmp_path, s3_store, "exports", format="csv", query="SELECT id, hex(randomblob(4000)) AS t FROM orders"
    )
    values = json.loads(file.read_text())
    del values["exports"][0]["table"]
    file.write_text(json.dumps(values))
    crashing = ObjectStore(
        kind="s3",
        endpoint=s3_store.endpoint,
        bucket=s3_store.bucket,
        credentials={},
        environ={**s3_store.environ, CRASH_ENV: "part.written"},
    )

    killed = run(file, crashing, "--engine", "in-process")

    assert killed.returncode == -signal.SIGKILL
    (left,) = uploads_of(s3_store)
    assert left.startswith("exports/orders/orders-")
    destination = destination_in(s3_store, "exports/orders")
    assert list(destination.list()) == []

    ended = run(file, s3_store, "--engine", "in-process")

    assert ended.returncode == 0, ended.stderr
    assert uploads_of(s3_store) == []
    published = read_published(destination, depth=Depth.CHECKSUMS)
    assert published is not None
    assert published.is_complete
    assert published.manifest.row_count == ROWS
    assert {info.key for info in destination.list()} == {
        MANIFEST_KEY,
        MARKER_KEY,
        f"manifest-{published.manifest.run_id}.json",
        *(part.key for part in published.manifest.parts),
    }


def test_a_part_ends_before_it_has_too_many_blocks(
    s3_store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E-40: where a store limits the blocks of an object, the chunk goes on in a further part."""
    file = write_config(tmp_path, s3_store, "exports", format="csv", tuning={"batch_size": 1_000})
    monkeypatch.setattr(StoreDestination, "max_part_bytes", 20_000)

    async def export() -> None:
        async with Exporter(file, environ=s3_store.environ) as exporter:
            async for _ in exporter.run():
                pass

    anyio.run(export)

    published = read_published(destination_in(s3_store, "exports/orders"), depth=Depth.CHECKSUMS)
    assert published is not None
    assert published.is_complete
    assert published.manifest.row_count == ROWS
    assert len(published.manifest.parts) == 3
