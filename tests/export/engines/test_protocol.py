"""The lines between a parent and its workers."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from procflow.record import Event, MalformedEventError, Unknown, stamped
from procflow_export.engines.protocol import (
    PROTOCOL,
    Cancel,
    Drain,
    Readers,
    ReadersAnswer,
    ReaderStep,
    Stamp,
    Work,
    WorkerReady,
    parent_codec,
    worker_codec,
)
from procflow_export.model.codes import Code
from procflow_export.model.destination import DestinationConfig, DestinationType
from procflow_export.model.errors import Failure
from procflow_export.model.events import Heartbeat, UnitFinished, UnitProgress, UnitStarted, UnitWarning
from procflow_export.model.plan import KeyRange, PartRecord, Relation, Snapshot, UnitResult, WorkUnit
from procflow_export.model.settings import (
    Format,
    FormatOptions,
    SourceConfig,
    SourceType,
)
from tests.export.engines.units import RUN_ID

GOLDEN = Path(__file__).parent / "golden"
UNIT = WorkUnit(
    run_id=RUN_ID,
    export="orders",
    index=3,
    selection=Relation(schema="public", table="orders"),
    chunk=KeyRange.of_integers("id", -5, 2**70),
    columns=b"\x00columns\xff",
    source=SourceConfig(type=SourceType.POSTGRES, url_env="DATABASE_URL"),
    format=FormatOptions(format=Format.PARQUET),
    destination=DestinationConfig(type=DestinationType.LOCAL, path="/data/orders"),
    part_stem="orders-0190a0b00000-c00003",
    batch_rows=10_000,
    row_estimate=250_000,
    attempt=2,
)
RESULT = UnitResult(
    index=3,
    parts=(PartRecord(key="orders-c00003-p000.parquet", row_count=7, size_bytes=512, checksum="sha256:00", chunk=3),),
    row_count=7,
    schema_fingerprint="sha256:11",
    elapsed_s=0.25,
    peak_rss_bytes=100_000_000,
    longest_statement_s=0.125,
    changed_values={"note": 2},
)
SNAPSHOT = Snapshot(name="0badcafe", is_joined=True)
FROM_PARENT: list[Event] = [
    Work(unit=UNIT),
    Cancel(),
    Drain(),
    Readers(step=ReaderStep.PREPARE, source=UNIT.source, snapshot=SNAPSHOT, count=2),
    Work(unit=msgspec.structs.replace(UNIT, snapshot=SNAPSHOT, keeps_connection=False)),
]
FROM_WORKER: list[Event] = [
    WorkerReady(protocol=PROTOCOL, pid=4711, release="0.1.0"),
    Heartbeat(peak_rss_bytes=50_000_000),
    UnitStarted(export="orders", chunk=3, attempt=2, pid=4711),
    UnitProgress(export="orders", chunk=3, row_count=5, size_bytes=100),
    UnitWarning(export="orders", chunk=3, code="X", message='quotes " and lines\nstay in one line'),
    UnitFinished(export="orders", chunk=3, result=RESULT),
    UnitFinished(export="orders", chunk=3, failure=Failure(code=Code.SOURCE_DENIED, message="no", notes=("a", "b"))),
    ReadersAnswer(step=ReaderStep.PREPARE, snapshot="0badcafe"),
    ReadersAnswer(step=ReaderStep.JOIN, snapshot="0badcafe", failure=Failure(code=Code.SOURCE_LOCKED, message="no")),
]


@pytest.mark.parametrize(
    ("name", "messages"), [("from_parent.ndjson", FROM_PARENT), ("from_worker.ndjson", FROM_WORKER)]
)
def test_the_wire_has_not_changed(name: str, messages: list[Event]) -> None:
    """E-32: versioned NDJSON, one event a line; what an older release wrote is what this one writes."""
    codec = parent_codec() if name == "from_parent.ndjson" else worker_codec()
    lines = b"".join(
        codec.encode(stamped(message, seq=number, at_ms=1_700_000_000_000 + number, mono_ns=number * 1000))
        for number, message in enumerate(messages)
    )

    assert lines == (GOLDEN / name).read_bytes()


@pytest.mark.parametrize(
    ("name", "messages"), [("from_parent.ndjson", FROM_PARENT), ("from_worker.ndjson", FROM_WORKER)]
)
def test_what_was_written_is_read(name: str, messages: list[Event]) -> None:
    codec = parent_codec() if name == "from_parent.ndjson" else worker_codec()

    for number, (line, message) in enumerate(zip((GOLDEN / name).read_bytes().splitlines(), messages, strict=True)):
        expected = stamped(message, seq=number, at_ms=1_700_000_000_000 + number, mono_ns=number * 1000)
        assert codec.decode(line) == expected


def test_a_newer_worker_may_say_more() -> None:
    """E-32: unknown fields are skipped and unknown types are kept, so that releases can talk to each other."""
    codec = worker_codec()
    more = codec.decode(b'{"type":"heartbeat","seq":1,"at_ms":2,"mono_ns":3,"mood":"good"}')
    other = codec.decode(b'{"type":"applause","seq":1,"at_ms":2,"mono_ns":3}')

    assert more == Heartbeat(seq=1, at_ms=2, mono_ns=3)
    assert isinstance(other, Unknown)
    assert other.head.type == "applause"


@pytest.mark.parametrize(
    "line", [b"", b"hello", b"[]", b"{}", b'{"type":"heartbeat","seq":"x"}', b"\xff\xfe", b"{" * 5000]
)
def test_noise_is_told_from_events(line: bytes) -> None:
    """E-32: a line that does not parse is recognised as one."""
    with pytest.raises(MalformedEventError):
        worker_codec().decode(line)


def test_every_message_is_numbered_and_timed() -> None:
    """E-32: sequence and time on every line."""
    stamp = Stamp()
    first, second = stamp(Cancel()), stamp(Cancel())

    assert (first.seq, second.seq) == (0, 1)
    assert 0 <= first.mono_ns <= second.mono_ns
    assert msgspec.to_builtins(first)["type"] == "cancel"
