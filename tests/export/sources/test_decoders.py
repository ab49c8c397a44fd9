"""The block decoders and the framing under them, without servers."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from procflow_export.model.types import Column, LogicalType
from procflow_export.sources.mysql.decoder import PacketDecoder, split_fields
from procflow_export.sources.mysql.packets import FramingError, ResultScanner, split_rows

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


def column(name: str, kind: LogicalType, arrow_type: pa.DataType) -> Column:
    return Column(name=name, native_type=kind.value, logical_type=kind, arrow_type=arrow_type)


# --- MySQL's packets ------------------------------------------------------------------------------------------------


def lenenc(value: bytes | None) -> bytes:
    if value is None:
        return b"\xfb"
    size = len(value)
    if size < 251:
        return bytes([size]) + value
    if size < 2**16:
        return b"\xfc" + size.to_bytes(2, "little") + value
    return b"\xfd" + size.to_bytes(3, "little") + value


def packets(rows: list[list[bytes | None]], *, sequence: int = 5) -> list[bytes]:
    result = []
    for row in rows:
        payload = b"".join(map(lenenc, row))
        result.append(len(payload).to_bytes(3, "little") + bytes([sequence % 256]) + payload)
        sequence += 1
    return result


EOF = b"\xfe\x00\x00\x02\x00"
FIELDS = (
    st.none()
    | st.binary(max_size=20)
    | st.sampled_from([b"x" * 250, b"x" * 251, b"\xfe" * 300, b"y" * 70_000, EOF, b"\x05\x00\x00\x07" + EOF])
)
ROWS = st.integers(1, 4).flatmap(
    lambda width: st.lists(st.lists(FIELDS, min_size=width, max_size=width), min_size=1, max_size=20)
)


@given(rows=ROWS)
def test_fields_are_exact(rows: list[list[bytes | None]]) -> None:
    """E-23: every field of every row, NULL and empty told apart."""
    fields = split_fields(b"".join(packets(rows)), len(rows[0]))

    assert [list(row) for row in zip(*(field.to_pylist() for field in fields), strict=True)] == rows


@given(rows=ROWS, data=st.data())
def test_scanner_lets_whole_rows_through_and_sees_the_end(rows: list[list[bytes | None]], data: st.DataObject) -> None:
    """E-23: rows come out whole and in order, wherever the bytes were cut, and the end is not taken for a row."""
    whole = packets(rows)
    ending = len(EOF).to_bytes(3, "little") + bytes([(5 + len(rows)) % 256]) + EOF
    wire = b"".join(whole) + ending
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=30)))
    boundaries = {sum(map(len, whole[:count])) for count in range(len(whole) + 1)}
    scanner = ResultScanner(5)
    out = b""

    for start, stop in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        out += scanner.feed(wire[start:stop]) if start < stop else b""
        assert len(out) in boundaries

    assert out == b"".join(whole)
    assert scanner.ending == EOF


def test_rows_of_several_packets_are_put_together() -> None:
    """E-23: a payload of exactly the largest packet goes on in the next one, which may be empty."""
    largest = 2**24 - 1
    for size in (largest, largest + 1, 2 * largest):
        value = b"z" * (size - 4)
        payload = b"\xfd" + len(value).to_bytes(3, "little") + value if len(value) < 2**24 else b""
        if not payload:
            value = b"z" * (size - 9)
            payload = b"\xfe" + len(value).to_bytes(8, "little") + value
        assert len(payload) == size
        parts = [payload[at : at + largest] for at in range(0, size + 1, largest)]
        wire = b"".join(len(part).to_bytes(3, "little") + bytes([number]) + part for number, part in enumerate(parts))
        end = len(EOF).to_bytes(3, "little") + bytes([len(parts)]) + EOF
        scanner = ResultScanner(0)

        out = b"".join(scanner.feed((wire + end)[at : at + 250_000]) for at in range(0, len(wire + end), 250_000))

        assert out == wire
        assert scanner.ending == EOF
        (field,) = split_fields(out, 1)
        assert field.to_pylist() == [value]


@given(noise=st.binary(min_size=1, max_size=200))
def test_noise_is_an_error_not_data(noise: bytes) -> None:
    """E-23: bytes that are no rows are refused, or happen to be rows exactly."""
    try:
        fields = split_fields(noise, 2)
    except FramingError:
        return
    data, starts, ends = split_rows(noise)
    again = [lenenc(a) + lenenc(b) for a, b in zip(fields[0].to_pylist(), fields[1].to_pylist(), strict=True)]
    for start, end, row in zip(starts, ends, again, strict=True):
        # A length may be spelled longer than it needs to be; the contents are what counts.
        assert end - start >= len(row)
    assert data


def test_packets_out_of_order_are_refused() -> None:
    """E-23: a lost packet is noticed."""
    scanner = ResultScanner(5)

    with pytest.raises(FramingError):
        scanner.feed(packets([[b"a"]], sequence=6)[0])


def test_packet_decoder_converts_by_column() -> None:
    """E-20: bits, truth values and instants have no text of their own."""
    decoder = PacketDecoder(
        [
            column("bits", LogicalType.BITS, pa.uint64()),
            column("flag", LogicalType.BOOL, pa.bool_()),
            column("at", LogicalType.INSTANT, pa.timestamp("us", "UTC")),
        ]
    )
    rows: list[list[bytes | None]] = [
        [b"\x01\xff", b"\x01", b"1970-01-01 00:00:00.5"],
        [None, None, None],
        [b"\x00\x00", b"\x00", None],
    ]

    batch = decoder.decode(b"".join(packets(rows)))

    assert batch[0].to_pylist() == [511, None, 0]
    assert batch[1].to_pylist() == [True, None, False]
    assert batch[2].cast(pa.int64()).to_pylist() == [500_000, None, None]
