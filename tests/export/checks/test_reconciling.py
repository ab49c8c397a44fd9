"""``reconcile``: what each kind of difference between a published set and its source is, in every mode."""

from __future__ import annotations

from typing import Any

import pytest

from procflow_export.checks.findings import CheckCode
from procflow_export.model.codes import ExitStatus
from procflow_export.model.reconciling import Verdict
from procflow_export.pipeline.reconciling import Reconciliation
from tests.export.checks.published import MODES, ROWS, Sets, columns_swapped, replaced
from tests.export.modes.sets import Clock

pytestmark = pytest.mark.anyio

FORMS: dict[str, dict[str, Any]] = {
    "parquet": {},
    "csv": {"format": "csv", "csv": {"delimiter": ";"}},
    "csv.gz": {"format": "csv", "compression": "gzip", "csv": {"header": False}},
}


def verdicts(result: Reconciliation) -> set[Verdict]:
    return {chunk.verdict for chunk in result.chunks}


def differing(result: Reconciliation) -> list[tuple[Verdict, int | None, int]]:
    return [
        (chunk.verdict, chunk.source_rows, chunk.file_rows)
        for chunk in result.chunks
        if chunk.verdict is not Verdict.MATCH
    ]


@pytest.mark.parametrize("form", list(FORMS))
@pytest.mark.parametrize("mode", list(MODES))
async def test_a_set_that_is_what_its_source_holds_matches(sets: Sets, clock: Clock, mode: str, form: str) -> None:
    """E-46: rows and checksums of every chunk match, also after a second run that goes on from the first."""
    more = FORMS[form]
    sets.database.execute("INSERT INTO t VALUES (900, 'ä;\"', 'two' , NULL, NULL), (901, '', '', -1, NULL)")
    await sets.publish(mode, **more)
    first = await sets.reconciled(mode, **more)
    sets.database.execute("INSERT INTO t VALUES (1001, 'a', '', NULL, '2026-03-10 11:30:00')")
    clock.advance(days=1)
    await sets.publish(mode, **more)

    second = await sets.reconciled(mode, **more)

    assert first.findings == second.findings == ()
    assert verdicts(first) == verdicts(second) == {Verdict.MATCH}
    assert sum(chunk.file_rows for chunk in first.chunks) == ROWS + 2
    assert sum(chunk.source_rows or 0 for chunk in second.chunks) == ROWS + 3
    assert second.exit_status is ExitStatus.OK


@pytest.mark.parametrize("mode", list(MODES))
async def test_files_that_are_not_what_was_read_are_wrong(sets: Sets, mode: str) -> None:
    """E-46: altered values, swapped columns and lost rows in a file are wrong in every mode, whatever its manifest says."""
    await sets.publish(mode)
    path = sets.directory() / sets.part().key
    whole, manifest, before = path.read_bytes(), sets.manifest(), sets.part().row_count

    sets.forge(lambda table: replaced(table, "cents", 3, 1))
    altered = await sets.reconciled(mode)
    path.write_bytes(whole)
    sets.forge(lambda table: columns_swapped(table, "id", "cents"))
    swapped = await sets.reconciled(mode)
    path.write_bytes(whole)
    sets.forge(lambda table: table.slice(1))
    lost = await sets.reconciled(mode)

    assert differing(altered) == [(Verdict.WRONG, before, before)]
    assert altered.findings[0].columns == ("cents",)
    assert differing(swapped) == [(Verdict.WRONG, before, before)]
    assert swapped.findings[0].columns == ("id", "cents")
    assert differing(lost) == [(Verdict.WRONG, before, before - 1)]
    assert lost.exit_status is ExitStatus.INTEGRITY
    sets.rewrite(lambda _: manifest)


