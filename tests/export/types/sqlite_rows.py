"""The declared types of SQLite, which stores any value in any column."""

from __future__ import annotations

import math
from typing import Any, Final

import pyarrow as pa

from procflow_export.model.types import Fidelity, LogicalType
from tests.export.types.rows import Misfit, TypeRow

TEXTS: Final = (
    "",
    " ",
    "NULL",
    r"\N",
    'a\nb\r\n\t"\\,',
    "é😀",
    "שלום עולם",
    "\ufeffmark",
    "\x01\x1f",
    "=1+1",
    "x" * 70_000,
)


def _row(
    native: str,
    arrow_type: pa.DataType,
    logical_type: LogicalType,
    *literals: Any,
    fidelity: Fidelity = Fidelity.COMPATIBLE,
    misfits: tuple[Misfit, ...] = (),
    shown: str = "",
    notes: str = "",
) -> TypeRow:
    return TypeRow(
        native=native,
        literals=literals,
        arrow_type=arrow_type,
        logical_type=logical_type,
        fidelity=fidelity,
        misfits=misfits,
        shown=shown,
        notes=notes,
    )


ROWS: Final = (
    _row(
        "INTEGER",
        pa.int64(),
        LogicalType.INTEGER,
        -(2**63),
        2**63 - 1,
        "12",
        fidelity=Fidelity.EXACT,
        shown="with INT in its name",
        misfits=(
            Misfit(literal="abc", text="abc"),
            Misfit(literal=1.5, text="1.5", clamped="2"),
            Misfit(literal=1e300, text="1e+300", clamped=str(2**63 - 1)),
            Misfit(literal=b"\x01", text="01"),
        ),
    ),
    _row(
        "REAL",
        pa.float64(),
        LogicalType.FLOAT,
        0.1,
        1.7976931348623157e308,
        5e-324,
        -0.0,
        math.inf,
        -math.inf,
        7,
        fidelity=Fidelity.EXACT,
        shown="with REAL, FLOA or DOUB in its name",
        notes="whole numbers too, which a float holds",
        misfits=(Misfit(literal="abc", text="abc"),),
    ),
    _row(
        "TEXT",
        pa.string(),
        LogicalType.TEXT,
        *TEXTS,
        5,
        fidelity=Fidelity.EXACT,
        shown="with CHAR, CLOB or TEXT in its name",
        misfits=(Misfit(literal=b"bytes", text="6279746573"),),
    ),
    _row(
        "BLOB",
        pa.binary(),
        LogicalType.BYTES,
        b"",
        b"\x00\xff",
        b"\x00" * 70_000,
        fidelity=Fidelity.EXACT,
        shown="with BLOB in its name",
        misfits=(Misfit(literal="text", text="text"),),
    ),
    _row(
        "BOOLEAN",
        pa.bool_(),
        LogicalType.BOOL,
        0,
        1,
        shown="BOOLEAN, BOOL",
        misfits=(Misfit(literal=2, text="2"),),
    ),
    _row(
        "DECIMAL(10,2)",
        pa.decimal128(10, 2),
        LogicalType.DECIMAL,
        12.34,
        5,
        -0.01,
        "99999999.99",
        shown="DECIMAL(p,s), NUMERIC(p,s), p ≤ 38",
        notes="SQLite stores 12.34 as a binary real; its shortest decimal form counts",
        misfits=(
            Misfit(literal=1.005, text="1.005", clamped="1.00"),
            Misfit(literal=123456789012, text="123456789012", clamped="99999999.99"),
            Misfit(literal="many", text="many"),
        ),
    ),
    _row("DECIMAL(60,1)", pa.decimal256(60, 1), LogicalType.DECIMAL, 1.5, shown="DECIMAL(p,s), p ≤ 76"),
    _row(
        "DATE",
        pa.date32(),
        LogicalType.DATE,
        "0001-01-01",
        "9999-12-31",
        "1969-12-31",
        notes="`YYYY-MM-DD`",
        misfits=(
            Misfit(literal="2024-02-30", text="2024-02-30"),
            Misfit(literal="0000-00-00", text="0000-00-00"),
            Misfit(literal=1_700_000_000, text="1700000000"),
        ),
    ),
    _row(
        "DATETIME",
        pa.timestamp("us"),
        LogicalType.TIMESTAMP,
        "2024-01-02 03:04:05",
        "2024-01-02T03:04:05.123456",
        "2024-01-02",
        "1969-12-31 23:59:59.5",
        shown="DATETIME, TIMESTAMP",
        notes="`YYYY-MM-DD`, then optionally a space or `T` and `HH:MM[:SS[.ffffff]]`",
        misfits=(
            Misfit(literal="2024-01-02 03:04:05Z", text="2024-01-02 03:04:05Z"),
            Misfit(literal="tomorrow", text="tomorrow"),
            Misfit(
                literal="2024-01-02 03:04:05.1234567",
                text="2024-01-02 03:04:05.1234567",
                clamped="2024-01-02 03:04:05.123456",
            ),
        ),
    ),
    _row(
        "TIME",
        pa.time64("us"),
        LogicalType.TIME,
        "23:59:59.999999",
        "12:00",
        notes="`HH:MM[:SS[.ffffff]]`",
        misfits=(Misfit(literal="24:00:00", text="24:00:00", clamped="23:59:59.999999"),),
    ),
    _row(
        "JSON",
        pa.json_(),
        LogicalType.JSON,
        '{"a": 1}',
        "null",
        '"0"',
        "0",
        "-1.5e10",
        misfits=(
            Misfit(literal="{", text="{"),
            Misfit(literal="NaN", text="NaN"),
            Misfit(literal=math.inf, text="inf"),
        ),
    ),
    _row(
        "NUMERIC",
        pa.string(),
        LogicalType.OTHER,
        1,
        1.5,
        "abc",
        1e300,
        fidelity=Fidelity.TEXT,
        shown="any other",
        notes="numbers and texts, as text",
        misfits=(Misfit(literal=b"\xff", text="ff"),),
    ),
    _row("", pa.int64(), LogicalType.INTEGER, 1, 2, fidelity=Fidelity.EXACT, shown="none, all values whole numbers"),
    _row("", pa.float64(), LogicalType.FLOAT, 1, 2.5, fidelity=Fidelity.EXACT, shown="none, all values numbers"),
    _row("", pa.string(), LogicalType.TEXT, "a", "b", fidelity=Fidelity.EXACT, shown="none, all values texts"),
    _row("", pa.string(), LogicalType.OTHER, "a", 1, fidelity=Fidelity.TEXT, shown="none, numbers and texts mixed"),
    _row("", pa.binary(), LogicalType.BYTES, b"\x00", fidelity=Fidelity.EXACT, shown="none, all values bytes"),
)
