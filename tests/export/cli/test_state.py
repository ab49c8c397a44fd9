"""``state``: what is stored, and the decision about an export that was edited."""

from __future__ import annotations

import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from procflow_export.destinations.crash import CRASH_ENV
from tests.export.cli.conftest import Shop

CONFIG = {"name": "orders", "table": "orders", "mode": "incremental", "cursor_column": "cents"}


def insert(shop: Shop, key: int) -> None:
    with closing(sqlite3.connect(shop.folder / "shop.sqlite")) as database, database:
        database.execute("INSERT INTO orders VALUES (?, 'late', 1000000)", (key,))


@pytest.fixture
def config(shop: Shop) -> Path:
    path = shop.config(CONFIG, {"name": "items", "table": "items"})
    assert shop.run("run", str(path), "-q").status == 0
    return path


def test_show_says_how_far_each_export_has_come(shop: Shop, config: Path) -> None:
    """E-13, E-60: for people on standard error, for programs as one document."""
    plain = shop.run("state", "show", str(config))
    shown = shop.run("state", "show", str(config), "orders", "--json", "-q")

    assert plain.status == 0, plain.err
    assert "orders  incremental, 2,000 rows in 1 part" in plain.err
    assert "(cents, id): 14000, 2000" in plain.err
    assert "items  full, 5,000 rows in 1 part, no cursor" in plain.err
    (export,) = shown.data["exports"]
    assert (export["export"], export["row_count"], export["changes"]) == ("orders", 2000, [])
    assert [value["text"] for value in export["cursor"]["position"]] == ["14000", "2000"]


def test_an_edited_export_is_refused_until_it_is_accepted(shop: Shop, config: Path) -> None:
    """E-13, E-61: exit status 5 says that a human must decide; the decision is one command."""
    shop.config(CONFIG | {"table": None, "query": "select * from orders"}, name="edited.yaml")
    edited = shop.config(CONFIG, source={"type": "sqlite", "path": str(shop.folder / "shop.sqlite")}, name="e.yaml")
    (shop.folder / "moved.sqlite").write_bytes((shop.folder / "shop.sqlite").read_bytes())
    moved = shop.config(CONFIG, source={"type": "sqlite", "path": "moved.sqlite"}, name="moved.yaml")
    assert shop.run("run", str(edited), "-q").status == 0  # another spelling of the same file

    refused = shop.run("run", str(moved))
    checked = shop.run("check", str(moved))
    accepted = shop.run("state", "accept", str(moved), "orders")
    after = shop.run("run", str(moved), "--json", "-q")

    assert (refused.status, checked.status) == (5, 5)
    assert "CURSOR_NOT_OWNED" in refused.err
    assert "state accept" in refused.err
    assert "moved.sqlite" in refused.err
    assert accepted.status == 0, accepted.err
    assert "its own again" in accepted.err
    assert (after.status, after.data["exports"][0]["status"]) == (0, "skipped")
    assert after.data["exports"][0]["skip_reason"] == "nothing is new since the run before"


def test_a_reset_export_begins_anew(shop: Shop, config: Path) -> None:
    """E-13: everything is exported again and the set is replaced by the next run, not before."""
    before = shop.parts("orders")

    reset = shop.run("state", "reset", str(config), "orders")
    assert reset.status == 0, reset.err
    assert shop.parts("orders") == before
    insert(shop, 9000)
    after = shop.run("run", str(config), "-e", "orders", "--json", "-q")

    assert after.data["exports"][0]["row_count"] == 2001
    assert not set(shop.parts("orders")) & set(before)


@pytest.mark.parametrize("action", ["accept", "reset", "show"])
def test_a_misspelt_export_is_an_error_with_the_nearest_name(shop: Shop, config: Path, action: str) -> None:
    """E-61: a name that is not there deletes nothing and says so (lesson 40)."""
    ended = shop.run("state", action, str(config), "order")

    assert ended.status == 64
    assert "did you mean 'orders'" in ended.err


def test_check_says_how_an_export_is_cut_and_that_nothing_is_new(shop: Shop, config: Path) -> None:
    """E-22: check asks the destination and the source as a run does, and shows the same cut."""
    before = shop.run("check", str(config))
    insert(shop, 9000)
    after = shop.run("check", str(config), "-e", "orders", "--json", "-q")

    assert "nothing new" in before.err
    (export,) = after.data["exports"]
    assert (export["chunks"], export["key"]) == (1, "(cents, id)")
    assert export["cut"] == "rows behind a cursor of (cents, id)"


def test_nothing_to_decide_is_an_error(shop: Shop, config: Path) -> None:
    """E-13: a command that would change nothing does not say that it did (lesson 40)."""
    for arguments in (("accept", "orders"), ("reset", "items")):
        ended = shop.run("state", arguments[0], str(config), arguments[1])
        assert ended.status == 64, ended.err
    assert shop.run("state", "reset", str(config)).status == 64


CHUNKED = {"name": "items", "table": "items", "mode": "chunked", "chunk_count": 4, "consistency": "chunk"}


def killed(shop: Shop, config: Path, point: str, *arguments: str) -> None:
    ended = shop.run("run", str(config), "--engine", "in-process", "-q", *arguments, env={CRASH_ENV: point})
    assert ended.status == -signal.SIGKILL, ended.err


