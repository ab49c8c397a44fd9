"""From configuration and profile to work units."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from procflow_export.config.loading import read_config
from procflow_export.destinations.stores.part import UPLOAD_BYTES
from procflow_export.model.destination import DestinationConfig, DestinationType
from procflow_export.model.keys import Indexes, KeyKind, KeyPart
from procflow_export.model.plan import Query, Relation, WorkUnit
from procflow_export.model.settings import MIN_MEMORY_MB, Compression, Environment, Format, TuningProfile
from procflow_export.model.types import Column, LogicalType
from procflow_export.planning.chunks import Chunks, cut_integers
from procflow_export.planning.keys import Facts
from procflow_export.planning.memory import (
    MIB,
    PROCESS_BASE_BYTES,
    UNIT_BYTES,
    data_bytes,
    max_row_group_bytes,
    row_group_warning,
    unit_bytes,
)
from procflow_export.planning.names import part_key, part_stem, resolved_destination, short_run_id
from procflow_export.planning.order import remaining_cost
from procflow_export.planning.plan import Cut, ExportPlan, Target, plan_export, target_of

RUN_ID = "01928a3b-4c5d-7e6f-8a9b-0c1d2e3f4a5b"
STARTED = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
COLUMNS = (
    Column(name="id", native_type="bigint", logical_type=LogicalType.INTEGER, arrow_type=pa.int64(), is_nullable=False),
    Column(name="name", native_type="text", logical_type=LogicalType.TEXT, arrow_type=pa.string()),
)


def target(source: dict[str, Any] | None = None, **export: Any) -> Target:
    values = {"name": "orders", "mode": "full", "format": "parquet"} | export
    if "query" not in values:
        values.setdefault("table", "shop.orders")
    loaded = read_config(
        {
            "source": {"type": "sqlite", "path": "s.db"} | (source or {}),
            "destination": {"type": "local", "path": "/out"},
            "exports": [values],
        },
        base_dir="/conf",
    )
    return target_of(loaded.config, loaded.config.exports[0], run_id=RUN_ID, started_at=STARTED)


def facts(rows: int | None = None, *, columns: tuple[Column, ...] = COLUMNS, **indexes: Any) -> Facts:
    return Facts(selection=Relation(table="orders"), columns=columns, indexes=Indexes(**indexes), row_estimate=rows)


def ranges(low: int, high: int, *, count: int, has_nulls: bool = False) -> Cut:
    key = (KeyPart(column="id", kind=KeyKind.INTEGER),)
    return Cut(chunks=Chunks(key=key, cuts=cut_integers("id", low, high, count=count), has_nulls=has_nulls))


def plan(rows: int | None = 1_000_000, *, chunk_count: int, **export: Any) -> ExportPlan:
    wanted = target(mode="chunked", **export)
    return plan_export(wanted, facts(rows), ranges(0, 999_999, count=chunk_count))


def test_a_unit_crosses_to_another_process_as_it_is() -> None:
    """E-32: every unit survives JSON, bounds beyond 64 bits included."""
    planned = plan_export(target(mode="chunked"), facts(), ranges(-(10**25), 10**25, count=3, has_nulls=True))

    units = [planned.unit(index) for index in range(len(planned.chunks))]

    assert len(units) == 4
    for unit in units:
        assert msgspec.json.decode(msgspec.json.encode(unit), type=WorkUnit) == unit


def test_selections_are_taken_apart() -> None:
    """E-12: `table` is a name, or schema and name; `query` is its text."""
    assert target(table="orders").selection == Relation(table="orders")
    assert target(table="shop.orders").selection == Relation(schema="shop", table="orders")
    assert target(query="select 1").selection == Query(text="select 1")


def test_limits_of_the_export_replace_those_of_the_source_one_by_one() -> None:
    """E-5: tuning is merged per value."""
    source = {"tuning": {"profile": "safe", "statement_timeout_s": 7, "batch_size": 5}}

    limits = target(source, tuning={"statement_timeout_s": 9, "batch_size_memory_mb": 1}).limits

    assert (limits.statement_timeout_s, limits.lock_timeout_s, limits.max_retries) == (9, 10, 10)
    assert (limits.batch_bytes, limits.batch_rows) == (MIB, 2_000)


def test_the_default_profile_follows_the_environment() -> None:
    """E-5: a local database may be worked hard, any other is treated with care."""
    assert target({"environment": "local"}).source.tuning.profile is TuningProfile.FAST
    assert target({"environment": "production"}).limits == target().limits
    assert target({"environment": "local", "tuning": {"profile": "safe"}}).source.tuning.profile is TuningProfile.SAFE
    assert Environment.REPLICA.value == "replica"


@pytest.mark.parametrize(
    ("export", "expected"),
    [
        ({}, (Compression.ZSTD, None)),
        ({"format": "csv"}, (Compression.NONE, None)),
        ({"format": "csv", "compression": "gzip", "compression_level": 9}, (Compression.GZIP, 9)),
        ({"compression_profile": "compact"}, (Compression.ZSTD, 9)),
        ({"compression_profile": "fast"}, (Compression.SNAPPY, None)),
    ],
)
def test_the_codec_is_decided(export: dict[str, Any], expected: tuple[Compression, int | None]) -> None:
    """E-24: defaults and profiles become a codec and a level."""
    options = target(**export).format

    assert (options.compression, options.compression_level) == expected
    assert options.format in Format


def test_a_size_limit_is_in_bytes() -> None:
    """E-24: `max_file_size` uses binary units."""
    assert target(max_file_size="2MB").format.max_file_bytes == 2 * MIB


@pytest.mark.parametrize(
    ("path", "resolved"),
    [
        ("/out", "/out/orders"),
        ("/out/", "/out/orders"),
        ("/out/{export}/{date}", "/out/orders/2026-03-04"),
        ("/out/{date}/{hour}", "/out/2026-03-04/05/orders"),
        ("/out/{table}", "/out/t_1/orders"),
        ("/out/{run_id}", f"/out/{RUN_ID}/orders"),
    ],
)
def test_placeholders_are_filled_in_and_every_export_has_its_directory(path: str, resolved: str) -> None:
    """E-41: date, hour, export, table, run; two exports never share a manifest."""
    config = target().destination
    config = msgspec.structs.replace(config, path=path)

    result, below = resolved_destination(
        config, export="orders", selection=Relation(table="t 1"), run_id=RUN_ID, started_at=STARTED
    )

    assert (result.path, below) == (resolved, "")


@pytest.mark.parametrize(
    ("path", "root", "below"),
    [
        ("/out", "/out/orders", ""),
        ("/out/{export}/{date}/{hour}/", "/out/orders", "2026-03-04/05/"),
        ("/out/{date}", "/out/orders", "2026-03-04/"),
        ("/out/{table}/x-{run_id}/y", "/out/t_1/orders", f"x-{RUN_ID}/y/"),
    ],
)
def test_the_manifest_of_a_set_that_grows_stays_in_one_place(path: str, root: str, below: str) -> None:
    """E-41, E-42: what differs from run to run is part of the names of parts, not of the manifest's place."""
    config = msgspec.structs.replace(target().destination, path=path)

    result = resolved_destination(
        config,
        export="orders",
        selection=Relation(table="t 1"),
        run_id=RUN_ID,
        started_at=STARTED,
        is_cumulative=True,
    )

    assert (result[0].path, result[1]) == (root, below)


