"""One large part on its way to a store: what the process that sends it has in memory at the most."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest

from tests.export.destinations.live.shops import bucket_client
from tests.export.memory.children import BUDGET_MB, MIB, export
from tools.pytest_servers import fresh_bucket

pytestmark = [pytest.mark.stores, pytest.mark.slow, pytest.mark.postgres, pytest.mark.timeout(400)]

PART_MIB: Final = 300
ROWS: Final = 320_000
QUERY: Final = f"SELECT n AS id, repeat(md5(n::text), 32) AS body FROM generate_series(1::bigint, {ROWS}) AS s (n)"
"""A thousand bytes a row, which nothing compresses in a file of plain text."""


@pytest.mark.parametrize("engine", ["in-process", "processes"])
def test_a_part_of_300_mib_stays_within_the_budget(
    postgres_url: str, pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, engine: str
) -> None:
    """E-40: an upload is streamed: neither the size of a part nor that of the export shows in the memory."""
    # rclone's server streams to its disk; what it is sent is what counts here.
    store = fresh_bucket("rclone", pytestconfig)
    for name, value in store.environ.items():
        monkeypatch.setenv(name, value)
    source: dict[str, Any] = {
        "type": "postgres",
        "url": postgres_url,
        "environment": "local",
        "tls": {"mode": "disable"},
    }
    place = {"type": "s3", "bucket": store.bucket, "prefix": "big"}
    asked: dict[str, Any] = {"query": QUERY, "format": "csv", "compression": "none", "destination": place}

    ended = export(tmp_path, source, asked, "--engine", engine, "--processes", "1")

    assert ended.status == 0, ended.err
    assert ended.peak_bytes <= BUDGET_MB * MIB
    sizes = [
        found["size"] for page in bucket_client(store).list("big") for found in page if found["path"].endswith(".csv")
    ]
    assert len(sizes) == 1
    assert sizes[0] > PART_MIB * MIB
