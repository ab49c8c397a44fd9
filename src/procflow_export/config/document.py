"""A configuration file as plain values, and where in the file each value stands.

Owns the three syntaxes (YAML, JSON, TOML by suffix) and the position of every key.  Must not know what keys mean.
A mapping with a key twice is an error: silently taking the last one hides mistakes.
"""

from __future__ import annotations

import datetime as dt
import json
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import yaml

from procflow_export.model.codes import Code
from procflow_export.model.errors import Finding

Scalar: TypeAlias = str | int | float | bool | None
Value: TypeAlias = "Scalar | list[Value] | dict[str, Value] | object"
KeyPath: TypeAlias = tuple[str | int, ...]

MAX_NODES: Final = 200_000
MAX_DEPTH: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A parsed file.

    Attributes:
        root: The values; strings are not interpolated yet.
        file: Name of the file in findings.
        lines: Line of every key path, from 1; empty where the syntax does not tell.
        findings: What is wrong with the syntax; with any error ``root`` is not meaningful.
    """

    root: object
    file: str
    lines: Mapping[KeyPath, int] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()

    def line(self, path: KeyPath) -> int | None:
        """Return the line of ``path``, or of the nearest enclosing key that has one."""
        for stop in range(len(path), -1, -1):
            if (line := self.lines.get(path[:stop])) is not None:
                return line
        return None


def parse_document(text: str, *, file: str, suffix: str) -> Document:
    """Return the values of ``text``; the suffix (``.json``, ``.toml``, else YAML) says how to read it."""
    parse: Callable[[str, str], Document]
    parse = {".json": _parse_json, ".toml": _parse_toml}.get(suffix.lower(), _parse_yaml)
    return parse(text, file)


def is_too_deep(root: object) -> bool:
    """Return whether values are nested deeper than any configuration is, or endlessly."""
    level = [root]
    for _ in range(MAX_DEPTH + 1):
        level = [
            item
            for value in level
            for item in (value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ())
            if isinstance(item, Mapping | list)
        ]
        if not level:
            return False
        if len(level) > MAX_NODES:
            return True
    return True


def path_text(path: KeyPath) -> str:
    """Return a key path as people write it: ``exports[2].tuning.profile``."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def _broken(file: str, message: str, line: int | None = None) -> Document:
    finding = Finding(message=message, file=file, line=line, code=Code.CONFIG_UNREADABLE)
    return Document(root=None, file=file, findings=(finding,))


class _Loader(yaml.SafeLoader):
    """Reads a date as the text that stands there: no key of a configuration is anything else."""


