"""``validate``: sound sets of every mode are found sound, and each kind of damage by the depth that looks for it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import msgspec
import pyarrow as pa
import pytest

from procflow_export.checks.findings import CheckCode
from procflow_export.checks.validation import Validation, ValidationDepth, validate_set
from procflow_export.model.codes import ExitStatus
from procflow_export.model.errors import Severity
from procflow_export.model.manifest import Manifest
from procflow_export.pipeline.checking import validate
from procflow_export.pipeline.reconciling import reconcile
from tests.export.checks.published import MODES, ROWS, Sets, columns_swapped, flip_a_byte, replaced
from tests.export.destinations.memory import MemoryDestination
from tests.export.modes.sets import Clock

pytestmark = pytest.mark.anyio


def codes(result: Validation) -> list[CheckCode]:
    return [finding.code for finding in result.findings]


@pytest.mark.parametrize("mode", list(MODES))
@pytest.mark.parametrize(
    "form",
    [{}, {"format": "csv"}, {"format": "csv", "compression": "gzip", "csv": {"header": False}}],
    ids=["parquet", "csv", "csv.gz"],
)
async def test_what_was_published_is_sound_at_every_depth(sets: Sets, clock: Clock, mode: str, form: Any) -> None:
    """E-46: what a run, and a second one that goes on from it, have published passes every depth without a word."""
    await sets.publish(mode, **form)
    for depth in ValidationDepth:
        assert (await sets.validated(mode, depth, **form)).findings == ()
    sets.database.execute("INSERT INTO t VALUES (1001, 'a', '', NULL, '2026-03-10 11:00:00')")
    clock.advance(days=1)
    await sets.publish(mode, **form)

    result = await sets.validated(mode, ValidationDepth.FULL, **form)

    assert set(codes(result)) <= {CheckCode.SUPERSEDED_OBJECT}
    assert result.exit_status is ExitStatus.OK
    assert result.row_count == ROWS + 1
    assert result.read_count == result.part_count
    assert result.compared_count == (0 if form else result.part_count)


@pytest.mark.parametrize("mode", list(MODES))
async def test_a_damaged_part_is_found(sets: Sets, mode: str) -> None:
    """E-46: a bit that changed, a missing part and a truncated one are found, the last two without reading a part."""
    await sets.publish(mode)
    path = sets.directory() / sets.part().key
    whole = path.read_bytes()

    path.unlink()
    missing = await sets.validated(mode, ValidationDepth.SAMPLE)
    path.write_bytes(whole[:-10])
    truncated = await sets.validated(mode, ValidationDepth.SAMPLE)
    path.write_bytes(whole)
    flip_a_byte(path)
    light, sample = (
        await sets.validated(mode, ValidationDepth.LIGHT),
        await sets.validated(mode, ValidationDepth.SAMPLE),
    )
    flipped = await sets.validated(mode, ValidationDepth.FULL)

    assert codes(missing) == [CheckCode.PART_MISSING]
    assert codes(truncated) == [CheckCode.PART_SIZE_MISMATCH]
    assert light.findings == sample.findings == ()
    assert codes(flipped)[0] is CheckCode.PART_CHECKSUM_MISMATCH
    assert {one.exit_status for one in (missing, truncated, flipped)} == {ExitStatus.INTEGRITY}
    assert {finding.key for one in (missing, truncated, flipped) for finding in one.findings} == {path.name}


@pytest.mark.parametrize("mode", list(MODES))
async def test_values_that_are_not_those_of_the_source_are_found(sets: Sets, mode: str) -> None:
    """E-46: a file whose bytes are what its manifest says, but whose values are not what was read, is found by its values."""
    await sets.publish(mode)

    sets.forge(lambda table: replaced(table, "cents", 3, 1))
    altered = await sets.validated(mode, ValidationDepth.FULL)
    await sets.validated(mode, ValidationDepth.SAMPLE)

    assert codes(altered) == [CheckCode.VALUE_CHECKSUM]
    assert altered.findings[0].columns == ("cents",)


async def test_each_way_in_which_values_can_be_wrong(sets: Sets) -> None:
    """E-46: swapped columns, an empty text for NULL, a lost row, and a column that slipped against the others."""
    await sets.publish("full")
    path = sets.directory() / sets.part().key
    whole, manifest = path.read_bytes(), sets.manifest()

    async def after(change: Any) -> Validation:
        path.write_bytes(whole)
        sets.rewrite(lambda _: manifest)
        sets.forge(change)
        return await sets.validated("full", ValidationDepth.FULL)

    swapped = await after(lambda table: columns_swapped(table, "id", "cents"))
    emptied = await after(lambda table: replaced(table, "name", 4, ""))
    lost = await after(lambda table: table.slice(1))
    slipped = await after(
        lambda table: table.set_column(3, "cents", pa.array(table["cents"].to_pylist()[::-1], pa.int64()))
    )

    assert swapped.findings[0].columns == ("id", "cents")
    assert emptied.findings[0].columns == ("name",)
    assert codes(lost) == [CheckCode.PART_ROW_COUNT, CheckCode.VALUE_CHECKSUM]
    assert codes(slipped) == [CheckCode.VALUE_CHECKSUM]
    assert slipped.findings[0].columns == ()
    assert "no longer in one row" in slipped.findings[0].message


async def test_a_renamed_column_is_found(sets: Sets) -> None:
    """E-46: values under another column's name are found, although every one of them is right."""
    await sets.publish("full")

    sets.forge(lambda table: table.rename_columns(["id", "name", "tenant", "cents", "at"]))

    assert codes(await sets.validated("full", ValidationDepth.FULL)) == [CheckCode.PART_SCHEMA]


