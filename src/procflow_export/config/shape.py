"""From plain values to structs, with every finding at once.

Owns the walk: each value is checked against the type of its field on its own, because a decoder stops at the first
mistake.  Knows structs only through their annotations; the tables of ``config.dialect`` say what unknown keys mean.
"""

from __future__ import annotations

import difflib
import json
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Final, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from procflow_export.config.dialect import LATER, LATER_VALUES, SECRET_KEYS, WRONG_LEVEL
from procflow_export.config.document import Document, KeyPath, path_text
from procflow_export.model.codes import Code
from procflow_export.model.errors import Finding, Severity
from procflow_export.model.masks import MASK
from procflow_export.model.secrets import is_secret_name

if TYPE_CHECKING:
    from typing_extensions import TypeIs

_MISSING: Final = object()
_MAX_SHOWN_CHARS: Final = 60
S = TypeVar("S", bound=msgspec.Struct)


@dataclass(slots=True, eq=False)
class Findings:
    """Collects what is wrong, with the place of each.

    Attributes:
        document: Where the values came from.
        raw: Values before interpolation, by path: what may be shown of them.
        items: What was found so far.
    """

    document: Document
    raw: Mapping[KeyPath, str] = field(default_factory=dict)
    items: list[Finding] = field(default_factory=list)

    def add(
        self,
        path: KeyPath,
        message: str,
        *,
        found: object = _MISSING,
        allowed: str | None = None,
        nearest: str | None = None,
        severity: Severity = Severity.ERROR,
        code: Code = Code.CONFIG_INVALID,
    ) -> None:
        """Remember one finding at ``path``."""
        self.items.append(
            Finding(
                message=message,
                key=path_text(path),
                file=self.document.file,
                line=self.document.line(path),
                found=None if found is _MISSING else self._shown(path, found),
                allowed=allowed,
                nearest=nearest,
                severity=severity,
                code=code,
            )
        )

    def _shown(self, path: KeyPath, value: object) -> str:
        if path and (path[-1] in SECRET_KEYS or _is_secret_parameter(path)):
            return MASK
        if path in self.raw:
            return repr(self.raw[path])  # the reference, never the value behind it
        if isinstance(value, Mapping):
            return "a mapping"
        if isinstance(value, list):
            return "a list"
        text = json.dumps(value) if value is None or isinstance(value, bool) else repr(value)
        return text if len(text) <= _MAX_SHOWN_CHARS else text[: _MAX_SHOWN_CHARS - 1] + "…"


def read_struct(
    cls: type[S],
    value: object,
    path: KeyPath,
    findings: Findings,
    *,
    stand_ins: Mapping[str, object] | None = None,
) -> S | None:
    """Return ``value`` as ``cls``, or None when anything in it is wrong; every mistake becomes a finding.

    With ``stand_ins``, what is wrong is left out of the struct, and a required field takes its stand-in, so that the
    rules can look at the rest; None then means that a required field has none.
    """
    if not isinstance(value, Mapping):
        findings.add(path, f"{_label(path)} must be a mapping", found=value, allowed=", ".join(cls.__struct_fields__))
        return None
    count = _error_count(findings)
    fields = {item.encode_name: item for item in msgspec.structs.fields(cls)}
    hints = get_type_hints(cls, include_extras=True)
    values: dict[str, object] = {}
    for key, item in value.items():
        if key not in fields:
            _unknown_key(cls, key, item, (*path, key), fields, findings)
            continue
        parsed = _read(hints[fields[key].name], item, (*path, key), findings, cls)
        if parsed is not _MISSING:
            values[fields[key].name] = parsed
    if stand_ins is not None:
        values = {**stand_ins, **values}
        return cls(**values) if all(item.name in values for item in fields.values() if item.required) else None
    for key, field_info in fields.items():
        if field_info.required and key not in value:
            findings.add((*path, key), "the key is missing", allowed=_allowed(hints[field_info.name]))
    return cls(**values) if _error_count(findings) == count else None


