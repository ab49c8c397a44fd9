"""``state``: what is stored, and the decision about an export that was edited."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

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
