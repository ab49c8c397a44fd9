"""Columns of any Arrow type as columns of text: the cell rules of CSV files and, inside lists, of JSON.

Owns what a value looks like as text (E-24; the table is in docs/reference/outputs.md).  Must not know about delimiters,
quoting, NULL text, files or options other than the float form.

The problem: a row writer that asks every cell for its type is fifty times slower than the decoders that feed it.  So
each function here takes one column and returns one ``large_string`` column with the same NULLs, by a handful of Arrow
kernels.  Arrow's own casts are used where they are right; the known places where they are not are corrected for exactly
the rows concerned: decimals in scientific notation, years beyond +-32767 (they print ``<value out of range>``), negative
times, floats with an exponent.

``large_string`` throughout: quoting doubles quotes, and a column of 2 GiB would overflow 32-bit offsets silently.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from typing import Final, TypeAlias

import numpy as np
import pyarrow as pa

from procflow_export.formats._arrow import Column, buffer_of, data_of, offsets_of
from procflow_export.formats._arrow import kernels as pc
from procflow_export.model.settings import CsvFloats

_Renderer: TypeAlias = Callable[[Column], Column]

TEXT: Final = pa.large_string()
_HEX_PAIRS: Final = np.frombuffer("".join(f"{byte:02x}" for byte in range(256)).encode(), dtype=np.uint8).reshape(
    256, 2
)
# Arrow's calendar is 16 bits wide; days of -32767-01-01 and 32767-12-31 counted from 1970-01-01.
_FIRST_ARROW_DAY: Final = -12_687_428
_LAST_ARROW_DAY: Final = 11_248_737
_DAYS_IN_400_YEARS: Final = 146_097
_UNITS_IN_SECOND: Final = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_DECIMALS: Final[dict[int, Callable[[int, int], pa.DataType]]] = {
    32: pa.decimal32,
    64: pa.decimal64,
    128: pa.decimal128,
    256: pa.decimal256,
}
_JSON_CONTROL: Final = r"[\x00-\x1f]"


class UnsupportedTypeError(TypeError):
    """This Arrow type has no text form."""


def renderer_for(arrow_type: pa.DataType, *, floats: CsvFloats) -> _Renderer:
    """Return the function that renders columns of ``arrow_type`` as text.

    Raises:
        UnsupportedTypeError: At once, before any row is read, when the type has no text form.
    """
    if isinstance(arrow_type, pa.UuidType):
        return _uuid_cells
    if isinstance(arrow_type, pa.BaseExtensionType):
        inner = renderer_for(arrow_type.storage_type, floats=floats)
        return lambda column: inner(column.storage)
    if pa.types.is_dictionary(arrow_type):
        inner = renderer_for(arrow_type.value_type, floats=floats)
        return lambda column: inner(column.dictionary_decode())
    if pa.types.is_floating(arrow_type):
        return lambda column: _float_cells(column, floats)
    if pa.types.is_nested(arrow_type):
        return _json_renderer(arrow_type)
    for belongs, render in _RENDERERS:
        if belongs(arrow_type):
            return render
    raise UnsupportedTypeError(f"{arrow_type} has no text form")


def _cast_cells(column: Column) -> Column:
    return column.cast(TEXT)


def _fix_rows(cells: Column, rows: Column, fix: Callable[[list[str]], list[str]]) -> Column:
    """Replace the text of the few ``rows`` (a mask without nulls) by what ``fix`` makes of it."""
    if not pc.any(rows).as_py():
        return cells
    return pc.replace_with_mask(cells, rows, pa.array(fix(cells.filter(rows).to_pylist()), TEXT))


def _rows_where(mask: Column) -> Column:
    return pc.fill_null(mask, pa.scalar(value=False))


def _float_cells(column: Column, floats: CsvFloats) -> Column:
    if pa.types.is_float16(column.type):
        column = column.cast(pa.float32())
    cells = column.cast(TEXT)
    nan_rows = _rows_where(pc.is_nan(column))
    cells = _fix_rows(cells, nan_rows, lambda texts: ["NaN"] * len(texts))
    if floats is CsvFloats.SHORTEST:
        return cells
    exponent_rows = _rows_where(pc.match_substring(cells, "e"))
    return _fix_rows(cells, exponent_rows, lambda texts: [format(Decimal(text), "f") for text in texts])


def _decimal_cells(column: Column) -> Column:
    """Exactly ``scale`` digits after the point, whatever the size: Arrow's cast would print ``0E-18``."""
    scale = column.type.scale
    whole_number = _DECIMALS[column.type.bit_width](column.type.precision, 0)
    unscaled = pa.Array.from_buffers(whole_number, len(column), column.buffers(), offset=column.offset)
    digits = unscaled.cast(TEXT)
    if scale == 0:
        return digits
    if scale < 0:
        zeros = "0" * -scale
        return pc.if_else(pc.equal(digits, "0"), digits, _wrapped("", digits, zeros))
    is_negative = pc.starts_with(digits, "-")
    sign = pc.if_else(is_negative, pa.scalar("-", TEXT), pa.scalar("", TEXT))
    padded = pc.utf8_lpad(pc.utf8_ltrim(digits, "-"), width=scale + 1, padding="0")
    whole = pc.utf8_slice_codeunits(padded, 0, -scale)
    fraction = pc.utf8_slice_codeunits(padded, -scale)
    point = pa.scalar(".", TEXT)
    return pc.binary_join_element_wise(sign, whole, point, fraction, pa.scalar("", TEXT))


