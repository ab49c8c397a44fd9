"""What every key of a configuration means, taken from the structs: JSON Schema, and the tables of the reference page.

Owns the reading of the structs' docstrings, so that a key is described in one place.
"""

from __future__ import annotations

import inspect
import re
from enum import Enum
from typing import Annotated, Final, Union, get_args, get_origin, get_type_hints

import msgspec

from procflow_export.config.dialect import LATER, LATER_VALUES
from procflow_export.config.structs import ColumnConfig, Config, ExportConfig, Settle
from procflow_export.model.destination import DestinationConfig
from procflow_export.model.settings import (
    CsvOptions,
    ParquetOptions,
    SourceConfig,
    TlsConfig,
    Tuning,
)

SECTIONS: Final[tuple[tuple[str, type[msgspec.Struct]], ...]] = (
    ("Top level", Config),
    ("`source`, `sources.<name>`", SourceConfig),
    ("`source.tls`", TlsConfig),
    ("`source.tuning`, `exports[].tuning`", Tuning),
    ("`exports[]`", ExportConfig),
    ("`exports[].columns.<name>`", ColumnConfig),
    ("`exports[].settle`", Settle),
    ("`exports[].parquet`", ParquetOptions),
    ("`exports[].csv`", CsvOptions),
    ("`destination`, `exports[].destination`", DestinationConfig),
)
_ATTRIBUTE: Final = re.compile(r"^(\w+): (.*)$")


def json_schema() -> dict[str, object]:
    """Return the JSON Schema of a configuration, with the meaning of every key as its description."""
    (reference,), components = msgspec.json.schema_components([Config], ref_template="#/$defs/{name}")
    for struct in (struct for _, struct in SECTIONS):
        schema = components[struct.__name__]
        schema["description"] = _summary(struct)
        meanings = attribute_meanings(struct)
        for key, value in schema.get("properties", {}).items():
            meaning = meanings[key].replace("``", "`")
            # What stands beside "$ref" is ignored by older readers of schemas.
            schema["properties"][key] = {**value, "description": meaning}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **reference, "$defs": components}


def key_tables() -> str:
    """Return one table of keys for every section of a configuration, as Markdown."""
    parts = []
    for title, struct in SECTIONS:
        hints = get_type_hints(struct, include_extras=True)
        meanings = attribute_meanings(struct)
        rows = [
            f"| `{field.encode_name}` | {_type_text(hints[field.name])} | {_default_text(field)} "
            f"| {meanings[field.name].replace('``', '`')} |"
            for field in msgspec.structs.fields(struct)
        ]
        parts.append("\n".join([f"### {title}", "", "| Key | Value | Default | Meaning |", "|---|---|---|---|", *rows]))
    return "\n\n".join(parts) + "\n"


def later_table() -> str:
    """Return the keys and values that a later release will know, as Markdown."""
    titles = {struct.__name__: title for title, struct in SECTIONS}
    rows = [
        f"| {titles[name]} | {', '.join(f'`{key}`' for key in keys)} |"
        for name, keys in LATER.items()
        if name in titles
    ]
    values = [
        f"| {titles[name]}, values of `{key}` | {', '.join(f'`{value}`' for value in sorted(known))} |"
        for (name, key), known in LATER_VALUES.items()
    ]
    return "\n".join(["| Where | What |", "|---|---|", *rows, *values]) + "\n"


def attribute_meanings(struct: type[msgspec.Struct]) -> dict[str, str]:
    """Return what the docstring of ``struct`` says of each field."""
    _, _, text = inspect.cleandoc(struct.__doc__ or "").partition("Attributes:\n")
    meanings: dict[str, str] = {}
    name = ""
    for line in inspect.cleandoc(text).splitlines():
        if found := _ATTRIBUTE.match(line):
            name = found[1]
            meanings[name] = found[2]
        elif name and line.strip():
            meanings[name] += f" {line.strip()}"
    return meanings


def _summary(struct: type[msgspec.Struct]) -> str:
    return inspect.cleandoc(struct.__doc__ or "").split("\n\n")[0].replace("\n", " ").replace("``", "`")


def _type_text(hint: object) -> str:
    origin = get_origin(hint)
    if origin is Annotated:
        base, *metas = get_args(hint)
        meta = next(item for item in metas if isinstance(item, msgspec.Meta))
        return f"{meta.ge} to {meta.le}" if meta.le is not None else f"{_type_text(base)} ≥ {meta.ge}"
    if origin is list:
        return "list"
    if origin is dict:
        return "mapping by name"
    if origin is Union or isinstance(hint, type(int | str)):
        return " or ".join(_type_text(arg) for arg in get_args(hint) if arg is not type(None))
    if isinstance(hint, type) and issubclass(hint, Enum):
        return ", ".join(f"`{member.value}`" for member in hint)
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return "mapping"
    return {str: "text", int: "whole number", bool: "`true`, `false`"}[hint]  # type: ignore[index]  # fails in a test


def _default_text(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "**required**"
    value = field.default
    if value is msgspec.NODEFAULT or value is None or isinstance(value, msgspec.Struct):
        return "–"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, str):
        text = value.value if isinstance(value, Enum) else value
        return f"`{text}`" if text else "empty"
    return f"`{value}`"
