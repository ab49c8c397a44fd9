"""The translation of MySQL's binary rows, without a server."""

from __future__ import annotations

import struct

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymysql.constants import FIELD_TYPE

from procflow_export.sources.mysql.binary import TextRows
from procflow_export.sources.mysql.catalog import columns_of
from procflow_export.sources.mysql.decoder import PacketDecoder
from procflow_export.sources.mysql.packets import MAX_PAYLOAD, FramingError
from procflow_export.sources.mysql.types import WireField

UTF8 = 45


def field(name: str, code: int) -> WireField:
    return WireField(name=name, type_code=code, flags=0, charset=UTF8, length=12, decimals=31)


def packets(payload: bytes) -> bytes:
    data = b""
    while True:
        part, payload = payload[:MAX_PAYLOAD], payload[MAX_PAYLOAD:]
        data += len(part).to_bytes(3, "little") + b"\0" + part
        if len(part) < MAX_PAYLOAD:
            return data


def text(value: str) -> bytes:
    raw = value.encode()
    return (bytes((len(raw),)) if len(raw) < 251 else b"\xfe" + struct.pack("<Q", len(raw))) + raw


def row(values: list[float | None]) -> bytes:
    mask = sum(1 << index for index, value in enumerate(values, start=2) if value is None)
    cells = b"".join(struct.pack("<d", value) for value in values if value is not None)
    return packets(b"\0" + mask.to_bytes((len(values) + 9) // 8, "little") + cells)


@given(data=st.data(), width=st.integers(1, 20))
def test_every_number_and_null_is_exact(data: st.DataObject, width: int) -> None:
    """E-20: a number keeps all its bits, wherever in the mask its column stands."""
    numbers = st.none() | st.floats(allow_nan=False, allow_infinity=False)
    rows = data.draw(st.lists(st.lists(numbers, min_size=width, max_size=width), min_size=1, max_size=5))
    fields = [field(f"c{index}", FIELD_TYPE.DOUBLE) for index in range(width)]

    batch = PacketDecoder(columns_of(fields), binary=TextRows(fields)).decode(b"".join(map(row, rows)))

    found = [list(cells) for cells in zip(*(column.to_pylist() for column in batch.columns), strict=True)]
    assert repr(found) == repr(rows)  # repr tells -0.0 from 0.0


def test_rows_of_many_packets_are_whole() -> None:
    """E-23: a row that just fills its packets, or goes beyond them, arrives whole."""
    fields = [field("f", FIELD_TYPE.FLOAT), field("t", FIELD_TYPE.VAR_STRING)]
    head = b"\0\0" + struct.pack("<f", 0.5)
    texts = ["x" * (MAX_PAYLOAD - len(head) - 9 + extra) for extra in (-1, 0, 1)]
    block = b"".join(packets(head + text(value)) for value in texts)

    batch = PacketDecoder(columns_of(fields), binary=TextRows(fields)).decode(block)

    assert batch.column(0) == pa.array([0.5] * 3, pa.float32())
    assert batch.column(1).to_pylist() == texts


@given(cut=st.integers(0, 18), extra=st.binary(min_size=1, max_size=3))
def test_a_row_that_does_not_fill_its_packet_is_an_error(cut: int, extra: bytes) -> None:
    """E-23: a row too short or too long is an error of the protocol, never a value."""
    fields = [field("d", FIELD_TYPE.DOUBLE), field("t", FIELD_TYPE.VAR_STRING), field("at", FIELD_TYPE.DATETIME)]
    whole = b"\0\0" + struct.pack("<d", 1.5) + text("abc") + b"\x04" + struct.pack("<HBB", 2024, 2, 3)
    assert len(whole) == 19

    TextRows(fields).translate(packets(whole))
    for broken in (whole[:cut], whole + extra):
        with pytest.raises(FramingError):
            TextRows(fields).translate(packets(broken))