async def test_a_damaged_csv_part_is_found(sets: Sets) -> None:
    """E-46: a CSV part is checked by digest and by its records; a manifest that was adapted to a lost line is found out."""
    await sets.publish("full", format="csv")
    path = sets.directory() / sets.part().key
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]))
    shorter = path.read_bytes()

    assert codes(await sets.validated("full", ValidationDepth.FULL, format="csv")) == [CheckCode.PART_SIZE_MISMATCH]
    path.write_bytes(b"".join(lines[:-1]) + b"x" * (len(b"".join(lines)) - len(shorter)))
    found = codes(await sets.validated("full", ValidationDepth.FULL, format="csv"))

    assert found == [CheckCode.PART_CHECKSUM_MISMATCH, CheckCode.PART_UNREADABLE]


async def test_quotes_and_line_ends_in_cells_are_no_records(sets: Sets) -> None:
    """E-46: a record is counted once however many lines its cells have."""
    sets.database.execute(
        "INSERT INTO t VALUES (2001, 'a', 'two\nlines', 1, NULL), (2002, '\"', 'a\"\n\"b\n', 2, NULL), (2003, '', '', 3, NULL)"
    )
    await sets.publish("full", format="csv")

    assert (await sets.validated("full", ValidationDepth.FULL, format="csv")).findings == ()


async def test_manifests_and_marker(sets: Sets) -> None:
    """E-46: light finds a manifest that contradicts itself or its run's own, and a marker that is stale or gone."""
    await sets.publish("ranges")
    directory = sets.directory()
    own = next(directory.glob("manifest-*.json"))

    async def light() -> list[CheckCode]:
        return codes(await sets.validated("ranges", ValidationDepth.LIGHT))

    manifest = sets.manifest()
    sets.rewrite(lambda one: msgspec.structs.replace(one, row_count=1))
    assert await light() == [CheckCode.MANIFEST_INCONSISTENT]
    sets.rewrite(lambda _: msgspec.structs.replace(manifest, parts=manifest.parts[1:] + manifest.parts[-1:]))
    assert CheckCode.MANIFEST_INCONSISTENT in await light()
    sets.rewrite(lambda _: manifest)
    sets.rewrite(lambda one: msgspec.structs.replace(one, consistency="chunk"), of_run=False)
    assert await light() == [CheckCode.RUN_MANIFEST_DIFFERS]
    sets.rewrite(lambda _: manifest)
    text = own.read_bytes()
    own.unlink()
    assert await light() == [CheckCode.RUN_MANIFEST_MISSING]
    own.write_bytes(b"{}")
    assert await light() == [CheckCode.MANIFEST_UNREADABLE]
    own.write_bytes(text)
    (directory / "_SUCCESS").write_text("sha256:0\n")
    assert await light() == [CheckCode.MARKER_STALE]
    (directory / "_SUCCESS").unlink()
    assert await light() == [CheckCode.MARKER_MISSING]
    (directory / "manifest.json").write_text("{")
    assert await light() == [CheckCode.MANIFEST_UNREADABLE]
    (directory / "manifest.json").unlink()
    assert await light() == [CheckCode.MANIFEST_MISSING]