def nearest_name(name: object, known: Iterable[str]) -> str | None:
    """Return the name in ``known`` that ``name`` was probably meant to be."""
    names = {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(str(name).lower(), names, n=1, cutoff=0.6)
    return names[close[0]] if close else None


def _read(hint: object, value: object, path: KeyPath, findings: Findings, owner: type[msgspec.Struct]) -> object:
    """Return ``value`` as the annotated type, or ``_MISSING`` after adding findings."""
    options = _options(hint)
    if value is None and type(None) in options:
        return None
    for option in options:
        # Where a text may stand for the struct, only a mapping is meant as one.
        if _is_struct(option) and (str not in options or isinstance(value, Mapping)):
            parsed = read_struct(option, value, path, findings)
            return _MISSING if parsed is None else parsed
    container = next((option for option in options if get_origin(option) in (list, dict)), None)
    is_one_value = str in options and not isinstance(value, (list, Mapping))  # `key: a` beside `key: [a, b]`
    if container is not None and not is_one_value:
        return _read_container(container, value, path, findings, owner)
    try:
        # A value from the environment is always text: "5432" may stand for a number, where a number is wanted.
        return msgspec.convert(value, hint, strict=path not in findings.raw)
    except msgspec.ValidationError:
        _wrong_value(hint, value, path, findings, owner)
        return _MISSING


def _read_container(
    hint: object, value: object, path: KeyPath, findings: Findings, owner: type[msgspec.Struct]
) -> object:
    *_, item_hint = get_args(hint)
    if get_origin(hint) is list:
        if not isinstance(value, list):
            findings.add(path, f"{_label(path)} must be a list", found=value)
            return _MISSING
        items = [_read(item_hint, item, (*path, index), findings, owner) for index, item in enumerate(value)]
        return _MISSING if any(item is _MISSING for item in items) else items
    if not isinstance(value, Mapping):
        findings.add(path, f"{_label(path)} must be a mapping from names", found=value)
        return _MISSING
    named = {name: _read(item_hint, item, (*path, name), findings, owner) for name, item in value.items()}
    # What is wrong in one of them hides nothing of the others from the rules.
    return {name: item for name, item in named.items() if item is not _MISSING}


def _wrong_value(hint: object, value: object, path: KeyPath, findings: Findings, owner: type[msgspec.Struct]) -> None:
    if isinstance(value, str) and value in LATER_VALUES.get((owner.__name__, str(path[-1])), ()):
        findings.add(
            path,
            "the value is not supported yet",
            found=value,
            allowed=_allowed(hint),
            code=Code.CONFIG_NOT_SUPPORTED,
        )
        return
    enum = next((option for option in _options(hint) if isinstance(option, type) and issubclass(option, Enum)), None)
    if value is None and enum is not None and "null" in [member.value for member in enum]:
        findings.add(path, 'a bare null means that nothing is there: write "null", in quotes', found=None)
        return
    nearest = None if enum is None else nearest_name(value, [str(member.value) for member in enum])
    findings.add(path, f"the value of {_label(path)} is wrong", found=value, allowed=_allowed(hint), nearest=nearest)


def _unknown_key(
    cls: type[msgspec.Struct],
    key: str,
    value: object,
    path: KeyPath,
    fields: Iterable[str],
    findings: Findings,
) -> None:
    later = LATER.get(cls.__name__, {})
    if key in later:
        if value is None or (value == later[key] and isinstance(value, bool) == isinstance(later[key], bool)):
            return
        findings.add(path, f"{key!r} is not supported yet", code=Code.CONFIG_NOT_SUPPORTED)
        return
    if block := WRONG_LEVEL.get(cls.__name__, {}).get(key):
        findings.add(path, f"{key!r} belongs into `{block}:`")
        return
    findings.add(
        path, f"{key!r} is not a key here", allowed=", ".join(fields), nearest=nearest_name(key, [*fields, *later])
    )


def _options(hint: object) -> tuple[object, ...]:
    """Return the alternatives of an annotation: ``int | None`` gives both."""
    origin = get_origin(hint)
    if origin is Annotated:
        return _options(get_args(hint)[0])
    if origin in (Union, types.UnionType):
        return tuple(option for arg in get_args(hint) for option in _options(arg))
    return (hint,)


def _allowed(hint: object) -> str:
    """Return what may stand in a field, in words."""
    if get_origin(hint) is Annotated:
        base, *metas = get_args(hint)
        meta = next((item for item in metas if isinstance(item, msgspec.Meta)), None)
        if meta is not None and base is int:
            return f"{meta.ge} to {meta.le}" if meta.le is not None else f"a whole number from {meta.ge}"
        return _allowed(base)
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(_allowed(arg) for arg in get_args(hint) if arg is not type(None))
    if isinstance(hint, type) and issubclass(hint, Enum):
        return ", ".join(str(member.value) for member in hint)
    names: dict[object, str] = {str: "text", int: "a whole number", float: "a number", bool: "true, false"}
    return names.get(hint, "a list" if get_origin(hint) in (list, tuple) else "a mapping")


def _is_struct(option: object) -> TypeIs[type[msgspec.Struct]]:
    return isinstance(option, type) and issubclass(option, msgspec.Struct)


def _is_secret_parameter(path: KeyPath) -> bool:
    return "parameters" in path and any(is_secret_name(str(step)) for step in path[path.index("parameters") + 1 :])


def _label(path: KeyPath) -> str:
    return f"'{path[-1]}'" if path else "the configuration"


def _error_count(findings: Findings) -> int:
    return sum(item.severity is Severity.ERROR for item in findings.items)
