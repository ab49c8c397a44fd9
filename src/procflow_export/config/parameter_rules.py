"""The rules of a query's parameters: every placeholder has a value, every value a placeholder, and every value fits the database.

Owns what can be told without a connection.
"""

from __future__ import annotations

import math
import re
from typing import Final

from procflow_export.config.document import KeyPath
from procflow_export.config.shape import Findings, nearest_name
from procflow_export.config.structs import ExportConfig
from procflow_export.model.plan import ParameterValue, Scalar
from procflow_export.model.settings import SourceType
from procflow_export.model.statements import placeholder_names

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SQLITE_INTEGERS: Final = range(-(2**63), 2**63)


def check_parameters(
    export: ExportConfig, path: KeyPath, engine: SourceType | None, query: str | None, findings: Findings
) -> None:
    """Check the parameters of one export against its query.

    Args:
        export: The export.
        path: Its place.
        engine: What reads it; ``None`` where that cannot be told.
        query: The text of its query or query file; ``None`` where there is none, or none that can be read.
        findings: Where to say it.
    """
    where = (*path, "parameters")
    if export.table is not None and export.parameters:
        findings.add(where, "'parameters' has no effect on a table", allowed="query, query_file")
        return
    for name, value in export.parameters.items():
        if not _NAME.fullmatch(name):
            findings.add((*where, name), "the name is none that a query can refer to", allowed="letters, digits and _")
        elif problem := _problem_of(value, engine):
            findings.add((*where, name), problem)
    if query is None or engine is None:
        return
    placeholders = placeholder_names(query, engine)
    for name in placeholders:
        if name not in export.parameters:
            findings.add(
                where,
                f"the placeholder :{name} of the query has no value",
                allowed=f"a value for {name!r}; a colon that is no placeholder has a space after it",
                nearest=nearest_name(name, export.parameters.keys() - set(placeholders)),
            )
    for name in export.parameters:
        if name not in placeholders and _NAME.fullmatch(name):
            findings.add(
                (*where, name),
                f"the query has no placeholder :{name}: the value has no effect",
                nearest=nearest_name(name, placeholders),
            )


def _problem_of(value: ParameterValue, engine: SourceType | None) -> str | None:
    if not isinstance(value, tuple):
        return _problem_of_one(value, engine)
    if not value:
        return "the list is empty: `IN ()` is no condition; leave it out of the query"
    if None in value:
        return "the list holds a null, which no value is equal to, nor unequal"
    return next((problem for item in value if (problem := _problem_of_one(item, engine))), None)


def _problem_of_one(value: Scalar, engine: SourceType | None) -> str | None:
    match value:
        case str() if "\0" in value:
            return "the text holds a NUL character"
        case str() if not _is_unicode(value):
            return "the text cannot be written as UTF-8"
        case float() if not math.isfinite(value):
            return "the number is not finite"
        case int() if engine is SourceType.SQLITE and value not in _SQLITE_INTEGERS:
            return "the number is beyond the integers of SQLite"
        case _:
            return None


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
