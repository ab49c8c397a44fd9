"""``run``: what comes out, what is said, and which status it ends with."""

from __future__ import annotations

import os
import subprocess
import sys

import pyarrow.parquet as pq
import pytest

from procflow_export import ExitStatus
from tests.export.cli.conftest import TIMEOUT_S, Shop

ROWS = {"customers": 300, "orders": 2000, "items": 5000}


@pytest.mark.parametrize("engine", ["processes", "in-process"])
def test_a_run_publishes_its_exports(shop: Shop, engine: str) -> None:
    """E-31, E-36, E-63: either engine publishes the same; without a terminal there is one plain line per event."""
    ended = shop.run("run", str(shop.three()), "--engine", engine, "--processes", "2")

    assert ended.status == 0, ended.err
    assert ended.out == ""
    assert "\x1b" not in ended.err
    for name, rows in ROWS.items():
        assert sum(pq.read_metadata(shop.out / name / key).num_rows for key in shop.parts(name)) == rows
        assert f"{name}: started, " in ended.err
        assert f"{name}: done, {rows:,} rows in " in ended.err
    assert "all exports published · 7,300 rows · 7 parts" in ended.err
    assert engine in ended.err


def test_json_is_data_and_nothing_else(shop: Shop) -> None:
    """E-60: --json prints one document on standard output; words stay on standard error."""
    ended = shop.run("run", str(shop.three()), "--json", "--quiet")

    data = ended.data
    assert (ended.status, ended.err) == (0, "")
    assert (data["status"], data["exit_status"], data["row_count"]) == ("success", 0, 7300)
    assert {export["export"]: export["row_count"] for export in data["exports"]} == ROWS
    assert {"part_count", "size_bytes", "elapsed_s", "peak_rss_bytes", "manifest", "failure"} <= set(data["exports"][0])


def test_only_the_exports_that_are_named_run(shop: Shop) -> None:
    ended = shop.run("run", str(shop.three()), "-e", "orders", "-e", "customers", "--json", "-q")

    assert {export["export"] for export in ended.data["exports"]} == {"orders", "customers"}
    assert not (shop.out / "items").exists()


def test_an_export_that_does_not_exist_is_a_usage_error(shop: Shop) -> None:
    """E-61: a misspelt name fails loudly, with the nearest one."""
    ended = shop.run("run", str(shop.three()), "-e", "order")

    assert ended.status == 64
    assert "did you mean 'orders'" in ended.err


def test_a_failed_export_stops_no_other_and_says_what_to_type(shop: Shop) -> None:
    """E-63: the summary has the code, the message, the remedy and the exact next command."""
    config = shop.config({"name": "customers", "table": "customers"}, {"name": "ghost", "table": "ghost"})
    ended = shop.run("run", config.name, "--json")

    assert ended.status == 1
    assert shop.parts("customers")
    assert shop.parts("ghost") == []
    assert "✗ ghost failed: SOURCE_NOT_FOUND" in ended.err
    assert "what to do  Check the names" in ended.err
    assert f"-m procflow_export run {config.name} -e ghost" in ended.err
    assert [export["status"] for export in ended.data["exports"]] == ["success", "failed"]
    assert ended.data["exports"][1]["failure"]["code"] == "SOURCE_NOT_FOUND"


def test_many_failures_of_one_reason_are_told_once(shop: Shop) -> None:
    """E-33: failures are grouped when three or more have the same normalised reason."""
    source = {"type": "sqlite", "path": "nowhere.sqlite"}
    config = shop.config(*({"name": f"t{index}", "table": "customers"} for index in range(4)), source=source)
    ended = shop.run("run", str(config))

    assert ended.status == 1
    assert ended.err.count("what to do") == 1
    assert "4 exports failed for the same reason: t0, t1, t2, t3" in ended.err


def test_every_finding_of_a_configuration_is_told_with_its_line(shop: Shop) -> None:
    """E-62: all findings at once, each with file, line and key, and the nearest name."""
    path = shop.folder / "bad.yaml"
    path.write_text(
        "source:\n  type: sqlite\n  path: shop.sqlite\ndestination:\n  type: local\n  path: out\nexports:\n"
        "  - name: a\n    tabel: orders\n    mode: full\n    format: parket\n"
    )
    ended = shop.run("run", "bad.yaml")

    assert ended.status == 1
    assert "bad.yaml:9: exports[0].tabel" in ended.err
    assert "bad.yaml:11: exports[0].format" in ended.err
    assert "table" in ended.err
    assert "CONFIG_INVALID" in ended.err


