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


def test_reconcile_tells_what_a_difference_is(shop: Shop) -> None:
    """E-46, E-60, E-61: chunks that match, that cannot be decided (0) and that are wrong (3), as text and as one JSON document."""
    config = str(shop.three())
    assert shop.run("run", config).status == 0

    same = shop.run("reconcile", config)
    shop.execute("UPDATE orders SET cents = 1 WHERE id = 7")
    undecided = shop.run("reconcile", config, "--json")
    next((shop.out / "items").glob("*.parquet")).unlink()
    wrong = shop.run("reconcile", config, "-e", "items", "--quiet")

    assert same.status == 0
    assert "4 chunks: 4 match" in same.err
    assert undecided.status == 0
    orders = next(one for one in undecided.data["exports"] if one["export"] == "orders")
    assert [chunk["verdict"] for chunk in orders["chunks"]] == ["undecided", "match"]
    assert orders["chunks"][0]["columns"] == ["cents"]
    assert orders["consistency"] == "snapshot"
    assert "CHUNK_UNDECIDED" in undecided.err
    assert wrong.status == 3
    assert "CHUNK_WRONG" in wrong.err


def test_repair_says_first_and_does_it_when_asked(shop: Shop) -> None:
    """E-46, E-60, E-61: without `--execute` it is 3 and nothing changes; with it the damaged exports alone are made anew, and 0."""
    config = str(shop.three())
    assert shop.run("run", config).status == 0
    next((shop.out / "orders").glob("*.parquet")).unlink()
    before = shop.parts("items")

    said = shop.run("repair", config)
    done = shop.run("repair", config, "--execute", "--json")
    again = shop.run("repair", config, "--execute")

    assert said.status == 3
    assert "PART_MISSING" in said.err
    assert "--execute" in said.err
    assert done.status == 0
    assert done.data["executed"] is True
    assert [one["export"] for one in done.data["run"]["exports"]] == ["orders"]
    assert [one["exit_status"] for one in done.data["validated"]] == [0]
    assert shop.parts("items") == before
    assert again.status == 0
    assert "nothing to repair" in again.err
    assert shop.run("validate", config, "--depth", "full").status == 0
    assert shop.run("reconcile", config).status == 0


def test_repair_of_an_export_that_adds_to_its_set(shop: Shop) -> None:
    """E-13, E-46: its cursor is forgotten, everything is exported anew, and the next run goes on from there."""
    config = str(
        shop.config(
            {"name": "orders", "table": "orders", "mode": "chunked", "chunk_by_key": "id", "keyset_incremental": True}
        )
    )
    assert shop.run("run", config).status == 0
    shop.execute("INSERT INTO orders VALUES (5000, 'new', 1)")
    assert shop.run("run", config).status == 0
    next((shop.out / "orders").glob("*.parquet")).unlink()

    done = shop.run("repair", config, "--execute")
    after = shop.run("run", config)

    assert done.status == after.status == 0
    assert "the cursor is forgotten" in done.err
    assert shop.run("validate", config, "--depth", "full").status == 0
    assert shop.run("reconcile", config).status == 0


def test_standard_output_keeps_nothing_to_check(shop: Shop) -> None:
    """E-46, E-61: a set that went to standard output cannot be checked, and that is said."""
    config = str(shop.config({"name": "orders", "table": "orders"}, destination={"type": "stdout"}))

    assert shop.run("validate", config).status == shop.run("reconcile", config).status == 64