def test_a_query_has_no_table_to_name() -> None:
    """E-41: `{table}` of a query is the export's name."""
    config = msgspec.structs.replace(target().destination, path="/o/{table}/{export}")

    result, _ = resolved_destination(
        config, export="orders", selection=Query(text="select 1"), run_id=RUN_ID, started_at=STARTED
    )

    assert result.path == "/o/orders/orders"


def test_part_names_follow_from_run_chunk_and_part() -> None:
    """E-41: the same unit done twice writes the same names; another run writes others."""
    stem = part_stem("orders", RUN_ID, 12)

    assert part_key(stem, 3, ".parquet") == "orders-0c1d2e3f4a5b-c00012-p003.parquet"
    assert short_run_id(RUN_ID) != short_run_id("01928a3b-4c5d-7e6f-8a9b-0c1d2e3f4a5c")


def test_longer_work_comes_first() -> None:
    """E-31: what is left, along the longest chain, decides; the unknown is not left for the end."""
    wide = plan(chunk_count=10)
    parallel = plan(chunk_count=10, parallel=5)
    unknown = plan(None, chunk_count=10)

    assert remaining_cost(wide, 10) == 5 * remaining_cost(parallel, 10)
    assert remaining_cost(wide, 5) < remaining_cost(wide, 10)
    assert remaining_cost(unknown, 10) > remaining_cost(wide, 10)


