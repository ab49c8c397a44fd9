"""``demo``: what a stranger sees first."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from procflow_export.demo.folder import DEMO_MARKER, claimed_folder
from procflow_export.demo.shop import TABLES, ShopSize, create_shop
from procflow_export.model.errors import DestinationError
from tests.export.cli.conftest import Shop

ROWS = "4000"


def test_the_demo_exports_validates_and_shows_the_way(shop: Shop) -> None:
    """E-64: no server, child processes, Parquet, read back by pyarrow and DuckDB; the commands it prints work."""
    pytest.importorskip("duckdb")
    ended = shop.run("demo", "--rows", ROWS)

    assert ended.status == 0, ended.err
    assert ended.out == ""
    assert "4 exports, processes" in ended.err
    for table, rows in ShopSize(order_items=int(ROWS)).row_counts().items():
        assert re.search(
            rf"✓ {table} +pyarrow and DuckDB read what SQLite holds: {rows:,} rows, \d column sums", ended.err
        )
    commands = [line.strip() for line in ended.err.splitlines() if " -c " in line]
    assert len(commands) == 2
    for command in commands:
        done = subprocess.run(
            command, shell=True, cwd=shop.folder, env=shop.env, capture_output=True, text=True, check=True
        )
        assert "product_id" in done.stdout


def test_the_demo_s_configuration_runs_by_itself(shop: Shop) -> None:
    """E-64: the demo is a configuration that anybody can run again."""
    assert shop.run("demo", "--rows", ROWS, "-q").status == 0
    again = shop.run("run", "demo-output/shop.yaml", "--json")

    assert again.status == 0, again.err
    assert again.data["row_count"] == sum(ShopSize(order_items=int(ROWS)).row_counts().values())


def test_a_second_demo_replaces_the_first_and_nothing_else(shop: Shop) -> None:
    """E-64: only what the demo made is deleted."""
    first = shop.run("demo", "--rows", ROWS, "--json", "-q")
    foreign = [
        shop.folder / "demo-output" / "notes.txt",
        shop.folder / "demo-output" / "data" / "orders" / "mine.parquet",
    ]
    for file in foreign:
        file.write_text("mine")
    second = shop.run("demo", "--rows", ROWS, "--json", "-q")

    assert (first.status, second.status) == (0, 0)
    assert all(file.read_text() == "mine" for file in foreign)
    parts = {Path(part).name for comparison in second.data["comparisons"] for part in comparison["parts"]}
    present = {path.name for path in (shop.folder / "demo-output" / "data").rglob("*.parquet")}
    assert present == parts | {"mine.parquet"}


def test_a_folder_of_somebody_else_is_refused(shop: Shop) -> None:
    """E-64: a folder that the demo did not make is not touched."""
    (shop.folder / "demo-output").mkdir()
    (shop.folder / "demo-output" / "shop.sqlite").write_text("precious")
    ended = shop.run("demo", "--rows", ROWS)

    assert ended.status == 1
    assert "was not made by the demo" in ended.err
    assert (shop.folder / "demo-output" / "shop.sqlite").read_text() == "precious"


def test_links_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "manifest.json").write_text("precious")
    root = tmp_path / "demo"
    with claimed_folder(root) as folder:
        folder.data.mkdir()
        (folder.data / "orders").symlink_to(outside)
    with claimed_folder(root):
        pass

    assert (outside / "manifest.json").read_text() == "precious"


def test_two_demos_do_not_share_a_folder(tmp_path: Path) -> None:
    with claimed_folder(tmp_path / "demo"), pytest.raises(DestinationError, match="another demo"):
        with claimed_folder(tmp_path / "demo"):
            pass
    marker = os.open(tmp_path / "demo" / DEMO_MARKER, os.O_RDONLY)
    fcntl.flock(marker, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(marker)


def test_the_shop_is_the_same_everywhere(tmp_path: Path) -> None:
    """E-64: the sample data is computed, so that its sums can stand in documents and tests."""
    import sqlite3

    create_shop(tmp_path / "shop.sqlite", ShopSize(order_items=4000))
    database = sqlite3.connect(tmp_path / "shop.sqlite")
    try:
        counts = {table: database.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES}
        sums = database.execute("SELECT sum(quantity), sum(price_cents), sum(discount) FROM order_items").fetchone()
        orphans = database.execute(
            "SELECT count(*) FROM order_items LEFT JOIN orders ON orders.id = order_id WHERE orders.id IS NULL"
        ).fetchone()
    finally:
        database.close()

    assert counts == ShopSize(order_items=4000).row_counts()
    assert sums == SUMS
    assert orphans == (0,)
    with pytest.raises(FileExistsError):
        create_shop(tmp_path / "shop.sqlite", ShopSize())
    with pytest.raises(ValueError, match="at least"):
        ShopSize(order_items=1)


SUMS = (12023, 100322057, 114.75)


def test_check_and_type_report(shop: Shop) -> None:
    """E-22: check resolves types and plans as run does, shows columns, and finds all problems of all exports at once."""
    config = shop.config(
        {
            "name": "good",
            "table": "orders",
            "mode": "chunked",
            "chunk_count": 3,
            "columns": {"cents": "decimal(12,2)", "name": {"on_invalid": "null"}},
        },
        {"name": "ghost", "table": "ghost"},
        {"name": "keyless", "table": "loose", "mode": "chunked"},
        {"name": "wrong", "table": "loose", "columns": {"nmae": "int4"}},
    )
    ended = shop.run("check", str(config), "--type-report", "--json")
    plain = shop.run("check", str(config), "-e", "good")

    assert ended.status == 1
    assert (
        "✓ good     sqlite, table orders, 3 columns, about 2.0k rows, 3 chunks (ranges of id), parquet (zstd)"
        in ended.err
    )
    assert re.search(r"cents +INTEGER +decimal128\(12, 2\) +INT64 DECIMAL\(12,2\) +compatible +error", ended.err)
    assert re.search(r"name +TEXT +string +BYTE_ARRAY STRING +exact +null", ended.err)
    assert re.search(r"id +INTEGER +int64 +INT64 +not null +exact +error", ended.err)
    (good, *_) = ended.data["exports"]
    assert good["columns"][2] == {
        "name": "cents",
        "native_type": "INTEGER",
        "arrow_type": "decimal128(12, 2)",
        "parquet_type": "INT64 DECIMAL(12,2)",
        "csv_form": "digits, all decimals",
        "is_nullable": True,
        "fidelity": "compatible",
        "on_invalid": "error",
        "is_chosen": True,
    }
    verdicts = {
        export["export"]: [failure["code"] for failure in export["failures"]] for export in ended.data["exports"]
    }
    assert verdicts == {
        "good": [],
        "ghost": ["SOURCE_NOT_FOUND"],
        "keyless": ["PLAN_KEY_MISSING"],
        "wrong": ["PLAN_COLUMN_UNKNOWN"],
    }
    assert "did you mean 'name'?" in ended.err
    assert "3 of 4 exports would fail" in ended.err
    assert plain.status == 0
    assert not shop.out.exists()


def test_what_a_policy_changed_is_said_by_every_face(shop: Shop) -> None:
    """E-21: changed values are counted per column in the summary, the plain lines and the data; never silent."""
    config = shop.config(
        {"name": "orders", "table": "orders", "columns": {"name": {"type": "int4", "on_invalid": "null"}}},
        {"name": "items", "table": "items", "columns": {"cents": {"type": "int2", "on_invalid": "clamp"}}},
    )

    ended = shop.run("run", str(config), "--json")

    assert ended.status == 0
    assert " ! orders.name: 2,000 values changed to NULL" in ended.err
    assert " ! items.cents: 319 values changed to the nearest that fits" in ended.err
    assert "orders: VALUES_CHANGED: name: 2,000 values changed to NULL" in ended.err
    assert [export["changed_values"] for export in ended.data["exports"]] == [{"name": 2000}, {"cents": 319}]


def test_python_dash_m_and_the_script_are_the_same_program(shop: Shop) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import sys; sys.argv = ['procflow-export', '--version']; import procflow_export.__main__ as m; m.main()"],
        env=shop.env, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip

    assert done.returncode == 0
    assert done.stdout.startswith("procflow ")
