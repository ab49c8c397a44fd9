"""A SQLite shop whose exports go to a bucket, and what is in the bucket afterwards, read without procflow."""

from __future__ import annotations

import io
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import obstore
import pyarrow.parquet as pq
from obstore.store import AzureStore, GCSStore, S3Store

from tests.export.destinations.buckets import TYPES
from tools.servers import ObjectStore

SRC: Final = str(Path(__file__).parents[4] / "src")
TIMEOUT_S: Final = 100.0
ROWS: Final = {"customers": 300, "orders": 20_000}
_CLOUD: Final = ("AWS_", "AZURE_", "GOOGLE_")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A finished ``procflow_export run``."""

    status: int
    verdicts: dict[str, Any]
    err: str


class Shop:
    """A folder with a database, and one bucket."""

    def __init__(self, folder: Path, store: ObjectStore) -> None:
        self.folder = folder
        self._store = store
        with closing(sqlite3.connect(folder / "shop.sqlite")) as database, database:
            for table, rows in ROWS.items():
                database.execute(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, name TEXT NOT NULL, cents INTEGER)")
                database.execute(
                    "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
                    f"INSERT INTO {table} SELECT i, 'name ' || i, i * 7 FROM n",
                    (rows,),
                )

    def environ(self) -> dict[str, str]:
        """The environment of a run: nothing of a cloud in it but this bucket's."""
        ours = {name: text for name, text in os.environ.items() if not name.startswith(_CLOUD)}
        return ours | {"PYTHONPATH": SRC, "PYTHONUTF8": "1"} | dict(self._store.environ)

    def config(self, endpoint: str | None = None, **tuning: object) -> Path:
        """Write the configuration; the endpoint is the store's, or a proxy's before it."""
        store = self._store if endpoint is None else self._store.through(endpoint)
        destination = {
            "type": TYPES[store.kind].value,
            "bucket": store.bucket,
            "prefix": "shop/{export}/",
            "endpoint": store.endpoint,
        }
        orders = {"name": "orders", "table": "orders", "mode": "chunked", "chunk_count": 3, "parallel": 2}
        values: Mapping[str, object] = {
            "source": {"type": "sqlite", "path": "shop.sqlite", "tuning": tuning},
            "destination": destination,
            "exports": [
                {"format": "parquet", **export}
                for export in ({"name": "customers", "table": "customers", "mode": "full"}, orders)
            ],
        }
        path = self.folder / "shop.yaml"
        path.write_text(json.dumps(values))  # JSON is YAML
        return path

    def run(self, config: Path, *options: str, when: Callable[[subprocess.Popen[str]], object] | None = None) -> Ended:
        """Run the program to its end; ``when`` is called meanwhile."""
        with subprocess.Popen(
            [sys.executable, "-m", "procflow_export", "run", str(config), "--json", *options],
            cwd=self.folder, env=self.environ(), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            try:
                if when is not None:
                    when(process)
                out, err = process.communicate(timeout=TIMEOUT_S)
            except BaseException:
                process.kill()
                raise
        assert out, err
        verdicts = {verdict["export"]: verdict for verdict in json.loads(out)["exports"]}
        return Ended(status=process.returncode, verdicts=verdicts, err=err)

    def expected(self, table: str) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(self.folder / "shop.sqlite")) as database:
            return database.execute(f"SELECT id, name, cents FROM {table} ORDER BY id").fetchall()

    def published(self, export: str) -> list[tuple[object, ...]] | None:
        """The rows of the parts that the manifest names, ordered; ``None`` where there is no manifest."""
        client = bucket_client(self._store)
        folder = f"shop/{export}"
        try:
            manifest = json.loads(bytes(obstore.get(client, f"{folder}/manifest.json").bytes()))
        except FileNotFoundError:
            return None
        rows: list[tuple[object, ...]] = []
        for part in manifest["parts"]:
            data = bytes(obstore.get(client, f"{folder}/{part['key']}").bytes())
            rows += [tuple(row.values()) for row in pq.read_table(io.BytesIO(data)).to_pylist()]
        return sorted(rows, key=str)

    def unnamed(self, export: str) -> list[str]:
        """Objects of an export that no manifest names."""
        client = bucket_client(self._store)
        folder = f"shop/{export}"
        keys = {found["path"].removeprefix(f"{folder}/") for found in obstore.list(client, folder).collect()}
        manifests = {key for key in keys if key.startswith("manifest")}
        named = {
            part["key"]
            for key in manifests
            for part in json.loads(bytes(obstore.get(client, f"{folder}/{key}").bytes()))["parts"]
        }
        return sorted(keys - manifests - named - {"_SUCCESS"})


def bucket_client(store: ObjectStore) -> S3Store | GCSStore | AzureStore:
    taken: dict[str, Any] = {**store.credentials, "client_options": {"allow_http": True}}
    match store.kind:
        case "gcs":
            return GCSStore(store.bucket, **taken)
        case "azure":
            return AzureStore(store.bucket, endpoint=store.endpoint, **taken)
        case _:
            return S3Store(store.bucket, endpoint=store.endpoint, **taken)