def test_without_a_configuration_the_usual_name_is_taken(shop: Shop) -> None:
    nothing = shop.run("run")
    shop.config({"name": "customers", "table": "customers"}, name="procflow.yaml")
    found = shop.run("run", "-q")

    assert nothing.status == 64
    assert "procflow.yaml" in nothing.err
    assert (found.status, found.err) == (0, "")


def test_parameters_fill_placeholders_and_are_not_repeated(shop: Shop) -> None:
    """E-12, E-2: --param reaches the configuration; the next command names it without its value."""
    config = shop.config({"name": "one", "table": "${TABLE}"})
    good = shop.run("run", str(config), "-p", "TABLE=orders", "-q")
    bad = shop.run("run", str(config), "--param", "TABLE=s3cret")

    assert good.status == 0
    assert bad.status == 1
    assert '-p TABLE="$TABLE"' in bad.err


def test_foreign_text_cannot_touch_the_terminal(shop: Shop) -> None:
    """E-63: escape codes in a message of the source are removed before it is shown."""
    config = shop.config({"name": "evil", "query": 'SELECT 1 FROM "no\x1b[2J\x07table"'})
    ended = shop.run("run", str(config))

    assert ended.status == 1
    assert "\x1b" not in ended.err
    assert "\x07" not in ended.err


@pytest.mark.parametrize("arguments", [("schema",), ("schema", "errors"), ("run", "shop.yaml", "--json", "-q")])
def test_a_reader_that_goes_away_is_no_error(shop: Shop, arguments: tuple[str, ...]) -> None:
    """E-60: `| head` never tracebacks."""
    shop.three()
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            shop.command(*arguments), cwd=shop.folder, env=shop.env, stdout=write, stderr=subprocess.PIPE, text=True,
            timeout=TIMEOUT_S, check=False,
        )  # fmt: skip
    finally:
        os.close(write)

    assert (done.returncode, done.stderr) == (0, "")


def test_a_reader_of_the_words_that_goes_away_does_not_stop_the_run(shop: Shop) -> None:
    """E-60: `2>&1 | head -1` loses words, and no export."""
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            shop.command("run", str(shop.three())), cwd=shop.folder, env=shop.env, stdout=write, stderr=write,
            timeout=TIMEOUT_S, check=False,
        )  # fmt: skip
    finally:
        os.close(write)

    assert done.returncode == 0
    assert len(shop.parts("items")) == 4


def test_running_again_replaces_what_is_published(shop: Shop) -> None:
    config = str(shop.three())
    first = shop.run("run", config, "-q")
    before = shop.parts("items")
    second = shop.run("run", config, "-q")

    assert (first.status, second.status) == (0, 0)
    assert len(shop.parts("items")) == len(before) == 4
    assert set(shop.parts("items")).isdisjoint(before)


def test_an_old_terminal_gets_ascii(shop: Shop) -> None:
    ended = shop.run("run", str(shop.three()), env={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})

    assert ended.status == 0
    assert ended.err.isascii()
    assert "all exports published" in ended.err


BROKEN = """
import sys
from procflow_export.__main__ import main
from procflow_export.pipeline import reading

async def plan_target(*_arguments, **_options):
    raise OverflowError("a bug of ours")

reading.plan_target = plan_target
sys.argv = ["procflow-export", *sys.argv[1:]]
main()
"""


def test_a_bug_of_ours_is_told_with_its_traceback(shop: Shop) -> None:
    """E-60, E-61: what the operator is asked to report is there, and nothing else of the log."""
    shop.config({"name": "orders", "table": "orders"})

    ended = subprocess.run(
        [sys.executable, "-c", BROKEN, "run", "shop.yaml"],
        cwd=shop.folder,
        env=shop.env,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )

    assert ended.returncode == int(ExitStatus.INTERNAL)
    assert "Report it with the traceback" in ended.stderr
    assert "Traceback (most recent call last)" in ended.stderr
    assert "OverflowError: a bug of ours" in ended.stderr
    assert "export_failed_unexpectedly" not in ended.stderr