@given(
    rows=st.none() | st.integers(0, 10**9), row_group_mb=st.integers(1, 512), memory_mb=st.integers(MIN_MEMORY_MB, 4096)
)
def test_the_memory_estimate_of_a_unit_is_bounded_by_the_budget(
    rows: int | None, row_group_mb: int, memory_mb: int
) -> None:
    """E-30: no table and no setting is too large to be admitted; a small table asks for little."""
    planned = plan_export(
        target(parquet={"row_group_strategy": "fixed_memory", "target_row_group_mb": row_group_mb}),
        facts(rows),
    )
    memory_bytes = memory_mb * MIB

    size = unit_bytes(planned.unit(0), COLUMNS, memory_bytes)

    assert size <= data_bytes(memory_bytes) + 16 * MIB
    assert size <= UNIT_BYTES + 1.5 * row_group_mb * MIB
    if rows is not None and rows < 1_000:
        assert size <= UNIT_BYTES + MIB


@pytest.mark.parametrize("memory_mb", [MIN_MEMORY_MB, 256, 1024])
def test_two_units_fit_the_default_budget(memory_mb: int) -> None:
    """E-30: a process has room for its libraries and one unit whatever the budget, and for two units by default."""
    planned = plan_export(target(), facts(None))
    memory_bytes = memory_mb * MIB

    size = unit_bytes(planned.unit(0), COLUMNS, memory_bytes)

    assert size * (1 if memory_mb < 256 else 2) <= data_bytes(memory_bytes) + 2 * MIB
    assert data_bytes(memory_bytes) + PROCESS_BASE_BYTES == memory_bytes


def test_a_unit_of_a_wide_table_asks_for_what_its_columns_take() -> None:
    """E-30: a column costs memory however narrow it is, in either format."""
    wide = COLUMNS * (1_000 // len(COLUMNS))

    for file_format in ("parquet", "csv"):
        unit = plan_export(target(format=file_format), facts(None)).unit(0)
        more = unit_bytes(unit, wide, 256 * MIB) - unit_bytes(unit, COLUMNS, 256 * MIB)
        assert 12 * MIB < more < 20 * MIB


def test_row_groups_follow_from_settings_alone() -> None:
    """E-24, E-30: `auto` is 15 MiB with the default budget, and grows with it to 32 MiB; what was asked for is bounded, and said to be."""
    auto = target().format
    fixed = target(parquet={"row_group_strategy": "fixed_memory"}).format
    rows = target(parquet={"row_group_strategy": "fixed_rows", "row_group_rows": 1_000_000}).format

    assert [round(max_row_group_bytes(auto, mb * MIB) / MIB, 1) for mb in (128, 256, 4096)] == [3, 15, 32]
    assert [max_row_group_bytes(fixed, mb * MIB) / MIB for mb in (128, 256, 4096)] == [12, 60, 128]
    assert row_group_warning(auto, 100, 256 * MIB) is None
    assert "60 MiB, before the 128 MiB" in (row_group_warning(fixed, 100, 256 * MIB) or "")
    assert row_group_warning(fixed, 100, 1024 * MIB) is None
    assert row_group_warning(rows, 10, 256 * MIB) is None
    assert "memory_mb (256)" in (row_group_warning(rows, 1_000, 256 * MIB) or "")


def test_more_attempts_can_be_asked_for() -> None:
    """E-10: `chunk_max_attempts` replaces the profile's retries."""
    assert target().max_attempts == 4
    assert target(mode="chunked", chunk_max_attempts=2).max_attempts == 2


def test_only_the_first_chunk_shows_the_columns_of_an_export_without_rows() -> None:
    """E-43: readers of the published set find the schema in exactly one part, even without rows."""
    planned = plan(chunk_count=3)

    assert [planned.unit(index).writes_empty for index in range(3)] == [True, False, False]


def test_an_upload_counts_in_memory() -> None:
    """E-40: the blocks of an upload to a store are part of what a unit is admitted with."""
    unit = plan_export(target(), facts(None)).unit(0)
    there = DestinationConfig(type=DestinationType.S3, bucket="shop", prefix="orders")

    more = unit_bytes(msgspec.structs.replace(unit, destination=there), COLUMNS, 256 * MIB)

    assert more - unit_bytes(unit, COLUMNS, 256 * MIB) == UPLOAD_BYTES
