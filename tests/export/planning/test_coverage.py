"""Which chunks make up a published set: every key is in exactly one of them, parts or no parts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from procflow_export.config.structs import ExportConfig, Mode
from procflow_export.model.keys import Bound, KeyKind, KeyPart, integer_value
from procflow_export.model.manifest import CursorOwner, Manifest, ManifestSource, StoredCursor
from procflow_export.model.plan import KeyRange, NullKeys, PartRecord, TableChunk
from procflow_export.model.reconciling import Growth
from procflow_export.model.settings import Format
from procflow_export.planning.chunks import Chunks, cut_integers
from procflow_export.planning.coverage import sections

KEY = (KeyPart(column="id", kind=KeyKind.INTEGER, is_nullable=True),)
OWNER = CursorOwner(mode="m", source="s", selection="t", destination="d", format="f", cursor="c")


def manifest(chunks: list[TableChunk], cursor: StoredCursor | None = None) -> Manifest:
    parts = tuple(
        PartRecord(key=f"p{number}", row_count=1, size_bytes=1, checksum="", chunk=number, bounds=chunk)
        for number, chunk in enumerate(chunks)
    )
    return Manifest(
        run_id="r", export="t", status="success", source=ManifestSource(engine="e", selection="table"), format="parquet",
        compression="none", schema_fingerprint="", row_count=len(parts), parts=parts, consistency="snapshot", started_at="",
        finished_at="", cursor=cursor,
    )  # fmt: skip


def holds(chunk: TableChunk | None, key: int | None) -> bool:
    if isinstance(chunk, NullKeys):
        return key is None
    assert isinstance(chunk, KeyRange)
    if key is None:
        return False
    above = chunk.low is None or _at(chunk.low) < key or (chunk.low.is_inclusive and _at(chunk.low) == key)
    below = chunk.high is None or _at(chunk.high) > key or (chunk.high.is_inclusive and _at(chunk.high) == key)
    return above and below


def _at(bound: Bound) -> int:
    return int(bound.values[0].text)


@given(count=st.integers(1, 6), is_behind=st.booleans(), lost=st.sets(st.integers(0, 6)))
def test_every_key_is_in_one_section(count: int, is_behind: bool, lost: set[int]) -> None:
    """E-46: whichever chunks left no part, the sections of a whole table hold each key once, NULL too."""
    cuts = cut_integers("id", 0, 19, count=count)
    chunks = Chunks(key=KEY, cuts=cuts, is_cut_behind=is_behind, has_nulls=True)
    kept = [chunk for number, chunk in enumerate(chunks) if number not in lost]
    if not kept:
        return

    found = sections(manifest(kept), ExportConfig(name="t", mode=Mode.CHUNKED, format=Format.PARQUET))

    for key in (None, *range(-3, 24)):
        assert sum(holds(section.chunk, key) for section in found) == 1
    assert [section.chunk for section in found if section.parts] == kept


@given(
    ends=st.lists(st.integers(0, 20), min_size=1, max_size=5, unique=True).map(sorted), lost=st.sets(st.integers(0, 4))
)
def test_sections_end_at_the_stored_position(ends: list[int], lost: set[int]) -> None:
    """E-46: behind the position nothing is looked for: those rows are new."""
    bounds = [Bound((integer_value(end),), is_inclusive=True) for end in ends]
    lows = [None, *(Bound(bound.values, is_inclusive=False) for bound in bounds[:-1])]
    runs: list[TableChunk] = [KeyRange(key=KEY, low=low, high=high) for low, high in zip(lows, bounds, strict=True)]
    kept = [chunk for number, chunk in enumerate(runs) if number not in lost] or runs[-1:]
    cursor = StoredCursor(owner=OWNER, key=KEY, position=bounds[-1].values)

    export = ExportConfig(name="t", mode=Mode.INCREMENTAL, cursor_column="id", format=Format.PARQUET)
    found = sections(manifest(kept, cursor), export)

    for key in range(-3, 24):
        assert sum(holds(section.chunk, key) for section in found) == (key <= ends[-1])
    assert {section.growth for section in found if isinstance(section.chunk, KeyRange)} == {Growth.CURSOR}