@pytest.mark.parametrize("form", ["parquet", "csv"])
@pytest.mark.parametrize("mode", ["full", "incremental"])
async def test_parts_that_cannot_be_read_are_wrong(sets: Sets, mode: str, form: str) -> None:
    """E-46: a part that is missing or truncated is wrong, without its rows."""
    more = FORMS[form]
    await sets.publish(mode, **more)
    path = sets.directory() / sets.part().key
    whole = path.read_bytes()

    path.write_bytes(whole[: len(whole) // 2])
    truncated = await sets.reconciled(mode, **more)
    path.unlink()
    missing = await sets.reconciled(mode, **more)

    for result in (truncated, missing):
        assert Verdict.WRONG in verdicts(result)
        assert result.findings[0].code is CheckCode.CHUNK_WRONG
        assert result.exit_status is ExitStatus.INTEGRITY


@pytest.mark.parametrize("form", ["parquet", "csv"])
@pytest.mark.parametrize("mode", sorted(set(MODES) - {"incremental", "behind a key"}))
async def test_changes_of_what_every_run_exports_anew_are_undecided(sets: Sets, mode: str, form: str) -> None:
    """E-46: without a cursor nothing tells a change from a fault: altered, new and deleted rows are undecided, and no failure."""
    more = FORMS[form]
    await sets.publish(mode, **more)

    sets.database.execute(
        "UPDATE t SET name = 'changed' WHERE id = 7",
        "INSERT INTO t VALUES (1000, 'a', NULL, 5, '2026-03-10 07:00:00')",
        "DELETE FROM t WHERE id = 299",
    )
    result = await sets.reconciled(mode, **more)

    assert verdicts(result) <= {Verdict.UNDECIDED, Verdict.MATCH}
    assert sum(chunk.source_rows or 0 for chunk in result.chunks) == ROWS
    reasons = " ".join(reason for chunk in result.chunks for reason in chunk.reasons)
    if mode == "ranges of a query":  # a query has no key: a row that has changed is two
        assert "2 rows are at the source only" in reasons or "1 row is at the source only" in reasons
    else:
        assert "1 row is not as in the files" in reasons
        assert "1 row is at the source only" in reasons
        assert "1 row is in the files only" in reasons
    assert result.exit_status is ExitStatus.OK
    assert {finding.code for finding in result.findings} == {CheckCode.CHUNK_UNDECIDED}


@pytest.mark.parametrize("form", ["parquet", "csv"])
async def test_behind_a_cursor_changes_are_told_from_faults(sets: Sets, form: str) -> None:
    """E-46: a row whose cursor has moved on has changed since; one whose cursor did not move, or that was left out, is wrong."""
    more = FORMS[form]
    await sets.publish("incremental", **more)

    sets.database.execute("UPDATE t SET name = 'later', at = '2026-03-20 00:00:00' WHERE id = 5")
    changed = await sets.reconciled("incremental", **more)
    sets.database.execute("INSERT INTO t VALUES (1000, 'a', NULL, 5, '2026-03-21 00:00:00')")
    new = await sets.reconciled("incremental", **more)
    sets.database.execute("DELETE FROM t WHERE id = 6")
    deleted = await sets.reconciled("incremental", **more)
    sets.database.execute("UPDATE t SET name = 'silently' WHERE id = 7")
    silent = await sets.reconciled("incremental", **more)
    sets.database.execute(
        "UPDATE t SET name = name WHERE id = 7", "INSERT INTO t VALUES (1001, 'a', NULL, 5, '2026-03-08 07:00:00')"
    )
    late = await sets.reconciled("incremental", **more)

    assert verdicts(changed) == verdicts(new) == {Verdict.CHANGED}
    assert verdicts(deleted) == {Verdict.UNDECIDED}
    assert verdicts(silent) == verdicts(late) == {Verdict.WRONG}
    assert [one.exit_status for one in (changed, deleted, silent)] == [
        ExitStatus.OK,
        ExitStatus.OK,
        ExitStatus.INTEGRITY,
    ]
    assert "1 row is not as in the files, although their cursor did not move" in silent.chunks[0].reasons[0]
    assert any("1 row is at the source before the stored position" in reason for reason in late.chunks[0].reasons)
    assert any("1 row is behind the end of the chunk" in reason for reason in late.chunks[0].reasons)


async def test_a_row_that_a_later_run_exported_again_has_changed_since(sets: Sets) -> None:
    """E-46: the version that an earlier run exported is what it was then: the chunk has changed since, and is not wrong."""
    await sets.publish("incremental")
    sets.database.execute("UPDATE t SET name = 'again', at = '2026-03-20 00:00:00' WHERE id = 5")
    await sets.publish("incremental")

    result = await sets.reconciled("incremental")

    assert [chunk.verdict for chunk in result.chunks if chunk.source_rows] == [Verdict.CHANGED, Verdict.MATCH]


@pytest.mark.parametrize("form", ["parquet", "csv"])
async def test_behind_a_key_missing_rows_are_wrong(sets: Sets, form: str) -> None:
    """E-46: a row with a key before the stored position that no file has is wrong; of changes the key says nothing."""
    more = FORMS[form]
    await sets.publish("behind a key", **more)

    sets.database.execute("INSERT INTO t VALUES (1000, 'a', NULL, 5, NULL)")
    new = await sets.reconciled("behind a key", **more)
    sets.database.execute("UPDATE t SET cents = 0 WHERE id = 150", "DELETE FROM t WHERE id = 151")
    altered = await sets.reconciled("behind a key", **more)
    sets.database.execute("INSERT INTO t VALUES (-5, 'a', NULL, 5, NULL)")
    missed = await sets.reconciled("behind a key", **more)

    assert verdicts(new) == {Verdict.MATCH}
    assert verdicts(altered) == {Verdict.MATCH, Verdict.UNDECIDED}
    assert differing(missed)[0] == (Verdict.WRONG, 101, 100)


async def test_rows_between_chunks_are_looked_for(sets: Sets) -> None:
    """E-46: a chunk that had no rows left no part; rows that are there now, and those of a chunk that the manifest lost, are found."""
    sets.database.execute("DELETE FROM t WHERE id BETWEEN 101 AND 200")
    await sets.publish("ranges")
    assert verdicts(await sets.reconciled("ranges")) == {Verdict.MATCH}

    sets.database.execute("INSERT INTO t VALUES (150, 'a', NULL, 5, NULL)")
    result = await sets.reconciled("ranges")

    (gap,) = [chunk for chunk in result.chunks if not chunk.parts]
    assert (gap.verdict, gap.source_rows, gap.file_rows) == (Verdict.UNDECIDED, 1, 0)


async def test_a_row_that_is_in_the_files_twice_is_wrong(sets: Sets) -> None:
    """E-46: a key is there once: files that have a row twice are wrong, even where their manifest says the same."""
    await sets.publish("full")
    import msgspec
    import pyarrow as pa

    sets.forge(lambda table: pa.concat_tables([table, table.slice(0, 1)]))
    sets.rewrite(
        lambda manifest: msgspec.structs.replace(
            manifest, parts=tuple(msgspec.structs.replace(part, values=None) for part in manifest.parts)
        )
    )
    result = await sets.reconciled("full")

    assert differing(result) == [(Verdict.WRONG, ROWS, ROWS + 1)]
    assert "more than once" in result.chunks[0].reasons[0]


async def test_other_columns_are_not_compared(sets: Sets) -> None:
    """E-46: a source that has another column now is undecided, and says so."""
    await sets.publish("full")
    sets.database.execute("ALTER TABLE t ADD COLUMN extra integer")

    result = await sets.reconciled("full")

    assert verdicts(result) == {Verdict.UNDECIDED}
    assert "other columns" in result.chunks[0].reasons[0]
