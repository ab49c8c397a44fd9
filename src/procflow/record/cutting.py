"""How an event that is too long for a line is made shorter.

Owns what is cut first, and how a cut shows.  Must not know what events mean; redaction comes before, so that a cut never leaves half
a secret that nobody recognises.

The order: base64 beside a readable text, which is worthless in part; then the largest strings, all to one level, so that the small
ones stay whole; then the ends of long lists and maps; last of all the keys by which events are paired.  A string that was cut ends
with ``…[cut: 2097152 bytes]``, its whole size; where no string can hold that mark, ``cut`` alone tells it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, TypeAlias, TypeVar

import msgspec

from procflow.record.codec import RecordCodec
from procflow.record.events import RecordEvent

MAX_LINE_BYTES: Final = 256 << 10
"""The longest line of a record, with its newline."""

_LEAST_BYTES: Final = 64
_KEYS: Final = frozenset(
    {"type", "seq", "at_ms", "mono_ns", "cut", "format", "job_id", "run_id", "outcome", "pipe", "requires"}
)
_STRUCTS: Final = frozenset({"redaction", "trace", "usage", "error", "totals"})
_IN_BASE64: Final = ("argv_b64", "cwd_b64")
_MAX_CUTS_TOLD: Final = 64
"""How many cuts are told one by one; a list with more of them is told as one."""

E = TypeVar("E", bound=RecordEvent)
Path: TypeAlias = tuple[str | int, ...]
Tree: TypeAlias = dict[str, object]


def fit(event: E, codec: RecordCodec, *, max_line_bytes: int = MAX_LINE_BYTES) -> tuple[bytes, E]:
    """Return the line of ``event``, of at most ``max_line_bytes``, and the event that stands on it.

    The event is the same unless it had to be cut.

    Raises:
        UnrecordableError: As by ``RecordCodec.encode()``.
    """
    line = codec.encode(event)
    if len(line) <= max_line_bytes:
        return line, event
    tree: Tree = msgspec.json.decode(line, type=dict[str, object])
    told: dict[str, int] = dict(event.cut or {})
    shortened = msgspec.convert(_shorten(tree, told, max_line_bytes - 1), type(event))
    line = codec.encode(shortened)
    assert len(line) <= max_line_bytes, "a cut event is still too long"
    return line, shortened


def _shorten(tree: Tree, told: dict[str, int], max_bytes: int) -> Tree:
    for name in _IN_BASE64:
        if name in tree:
            told[name] = _json_bytes(tree.pop(name))
    steps: tuple[Callable[[Tree, dict[str, int], int], None], ...] = (
        lambda tree, told, room: _cut_strings(tree, told, room, are_keys=False),
        _cut_containers,
        lambda tree, told, room: _cut_strings(tree, told, room, are_keys=True),
    )
    for step in steps:
        if _size(tree, told) <= max_bytes:
            break
        step(tree, told, max_bytes)
    return _with_told(tree, told)


def _with_told(tree: Tree, told: dict[str, int]) -> Tree:
    return {**tree, "cut": told} if told else tree


def _size(tree: Tree, told: dict[str, int]) -> int:
    return _json_bytes(_with_told(tree, told))


# ---- strings


def _cut_strings(tree: Tree, told: dict[str, int], max_bytes: int, *, are_keys: bool) -> None:
    """Cut every string that is longer than a level, which is as high as the room allows."""
    strings = [(path, text, _json_bytes(text)) for path, text in _strings(tree, are_keys=are_keys)]
    fixed = _size(tree, told) - sum(size for _, _, size in strings)
    level = _level(sorted(size for _, _, size in strings), max_bytes - fixed)
    while True:
        tried, tried_told = _copied(tree), dict(told)
        for path, text, size in strings:
            if size > level:
                _put(tried, path, _cut_text(text, level))
                _tell(tried_told, path, len(text.encode()))
        # What tells of the cuts takes room too.
        if level <= _LEAST_BYTES or _size(tried, tried_told) <= max_bytes:
            break
        level = max(_LEAST_BYTES, level - max(level // 16, 64))
    tree.clear()
    tree.update(tried)
    told.clear()
    told.update(tried_told)


def _level(sizes: list[int], room: int) -> int:
    """Return the size to which the longest must come down, so that all of ``sizes`` (ascending) take ``room`` together."""
    for index, size in enumerate(sizes):
        left = len(sizes) - index
        if size * left > room:
            return max(_LEAST_BYTES, room // left)
        room -= size
    return max(sizes, default=_LEAST_BYTES)


def _cut_text(text: str, max_json_bytes: int) -> str:
    """Return the beginning of ``text`` and the mark, as long as JSON of that size holds; always whole characters."""
    mark = f"…[cut: {len(text.encode())} bytes]"
    room = max_json_bytes - _json_bytes(mark)
    low, high = 0, min(len(text), max(room, 0))
    while low < high:
        middle = (low + high + 1) // 2
        if _json_bytes(text[:middle]) - 2 <= room:
            low = middle
        else:
            high = middle - 1
    return text[:low] + mark


def _strings(value: object, *, are_keys: bool, path: Path = ()) -> Iterator[tuple[Path, str]]:
    match value:
        case str():
            yield path, value
        case dict():
            for key, item in value.items():
                if path or ((key in _KEYS) is are_keys and key not in ("type", "cut")):
                    yield from _strings(item, are_keys=are_keys, path=(*path, key))
        case list():
            for index, item in enumerate(value):
                yield from _strings(item, are_keys=are_keys, path=(*path, index))


# ---- lists and maps


def _cut_containers(tree: Tree, told: dict[str, int], max_bytes: int) -> None:
    """Halve the largest list or map, again and again, until everything fits or all are empty."""
    while _size(tree, told) > max_bytes:
        found = [(path, value, _json_bytes(value)) for path, value in _containers(tree)]
        if not found:
            return
        path, value, size = max(found, key=lambda item: item[2])
        name = ".".join(map(str, path))
        for inner in [key for key in told if key.startswith(f"{name}.")]:
            del told[inner]
        told.setdefault(name, size)
        if name == "value":
            # A note may hold anything, and half of a structure would be another one.
            _put(tree, path, f"…[cut: {size} bytes]")
        elif isinstance(value, list):
            _put(tree, path, value[: len(value) // 2])
        else:
            _put(tree, path, dict(list(value.items())[: len(value) // 2]))


def _containers(tree: Tree) -> Iterator[tuple[Path, list[object] | dict[str, object]]]:
    for name, value in tree.items():
        if name in _STRUCTS and isinstance(value, dict):
            # A fixed set of fields, which the event cannot do without; what they hold it can.
            yield from (
                ((name, inner), item) for inner, item in value.items() if item and isinstance(item, list | dict)
            )
        elif value and isinstance(value, list | dict) and name not in _KEYS:
            yield (name,), value


# ---- trees


def _tell(told: dict[str, int], path: Path, size: int) -> None:
    name = ".".join(map(str, path))
    if name in told:
        return
    first = str(path[0])
    if sum(key.startswith(f"{first}.") for key in told) < _MAX_CUTS_TOLD or len(path) == 1:
        told[name] = size
    else:
        told[first] = told.get(first, 0) + size


def _put(tree: Tree, path: Path, value: object) -> None:
    place: object = tree
    for step in path[:-1]:
        place = place[step]  # type: ignore[index]  # the path was found in this tree
    place[path[-1]] = value  # type: ignore[index]  # likewise


def _copied(value: Tree) -> Tree:
    return msgspec.json.decode(msgspec.json.encode(value), type=dict[str, object])


def _json_bytes(value: object) -> int:
    return len(msgspec.json.encode(value))
