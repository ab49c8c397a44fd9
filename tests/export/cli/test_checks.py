"""``validate``, ``reconcile`` and ``repair`` as people and programs call them."""

from __future__ import annotations

from tests.export.cli.conftest import Shop


def test_validate_tells_people_and_programs(shop: Shop) -> None:
    """E-46, E-60, E-61: a sound set is told and ends with 0; a damaged one with 3, as text and as one JSON document."""
    config = shop.three()
    assert shop.run("run", str(config)).status == 0

    sound = shop.run("validate", str(config), "--depth", "full")
    part = next((shop.out / "orders").glob("*.parquet"))
    part.write_bytes(part.read_bytes()[:-1])
    damaged = shop.run("validate", str(config), "--json")

    assert sound.status == 0
    assert "orders" in sound.err
    assert "their values compared" in sound.err
    assert damaged.status == 3
    assert damaged.data["status"] == "failed"
    statuses = {one["export"]: one["exit_status"] for one in damaged.data["exports"]}
    assert statuses == {"customers": 0, "orders": 3, "items": 0}
    (finding,) = next(one["findings"] for one in damaged.data["exports"] if one["export"] == "orders")
    assert finding["code"] == "PART_SIZE_MISMATCH"
    assert finding["key"] == part.name
    assert "PART_SIZE_MISMATCH" in damaged.err


def test_validate_needs_no_source_and_leaves_nothing(shop: Shop) -> None:
    """E-46: the source is not asked: it may be gone.  Nothing is written, neither beside the configuration nor in the set."""
    config = shop.config({"name": "orders", "table": "orders"})
    assert shop.run("run", str(config)).status == 0
    (shop.folder / "shop.sqlite").rename(shop.folder / "away.sqlite")
    before = sorted(path for path in shop.folder.rglob("*"))

    ended = shop.run("validate", str(config), "--depth", "full", "--quiet")

    assert (ended.status, ended.out, ended.err) == (0, "", "")
    assert sorted(path for path in shop.folder.rglob("*")) == before


def test_validate_finds_the_place_of_an_earlier_run(shop: Shop) -> None:
    """E-41, E-46: where a destination is named by the run, `--run` says which; what is no run is refused."""
    config = shop.config({"name": "orders", "table": "orders"}, destination={"type": "local", "path": "out/{run_id}"})
    ran = shop.run("run", str(config), "--json")
    run_id = ran.data["run_id"]

    there = shop.run("validate", str(config), "--run", run_id)
    elsewhere = shop.run("validate", str(config))
    nonsense = shop.run("validate", str(config), "--run", "yesterday")

    assert (there.status, elsewhere.status, nonsense.status) == (0, 3, 64)
    assert "MANIFEST_MISSING" in elsewhere.err
