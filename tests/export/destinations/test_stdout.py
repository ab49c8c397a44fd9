"""Exports to standard output: one file in a pipe, by the real program."""

from __future__ import annotations

import io
import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest

from procflow_export.config.loading import read_config
from procflow_export.destinations.stdout import StandardOutput
from procflow_export.model.codes import Code
from procflow_export.model.errors import ConfigError, DestinationError

SRC = Path(__file__).parents[3] / "src"
ROWS = 50_000
ORDERS = {"name": "orders", "table": "orders", "mode": "full", "format": "csv"}


def config_in(root: Path, *exports: dict[str, Any], rows: int = ROWS) -> Path:
    with closing(sqlite3.connect(root / "shop.db")) as shop, shop:
        shop.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, note TEXT)")
        shop.executemany("INSERT INTO orders VALUES (?, ?)", ((number, f"note {number}") for number in range(rows)))
    values = {
        "source": {"type": "sqlite", "path": "shop.db"},
        "destination": {"type": "stdout"},
        "exports": list(exports) or [ORDERS],
    }
    file = root / "shop.json"
    file.write_text(json.dumps(values))
    return file


def program(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "procflow_export", *map(str, arguments)]


def environ() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(SRC)}


def run(*arguments: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(program(*arguments), env=environ(), capture_output=True, timeout=100, check=False)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_table_goes_into_a_pipe(tmp_path: Path, kind: str) -> None:
    """E-40: standard output carries one whole file and not a byte more; words go to standard error."""
    file = config_in(tmp_path, ORDERS | {"format": kind})

    ended = run("run", file)

    assert ended.returncode == 0, ended.stderr
    read = csv.read_csv if kind == "csv" else pq.read_table
    assert read(io.BytesIO(ended.stdout)).column("id").to_pylist() == list(range(ROWS))
    assert b"orders" in ended.stderr


def test_nothing_is_published_and_runs_do_not_know_of_each_other(tmp_path: Path) -> None:
    """E-42: a stream has no manifest and no exactly-once: every run gives all rows, also after one that failed."""
    file = config_in(tmp_path, rows=10)

    first, second, resumed = run("run", file), run("run", file), run("run", file, "--resume")

    assert first.stdout == second.stdout == resumed.stdout
    assert len(first.stdout.splitlines()) == 11
    assert {path.name for path in tmp_path.iterdir()} == {"shop.db", "shop.json", "shop.state"}


def test_a_table_without_rows_is_a_file_with_columns(tmp_path: Path) -> None:
    """E-40: whoever reads the pipe finds the columns also when there are no rows."""
    assert run("run", config_in(tmp_path, rows=0)).stdout == b"id,note\n"


def test_a_reader_that_goes_away_ends_the_run(tmp_path: Path) -> None:
    """E-60: `| head` is told in one line, without a traceback, and nothing is tried again."""
    file = config_in(tmp_path)
    with subprocess.Popen(
        program("run", file), env=environ(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"id,note\n"
        process.stdout.close()
        told = process.stderr.read().decode()

    assert process.returncode == 1
    assert "whoever read standard output went away" in told
    assert "Traceback" not in told
    assert "Retry" not in told


def test_a_full_disk_behind_it_is_told(tmp_path: Path) -> None:
    """E-40: what cannot be written is a failure of the export, with the code for it."""
    file = config_in(tmp_path)
    with open("/dev/full", "wb") as full:
        ended = subprocess.run(
            program("run", file), env=environ(), stdout=full, stderr=subprocess.PIPE, timeout=100, check=False
        )

    assert ended.returncode == 1
    assert b"DESTINATION_FULL" in ended.stderr
    assert b"Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--json",), b"--json and an export to standard output"),
        (("--engine", "processes"), b"in-process engine"),
        ((), b"runs alone"),
    ],
)
def test_what_else_wants_standard_output_is_refused(tmp_path: Path, arguments: tuple[str, ...], words: bytes) -> None:
    """E-40: a document, a worker's protocol and a second export have no room in the stream; nothing was written then."""
    file = config_in(tmp_path, ORDERS, ORDERS | {"name": "again"})
    selected = ("-e", "orders") if arguments else ()

    ended = run("run", file, *selected, *arguments)

    assert ended.returncode == 64
    assert words in ended.stderr
    assert b"note" not in ended.stdout


@pytest.mark.parametrize(
    ("export", "key"),
    [
        ({"mode": "chunked", "chunk_column": "id"}, "mode"),
        ({"mode": "chunked", "chunk_by_key": "id"}, "mode"),
        ({"mode": "incremental", "cursor_column": "id"}, "mode"),
        ({"mode": "time_window", "time_column": "day", "days_window": 1}, "mode"),
        ({"max_file_size": "1GB"}, "max_file_size"),
    ],
)
def test_what_is_more_than_one_file_is_refused(export: dict[str, Any], key: str) -> None:
    """E-62: chunks, cursors and rotation make several files, or need to find them again."""
    values = {
        "source": {"type": "sqlite", "path": "shop.db"},
        "destination": {"type": "stdout"},
        "exports": [ORDERS | export],
    }

    with pytest.raises(ConfigError) as caught:
        read_config(values)

    assert [finding.key for finding in caught.value.findings] == [f"exports[0].{key}"]
    assert "standard output takes one file" in caught.value.findings[0].message


def test_a_stream_takes_one_part_and_keeps_nothing() -> None:
    """E-40: a second part would be the middle of no file; what was written is not found again."""
    reader, writer = os.pipe()
    try:
        stream = StandardOutput(writer)
        with stream.open_part("a.csv") as part:
            part.write(b"hello ")
            part.write(memoryview(b"world"))
        assert os.read(reader, 100) == b"hello world"
        assert part.stored.size_bytes == 11

        with pytest.raises(DestinationError, match="one part"), stream.open_part("b.csv"):
            pass
        assert stream.get("a.csv") is None
        assert stream.read("a.csv") is None
        assert stream.head("a.csv") is None
        assert list(stream.list()) == []
        for act in (
            lambda: stream.put("a", b""),
            lambda: stream.create("a", b""),
            lambda: stream.replace("a", b"", expected=None),
        ):
            with pytest.raises(DestinationError) as caught:
                act()
            assert caught.value.code is Code.DESTINATION_NOT_USABLE
    finally:
        os.close(reader)
        os.close(writer)


def test_a_slow_reader_holds_up_a_descriptor_that_does_not_block() -> None:
    """E-40: somebody else may have made standard output non-blocking: every byte arrives all the same."""
    data = os.urandom(1 << 20)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read())"],
        stdin=reader,
        stdout=subprocess.PIPE,
    ) as process:
        os.close(reader)
        with StandardOutput(writer).open_part("a.csv") as part:
            part.write(data)
        os.close(writer)
        assert process.stdout is not None
        assert process.stdout.read() == data