_Loader.yaml_implicit_resolvers = {
    first: [resolver for resolver in resolvers if resolver[0] != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _parse_yaml(text: str, file: str) -> Document:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return Document(root=None, file=file)
        reader = _NodeReader(loader, file)
        root = reader.read(node, (), 0)
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        return _broken(file, f"not YAML: {exc.problem or exc.context}", None if mark is None else mark.line + 1)
    except (yaml.YAMLError, ValueError) as exc:
        return _broken(file, f"not YAML: {exc}")
    except RecursionError:
        return _broken(file, "not YAML: too deeply nested")
    finally:
        loader.dispose()
    return Document(root=root, file=file, lines=reader.lines, findings=tuple(reader.findings))


class _NodeReader:
    """Turns YAML nodes into values and remembers the line of each; anchors and merge keys are followed."""

    def __init__(self, loader: _Loader, file: str) -> None:
        self._loader = loader
        self._file = file
        self._node_count = 0
        self.lines: dict[KeyPath, int] = {}
        self.findings: list[Finding] = []

    def read(self, node: yaml.Node, path: KeyPath, depth: int) -> object:
        self._node_count += 1
        if self._node_count > MAX_NODES or depth > MAX_DEPTH:
            # Aliases make a small file as large as one likes, or endless.
            raise ValueError("too large or too deeply nested once its aliases are followed")
        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, depth)
        if isinstance(node, yaml.SequenceNode):
            return [self.read(item, (*path, index), depth + 1) for index, item in enumerate(node.value)]
        value: object = self._loader.construct_object(node, deep=True)
        return value

    def _mapping(self, node: yaml.MappingNode, path: KeyPath, depth: int) -> dict[str, object]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    self._find((*path, key.value), key, "the key is given more than once")
                seen.add(key.value)
        self._loader.flatten_mapping(node)
        values: dict[str, object] = {}
        for key, value in node.value:  # merged keys come first, so that own keys win
            if not isinstance(key, yaml.ScalarNode):
                self._find(path, key, "a key must be plain text")
                continue
            step: KeyPath = (*path, key.value)
            self.lines[step] = key.start_mark.line + 1
            values[key.value] = self.read(value, step, depth + 1)
        return values

    def _find(self, path: KeyPath, node: yaml.Node, message: str) -> None:
        self.findings.append(
            Finding(message=message, key=path_text(path), file=self._file, line=node.start_mark.line + 1)
        )


def _parse_json(text: str, file: str) -> Document:
    repeated: list[str] = []

    def pairs(items: list[tuple[str, object]]) -> dict[str, object]:
        keys = [key for key, _ in items]
        repeated.extend(key for key in dict.fromkeys(keys) if keys.count(key) > 1)
        return dict(items)

    try:
        root: object = json.loads(text, object_pairs_hook=pairs)
    except json.JSONDecodeError as exc:
        return _broken(file, f"not JSON: {exc.msg}", exc.lineno)
    except RecursionError:
        return _broken(file, "not JSON: too deeply nested")
    # JSON is nearly YAML: where the YAML reader agrees on the values, it also knows their lines.
    positions = _parse_yaml(text, file)
    lines = positions.lines if positions.root == root else {}
    if repeated:
        findings = positions.findings or tuple(
            Finding(message="the key is given more than once", key=key, file=file) for key in repeated
        )
        return Document(root=root, file=file, lines=lines, findings=findings)
    return Document(root=root, file=file, lines=lines)


def _parse_toml(text: str, file: str) -> Document:
    try:
        root = _dates_as_text(tomllib.loads(text))
    except tomllib.TOMLDecodeError as exc:
        found = re.search(r"\(at line (\d+), column \d+\)", str(exc))
        message = re.sub(r" \(at .*\)$", "", str(exc))
        return _broken(file, f"not TOML: {message[:1].lower()}{message[1:]}", int(found[1]) if found else None)
    except RecursionError:
        return _broken(file, "not TOML: too deeply nested")
    return Document(root=_dates_as_text(root), file=file, lines=_toml_lines(text))


def _dates_as_text(value: object) -> object:
    match value:
        case dict():
            return {key: _dates_as_text(item) for key, item in value.items()}
        case list():
            return [_dates_as_text(item) for item in value]
        case dt.datetime():
            return value.isoformat(" ")
        case dt.date() | dt.time():
            return value.isoformat()
        case _:
            return value


_TABLE: Final = re.compile(r"^\s*(\[\[?)\s*([A-Za-z0-9_.\-]+)\s*\]\]?")
_PAIR: Final = re.compile(r"^\s*([A-Za-z0-9_\-]+)\s*=")


def _toml_lines(text: str) -> dict[KeyPath, int]:
    """Return the lines of bare keys in tables; dotted and quoted keys are found by the table they stand in."""
    lines: dict[KeyPath, int] = {(): 1}
    counts: dict[KeyPath, int] = {}
    table: KeyPath = ()
    for number, line in enumerate(text.splitlines(), start=1):
        if found := _TABLE.match(line):
            table = ()
            steps = found[2].split(".")
            for position, step in enumerate(steps):
                table = (*table, step)
                is_new_item = found[1] == "[[" and position == len(steps) - 1
                if is_new_item:
                    counts[table] = counts.get(table, 0) + 1
                if table in counts:
                    table = (*table, counts[table] - 1)
                lines.setdefault(table, number)
        elif found := _PAIR.match(line):
            lines.setdefault((*table, found[1]), number)
    return lines