def test_runs_chunks_and_files_are_remembered(shop: Shop) -> None:
    """E-45: a run that died is told from one that goes on, with the chunks it had done and the parts it had stored."""
    config = shop.config(CHUNKED)
    killed(shop, config, "state.chunk_recorded:2")
    shop.run("run", str(config), "--resume", "-q")

    runs = shop.run("state", "runs", str(config), "--json", "-q").data["runs"]
    plain = shop.run("state", "runs", str(config))
    chunks = shop.run("state", "chunks", str(config), "items", "--json", "-q").data["exports"]["items"]
    files = shop.run("state", "files", str(config), "--json", "-q").data["exports"]["items"]

    assert [run["exports"][0]["standing"] for run in runs] == ["success", "died"]
    assert runs[0]["exports"][0]["resumed_from"] == runs[1]["run"]["run_id"]
    assert "died" in plain.err
    assert "success" in plain.err
    assert [chunk["standing"] for chunk in chunks["chunks"]] == ["done"] * 4
    assert sorted(file["key"] for file in files) == sorted(Path(part).name for part in shop.parts("items"))
    assert "4 of 4 chunks done" in shop.run("state", "chunks", str(config)).err


def test_to_look_makes_nothing(shop: Shop) -> None:
    """E-45: commands that only show leave no state where there was none."""
    config = shop.config(CHUNKED)

    for action in ("show", "runs", "files", "chunks"):
        assert shop.run("state", action, str(config)).status == 0
    assert shop.run("check", str(config)).status == 0

    assert not (shop.folder / "shop.state").exists()


def test_gc_lists_and_removes_superseded_parts(shop: Shop) -> None:
    """E-43: what was published goes only on request, and not before its age; what nobody here made is never touched."""
    config = shop.config(CHUNKED)
    for _ in range(2):
        assert shop.run("run", str(config), "-q").status == 0
    (shop.out / "items" / "notes.txt").write_text("mine")
    published = set(shop.parts("items"))

    young = shop.run("state", "gc", str(config), "--remove", "--json", "-q").data["exports"]["items"]
    listed = shop.run("state", "gc", str(config), "--older-than", "0s")
    assert len(list((shop.out / "items").glob("*.parquet"))) == 8
    removed = shop.run("state", "gc", str(config), "--older-than", "0s", "--remove", "--json", "-q")

    assert {(each["why"], each["is_removable"]) for each in young} == {("superseded", False), ("unknown", False)}
    assert "removable" in listed.err
    assert "nothing was removed" in listed.err
    assert sum(each["is_removable"] for each in removed.data["exports"]["items"]) == 5  # four parts and their manifest
    left = {path.name for path in (shop.out / "items").iterdir()}
    assert left >= {Path(part).name for part in published} | {"notes.txt", "manifest.json", "_SUCCESS"}
    assert len(left) == 4 + 4
    again = shop.run("state", "gc", str(config), "--older-than", "0s", "--json", "-q").data["exports"]["items"]
    assert [each["key"] for each in again] == ["notes.txt"]


def test_gc_removes_what_a_dead_run_left(shop: Shop) -> None:
    """E-34, E-43: without another run, too."""
    config = shop.config(CHUNKED)
    killed(shop, config, "publish.run_manifest_stored")

    found = shop.run("state", "gc", str(config), "--remove", "--json", "-q").data["exports"]["items"]

    assert {each["why"] for each in found} == {"leftover"}
    assert list((shop.out / "items").iterdir()) == []


def test_parts_that_stay_in_a_set_are_no_garbage(shop: Shop, config: Path) -> None:
    """E-43: the set of an incremental export names parts of many runs."""
    insert(shop, 9000)
    assert shop.run("run", str(config), "-e", "orders", "-q").status == 0
    before = shop.parts("orders")
    assert len(before) == 2

    ended = shop.run("state", "gc", str(config), "orders", "--older-than", "0s", "--remove")

    assert ended.status == 0, ended.err
    assert "nothing beside the published set" in ended.err
    assert shop.parts("orders") == before


def test_an_age_that_is_none_is_an_error(shop: Shop, config: Path) -> None:
    """E-61: a bad age says what is allowed."""
    ended = shop.run("state", "gc", str(config), "--older-than", "soon")

    assert ended.status == 64
    assert "12h" in ended.err


def test_two_runs_of_one_export_do_not_run_at_once(shop: Shop) -> None:
    """E-45: the second one is refused at once, by name of the first, and may try again later; a command that decides, too."""
    config = shop.slow()
    with shop.started("run", str(config), "--engine", "in-process") as first:
        lease = shop.folder / "shop.state" / "leases" / "items.lease"
        first.wait_until(lambda: lease.exists() and lease.stat().st_size, "the lease")

        second = shop.run("run", str(config), "--json", "-q")
        decided = shop.run("state", "gc", str(config), "items")
        (live,) = shop.run("state", "runs", str(config), "--limit", "1", "--json", "-q").data["runs"]

    verdict = second.data["exports"][1]
    assert (second.status, verdict["failure"]["code"]) == (2, "EXPORT_LEASED")
    assert str(first.process.pid) in verdict["failure"]["message"]
    assert decided.status == 2
    assert live["run"]["run_id"] == second.data["run_id"]


def test_the_state_can_be_elsewhere(shop: Shop) -> None:
    """E-45: for configurations in a directory that the program may not write."""
    config = shop.config(CHUNKED)

    ended = shop.run("run", str(config), "--state", "elsewhere", "-q")
    runs = shop.run("state", "runs", str(config), "--state", "elsewhere", "--json", "-q").data["runs"]

    assert ended.status == 0, ended.err
    assert len(runs) == 1
    assert not (shop.folder / "shop.state").exists()


def test_a_state_that_cannot_be_used_stops_the_run_before_it_begins(shop: Shop) -> None:
    """E-45, E-61: one clear error, and nothing was written."""
    config = shop.config(CHUNKED)
    (shop.folder / "shop.state").write_text("a file in the way")

    ended = shop.run("run", str(config))

    assert ended.status == 1
    assert "STATE_NOT_USABLE" in ended.err
    assert "--state DIR" in ended.err
    assert not shop.out.exists()