def _hex_cells(column: Column) -> Column:
    if pa.types.is_fixed_size_binary(column.type):
        column = column.cast(pa.binary())
    column = column.cast(pa.large_binary())
    if len(column) == 0:
        return pa.array([], TEXT)
    offsets = offsets_of(column)
    raw = np.frombuffer(data_of(column), dtype=np.uint8)
    new_offsets = (offsets - offsets[0]) * 2
    buffers = [_compact_validity(column), buffer_of(new_offsets), buffer_of(_HEX_PAIRS[raw])]
    return pa.Array.from_buffers(TEXT, len(column), buffers)


def _compact_validity(column: Column) -> pa.Buffer | None:
    """The validity bitmap of ``column`` with its offset removed, or ``None`` without nulls."""
    if column.null_count == 0:
        return None
    bits = np.packbits(column.is_valid().to_numpy(zero_copy_only=False), bitorder="little")
    return buffer_of(bits)


def _uuid_cells(column: Column) -> Column:
    storage = column.storage
    if len(storage) == 0:
        return pa.array([], TEXT)
    raw = np.frombuffer(storage.buffers()[1], dtype=np.uint8)
    raw = raw[storage.offset * 16 : (storage.offset + len(storage)) * 16].reshape(-1, 16)
    text = np.full((len(storage), 36), ord("-"), dtype=np.uint8)
    start = 0
    for first, last in ((0, 4), (4, 6), (6, 8), (8, 10), (10, 16)):
        stop = start + 2 * (last - first)
        text[:, start:stop] = _HEX_PAIRS[raw[:, first:last]].reshape(len(storage), -1)
        start = stop + 1
    offsets = np.arange(len(storage) + 1, dtype=np.int64) * 36
    buffers = [_compact_validity(storage), buffer_of(offsets), buffer_of(text)]
    return pa.Array.from_buffers(TEXT, len(storage), buffers)


def iso_date(day: int) -> str:
    """The proleptic Gregorian date ``day`` days after 1970-01-01, for any integer; year 0 is 1 BC."""
    cycles, rest = divmod(day + 719_162, _DAYS_IN_400_YEARS)  # 0001-01-01 is day 0 of a 400-year cycle
    in_cycle = date(1, 1, 1) + timedelta(days=rest)
    year = in_cycle.year + 400 * cycles
    return f"{'-' if year < 0 else ''}{abs(year):04d}-{in_cycle.month:02d}-{in_cycle.day:02d}"


def _far_days(days: Column) -> Column:
    return _rows_where(pc.or_(pc.less(days, _FIRST_ARROW_DAY), pc.greater(days, _LAST_ARROW_DAY)))


def _date_cells(column: Column) -> Column:
    if pa.types.is_date64(column.type):
        column = column.cast(pa.date32())
    cells = column.cast(TEXT)
    days = column.view(pa.int32())
    far_rows = _far_days(days)
    return _fix_rows(cells, far_rows, lambda _: [iso_date(day) for day in days.filter(far_rows).to_pylist()])


def _timestamp_cells(column: Column) -> Column:
    """``2024-02-29T12:34:56.000000`` and, for instants, ``Z``: six digits, nine for nanosecond columns."""
    unit, is_instant = column.type.unit, column.type.tz is not None
    if unit in ("s", "ms"):  # the fraction always has six digits
        return _seconds_cells(column, is_instant=is_instant)
    ticks = column.view(pa.int64())
    naive = column.view(pa.timestamp(unit))  # an instant is stored as UTC: printing it naive prints UTC
    cells = pc.replace_substring(naive.cast(TEXT), " ", "T", max_replacements=1)
    if unit == "us":
        low, high = _FIRST_ARROW_DAY * 86_400_000_000, (_LAST_ARROW_DAY + 1) * 86_400_000_000
        far_rows = _rows_where(pc.or_(pc.less(ticks, low), pc.greater_equal(ticks, high)))
        cells = _fix_rows(cells, far_rows, lambda _: [_iso_micros(t) for t in ticks.filter(far_rows).to_pylist()])
    return pc.binary_join_element_wise(cells, pa.scalar("Z", TEXT), pa.scalar("", TEXT)) if is_instant else cells


