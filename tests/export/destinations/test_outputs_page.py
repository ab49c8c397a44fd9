"""The snippets of docs/reference/outputs.md, run as they stand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from procflow_export.destinations import publish
from procflow_export.destinations.local import LocalDestination
from procflow_export.formats import open_encoder
from procflow_export.model.plan import PartRecord
from procflow_export.model.settings import Format, FormatOptions
from tests.export.destinations.publishing import manifest_of
from tests.export.formats.encoding import CSV, encode

PAGE = Path(__file__).resolve().parents[3] / "docs" / "reference" / "outputs.md"
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
TYPES: dict[str, pa.DataType] = {"id": pa.int64(), "note": pa.string()}
SCHEMA = pa.schema(TYPES)
ROWS: list[dict[str, Any]] = [{"id": 1, "note": None}, {"id": None, "note": ""}, {"id": 3, "note": 'a,"b"\nc'}]


@pytest.mark.parametrize("snippet", SNIPPETS, ids=range(len(SNIPPETS)))
def test_snippets_read_what_an_export_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, snippet: str) -> None:
    """E-24, E-43: a reader who follows the page gets the rows, NULL and empty text apart."""
    monkeypatch.chdir(tmp_path)
    destination = LocalDestination(tmp_path / "out" / "orders")
    batch = pa.RecordBatch.from_pylist(ROWS, schema=SCHEMA)
    parquet = FormatOptions(format=Format.PARQUET)
    parts = []
    for name in ("orders-superseded.parquet", "orders-c00000-p000.parquet"):
        with destination.open_part(name) as part, open_encoder(parquet, SCHEMA, part) as encoder:
            encoder.write(batch)
            encoder.finish()
        parts.append(part.stored)
    stored = parts[-1]
    record = PartRecord(key=stored.key, row_count=3, size_bytes=stored.size_bytes, checksum=stored.checksum, chunk=0)
    publish(destination, manifest_of("run-1", (record,)))
    (tmp_path / "orders.csv").write_bytes(encode(CSV, SCHEMA, [batch]))

    names: dict[str, pa.Table] = {}
    exec(compile(snippet, str(PAGE), "exec"), names)

    assert names["table"].to_pylist() == ROWS


def test_the_page_has_snippets() -> None:
    """E-24: the page shows how to read both formats."""
    assert len(SNIPPETS) == 2