async def test_what_lies_beside_the_set_is_a_warning(sets: Sets) -> None:
    """E-46: objects that no manifest names and parts of earlier runs are told, and are no failure."""
    await sets.publish("full")
    await sets.publish("full")
    (sets.directory() / "somebody.txt").write_text("else's")

    result = await sets.validated("full", ValidationDepth.SAMPLE)

    assert codes(result) == [CheckCode.UNTRACKED_OBJECT, CheckCode.SUPERSEDED_OBJECT]
    assert {finding.severity for finding in result.findings} == {Severity.WARNING}
    assert result.exit_status is ExitStatus.OK


async def test_a_manifest_of_an_earlier_release_is_still_checked(sets: Sets) -> None:
    """E-46: parts without checksums of their values pass, and it is said that these could not be compared."""
    await sets.publish("ranges")

    def older(manifest: Manifest) -> Manifest:
        parts = [msgspec.structs.replace(part, values=None, bounds=None) for part in manifest.parts]
        return msgspec.structs.replace(manifest, parts=tuple(parts))

    sets.rewrite(older)
    result = await sets.validated("ranges", ValidationDepth.FULL)

    assert set(codes(result)) == {CheckCode.VALUES_NOT_RECORDED}
    assert result.exit_status is ExitStatus.OK
    assert result.compared_count == 0


async def test_a_set_is_checked_through_the_port_alone(sets: Sets) -> None:
    """E-46: a destination whose objects are streams, and no files, is checked the same way."""
    await sets.publish("ranges")
    memory = MemoryDestination()
    for path in sets.directory().iterdir():
        memory.put(path.name, path.read_bytes())

    sound = validate_set(memory, "t", depth=ValidationDepth.FULL, has_csv_header=True)
    key = sets.part().key
    memory.objects[key] = bytes(byte ^ (place == 100) for place, byte in enumerate(memory.objects[key]))
    damaged = validate_set(memory, "t", depth=ValidationDepth.FULL, has_csv_header=True)

    assert sound.findings == ()
    assert sound.compared_count == sound.part_count
    assert codes(damaged)[0] is CheckCode.PART_CHECKSUM_MISMATCH


async def test_another_export_lies_there(sets: Sets, tmp_path: Path) -> None:
    """E-46: the set of another export is not taken for this one's."""
    await sets.publish("full")
    (tmp_path / "out" / "t").rename(tmp_path / "out" / "u")

    (result,) = [
        validate_set(
            sets.destination.__class__(tmp_path / "out" / "u"), "u", depth=ValidationDepth.LIGHT, has_csv_header=True
        )
    ]

    assert codes(result) == [CheckCode.MANIFEST_INCONSISTENT]


async def test_a_check_can_be_given_up(sets: Sets) -> None:
    """E-46: cancelling a validation or a comparison ends its thread between two blocks, and leaves nothing open."""
    await sets.publish("ranges")
    config = sets.config(sets.export("ranges"))

    for check in (partial(validate, depth=ValidationDepth.FULL), reconcile):
        seen: list[int] = []
        with anyio.CancelScope() as scope:

            def stop(_: str, size_bytes: int, scope: anyio.CancelScope = scope, seen: list[int] = seen) -> None:
                seen.append(size_bytes)
                try:
                    anyio.from_thread.run_sync(scope.cancel)
                except RuntimeError:  # told on the loop's own thread
                    scope.cancel()

            await check(config, watch=stop)

        assert scope.cancelled_caught
        assert len(seen) == 1