def _iso_micros(ticks: int) -> str:
    day, micros = divmod(ticks, 86_400_000_000)
    seconds, micros = divmod(micros, 1_000_000)
    return f"{iso_date(day)}T{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{micros:06d}"


def _seconds_cells(column: Column, *, is_instant: bool) -> Column:
    per_second = _UNITS_IN_SECOND[column.type.unit]
    suffix = "Z" if is_instant else ""
    ticks = column.view(pa.int64())
    limit = 9_200_000_000_000_000_000 // 1_000_000 * per_second
    if pc.all(pc.less(pc.abs(ticks), limit)).as_py() is not False:
        micros = pc.multiply(ticks, 1_000_000 // per_second)
        return _timestamp_cells(micros.view(pa.timestamp("us", "UTC") if is_instant else pa.timestamp("us")))
    texts = [None if t is None else _iso_micros(t * (1_000_000 // per_second)) + suffix for t in ticks.to_pylist()]
    return pa.array(texts, TEXT)


def _clock_cells(column: Column) -> Column:
    """Times and durations as ``[-]HH:MM:SS.ffffff``; hours have two digits or as many as they need."""
    unit = column.type.unit
    width = 9 if unit == "ns" else 6
    ticks = column.view(pa.int32() if column.type.bit_width == 32 else pa.int64())
    is_valid = ticks.is_valid().to_numpy(zero_copy_only=False)
    values = ticks.fill_null(0).cast(pa.int64()).to_numpy()
    magnitude = np.abs(values).view(np.uint64)  # |-2**63| wraps to itself, which as unsigned is right
    per_second = np.uint64(_UNITS_IN_SECOND[unit])
    seconds, ticks_left = magnitude // per_second, magnitude % per_second
    fraction = ticks_left * np.uint64(10**width // _UNITS_IN_SECOND[unit])
    sixty = np.uint64(60)
    sign = pa.array(np.where(values < 0, "-", ""), TEXT)
    parts = [
        _padded(seconds // np.uint64(3600), 2),
        _padded(seconds // sixty % sixty, 2),
        pc.binary_join_element_wise(_padded(seconds % sixty, 2), _padded(fraction, width), pa.scalar(".", TEXT)),
    ]
    clock = pc.binary_join_element_wise(*parts, pa.scalar(":", TEXT))
    cells = pc.binary_join_element_wise(sign, clock, pa.scalar("", TEXT))
    return cells if is_valid.all() else pc.if_else(pa.array(is_valid), cells, pa.scalar(None, TEXT))


def _padded(values: np.ndarray[tuple[int], np.dtype[np.uint64]], width: int) -> Column:
    return pc.utf8_lpad(pa.array(values).cast(TEXT), width=width, padding="0")


def _interval_cells(column: Column) -> Column:
    """ISO 8601 as ``P1Y2M3DT4H5M6.7S``; each of the three parts (months, days, time) carries its own sign."""
    return pa.array([None if value is None else _iso_interval(*value) for value in column.to_pylist()], TEXT)


def _iso_interval(months: int, days: int, nanoseconds: int) -> str:
    text = "P"
    years, months_left = divmod(abs(months), 12)
    sign = "-" if months < 0 else ""
    text += f"{sign}{years}Y" * bool(years) + f"{sign}{months_left}M" * bool(months_left) + f"{days}D" * bool(days)
    if nanoseconds:
        sign = "-" if nanoseconds < 0 else ""
        seconds, rest = divmod(abs(nanoseconds), 1_000_000_000)
        hours, minutes, seconds = seconds // 3600, seconds // 60 % 60, seconds % 60
        fraction = f".{rest:09d}".rstrip("0") if rest else ""
        text += "T" + f"{sign}{hours}H" * bool(hours) + f"{sign}{minutes}M" * bool(minutes)
        text += f"{sign}{seconds}{fraction}S" * bool(seconds or rest)
    return text if text != "P" else "PT0S"


_RENDERERS: Final[tuple[tuple[Callable[[pa.DataType], bool], _Renderer], ...]] = (
    (pa.types.is_integer, _cast_cells),
    (pa.types.is_boolean, _cast_cells),
    (pa.types.is_string, _cast_cells),
    (pa.types.is_large_string, _cast_cells),
    (pa.types.is_string_view, _cast_cells),
    (pa.types.is_null, _cast_cells),
    (pa.types.is_decimal, _decimal_cells),
    (pa.types.is_fixed_size_binary, _hex_cells),
    (pa.types.is_binary, _hex_cells),
    (pa.types.is_large_binary, _hex_cells),
    (pa.types.is_date, _date_cells),
    (pa.types.is_timestamp, _timestamp_cells),
    (pa.types.is_time, _clock_cells),
    (pa.types.is_duration, _clock_cells),
    (pa.types.is_interval, _interval_cells),
)


# JSON of nested values


def _json_renderer(arrow_type: pa.DataType) -> _Renderer:
    """Return the function that renders a column of ``arrow_type`` as JSON text; NULL stays NULL at the top level.

    Numbers and booleans are bare; everything else is a string in the same form as a CSV cell.  Decimals are strings,
    too: most JSON readers make a float of a number.  NaN and infinities are strings for want of a JSON number.
    """
    types = pa.types
    if types.is_list(arrow_type) or types.is_large_list(arrow_type) or types.is_fixed_size_list(arrow_type):
        element = _json_renderer(arrow_type.value_type)
        return lambda column: _json_list(column, element)
    if types.is_map(arrow_type):
        key, item = renderer_for(arrow_type.key_type, floats=CsvFloats.SHORTEST), _json_renderer(arrow_type.item_type)
        return lambda column: _json_map(column, key, item)
    if types.is_struct(arrow_type):
        fields = [arrow_type.field(i) for i in range(arrow_type.num_fields)]
        members = [(json.dumps(field.name, ensure_ascii=False), _json_renderer(field.type)) for field in fields]
        return lambda column: _json_struct(column, members)
    if types.is_nested(arrow_type):
        raise UnsupportedTypeError(f"{arrow_type} has no text form")
    plain = renderer_for(arrow_type, floats=CsvFloats.SHORTEST)
    if types.is_integer(arrow_type) or types.is_boolean(arrow_type):
        return plain
    if types.is_floating(arrow_type):
        return lambda column: _json_floats(plain(column))
    return lambda column: _json_strings(plain(column))


def _json_strings(texts: Column) -> Column:
    escaped = pc.replace_substring(pc.replace_substring(texts, "\\", "\\\\"), '"', '\\"')
    control_rows = _rows_where(pc.match_substring_regex(texts, _JSON_CONTROL))
    if pc.any(control_rows).as_py():
        fixed = [json.dumps(text, ensure_ascii=False)[1:-1] for text in texts.filter(control_rows).to_pylist()]
        escaped = pc.replace_with_mask(escaped, control_rows, pa.array(fixed, TEXT))
    quote = pa.scalar('"', TEXT)
    return pc.binary_join_element_wise(quote, escaped, quote, pa.scalar("", TEXT))


def _json_floats(texts: Column) -> Column:
    odd_rows = _rows_where(pc.match_substring_regex(texts, "[Ni]"))
    return _fix_rows(texts, odd_rows, lambda odd: [f'"{text}"' for text in odd])


def _json_null(texts: Column) -> Column:
    return pc.fill_null(texts, pa.scalar("null", TEXT))


def _wrapped(before: str, texts: Column, after: str) -> Column:
    return pc.binary_join_element_wise(pa.scalar(before, TEXT), texts, pa.scalar(after, TEXT), pa.scalar("", TEXT))


def _joined(column: Column, lengths: Column, items: Column) -> Column:
    """Join ``items``, ``lengths[i]`` of them for row ``i``, with commas; NULL where ``column`` is."""
    counts = lengths.fill_null(0).cast(pa.int64()).to_numpy()
    offsets = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(counts, out=offsets[1:])
    lists = pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), items)
    joined = pc.binary_join(lists, pa.scalar(",", TEXT))
    if column.null_count == 0:
        return joined
    return pc.if_else(column.is_valid(), joined, pa.scalar(None, TEXT))


def _json_list(column: Column, element: _Renderer) -> Column:
    items = _json_null(element(column.flatten()))  # flatten() skips what lies under NULL lists
    return _wrapped("[", _joined(column, pc.list_value_length(column), items), "]")


def _json_map(column: Column, key: _Renderer, item: _Renderer) -> Column:
    entries = column.cast(pa.list_(pa.struct([("key", column.type.key_type), ("value", column.type.item_type)])))
    flat = entries.flatten()
    keys, items = _json_strings(key(flat.field(0))), _json_null(item(flat.field(1)))
    pairs = pc.binary_join_element_wise(keys, items, pa.scalar(":", TEXT))
    return _wrapped("{", _joined(entries, pc.list_value_length(entries), pairs), "}")


def _json_struct(column: Column, members: list[tuple[str, _Renderer]]) -> Column:
    columns = column.flatten()
    pairs = [
        _wrapped(f"{name}:", _json_null(render(values)), "")
        for (name, render), values in zip(members, columns, strict=True)
    ]
    body = pc.binary_join_element_wise(*pairs, pa.scalar(",", TEXT)) if pairs else pa.array([""] * len(column), TEXT)
    wrapped = _wrapped("{", body, "}")
    if column.null_count == 0:
        return wrapped
    return pc.if_else(column.is_valid(), wrapped, pa.scalar(None, TEXT))
