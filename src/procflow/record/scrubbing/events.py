"""Lines of a record without secrets.

Owns what becomes of a line.  Must not know files.

A line in which nothing is found stays byte for byte.  What is found is taken out as a recorder would have done it; fields and types that this
release does not know are walked through as JSON.  Words of the format and numbers stay: a secret that looks like one of them is none there.
What is no event is searched as bytes.

Known hole: a text that was cut to fit its line may end with the beginning of a secret, which nothing tells from other text.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, cast

import msgspec

from procflow.record.cleaning import clean
from procflow.record.codec import RecordCodec
from procflow.record.cutting import MAX_LINE_BYTES, fit
from procflow.record.envelope import MalformedEventError, Unknown
from procflow.record.events import RecordEvent, ShStarted
from procflow.record.reading.lines import MAX_READ_LINE_BYTES
from procflow.record.redaction.redactor import Json, Redactor
from procflow.record.redaction.stream import StreamRedactor
from procflow.record.text import command_line

_ENVELOPE: Final = ("type", "seq", "at_ms", "mono_ns")
_WORDS: Final = frozenset({*_ENVELOPE, "cut", "format", "outcome", "requires", "run_id"})
"""Fields whose texts are of the format."""
_IN_BASE64: Final = frozenset({"argv_b64", "cwd_b64"})
"""Fields that are made anew of what was cleaned; taking a part out of base64 would leave none."""


class LineScrubber:
    """Takes secrets out of one line after the other.

    Args:
        redactor: Knows them; follows no rules of its own.
        moved_logs: The paths that logs have afterwards, by those that the record names.
    """

    def __init__(self, redactor: Redactor, *, moved_logs: Mapping[str, str]) -> None:
        self._redactor = redactor
        self._moved_logs = moved_logs
        self._codec = RecordCodec()

    def file(self, blocks: Iterable[bytes]) -> Iterator[bytes]:
        """Yield a record, which comes in ``blocks``, without secrets.  Memory is bounded by the longest line that is read."""
        foreign: StreamRedactor | None = None  # what is too long for an event, or has no newline
        for data, is_whole in _lines(blocks):
            if foreign is None and is_whole:
                yield self.line(data) + b"\n"
                continue
            foreign = foreign or self._redactor.stream()
            yield foreign.feed(data)
            if is_whole:
                yield foreign.finish() + b"\n"
                foreign = None
        if foreign is not None:
            yield foreign.finish()

    def line(self, raw: bytes) -> bytes:
        """Return the line ``raw``, which comes without its newline."""
        before = self._replaced_count()
        try:
            event = self._codec.decode(raw)
        except MalformedEventError:
            return self._redactor.redact_bytes(raw)
        if isinstance(event, Unknown):
            tree = self._scrubbed(raw, {}, known=frozenset())
        else:
            cleaned = self._cleaned(event)
            known = frozenset(field.encode_name for field in msgspec.structs.fields(event))
            tree = self._scrubbed(raw, cast("dict[str, Json]", msgspec.to_builtins(cleaned)), known=known)
        if self._replaced_count() == before:
            return raw
        line = msgspec.json.encode(tree)
        if len(line) < MAX_LINE_BYTES or isinstance(event, Unknown):
            return line
        # Markers may be longer than what they stand for.
        return fit(msgspec.convert(tree, type(event)), self._codec)[0].removesuffix(b"\n")

    def _cleaned(self, event: RecordEvent) -> RecordEvent:
        if not isinstance(event, ShStarted):
            return clean(event, self._redactor)
        # What was cut by itself, or never was made of the words, is a text of its own, like the script of a shell.
        is_text = event.shell or event.cmd != command_line(event.argv)
        cleaned = clean(msgspec.structs.replace(_with_bytes(event), shell=is_text), self._redactor)
        log = cleaned.log if event.log is None else self._moved_logs.get(event.log, cleaned.log)
        return msgspec.structs.replace(cleaned, shell=event.shell, log=log)

    def _scrubbed(self, raw: bytes, cleaned: dict[str, Json], *, known: frozenset[str]) -> dict[str, Json]:
        """Return the fields of ``raw`` in their order: from ``cleaned`` those that are ``known``, and all without secrets."""
        tree = cast("dict[str, Json]", msgspec.json.decode(raw, type=dict[str, object]))
        fields = {
            name: cleaned.get(name, value) for name, value in tree.items() if name not in known or name in cleaned
        }
        fields |= {name: tree[name] for name in _ENVELOPE if name in tree}
        return {name: self._field(name, value) for name, value in fields.items()}

    def _field(self, name: str, value: Json) -> Json:
        if name in _WORDS or name in _IN_BASE64:
            return value
        return self._redactor.redact_json(value)

    def _replaced_count(self) -> int:
        return self._redactor.statistics().replaced_count


def moved_logs(
    lines: Iterable[RecordEvent], redactor: Redactor, path_of: Callable[[str, int, int], str]
) -> dict[str, str]:
    """Return where logs have to go whose path holds a secret because the id of their job does, by where they are.

    ``path_of`` gives the path for a job id, an attempt and a number.  Two ids may become one; then their logs have names of their own.
    """
    calls = [event for event in lines if isinstance(event, ShStarted) and event.log is not None]
    taken = {event.log for event in calls}
    moved: dict[str, str] = {}
    for event in calls:
        job_id = redactor.redact_text(event.job_id)
        log = event.log or ""
        if (job_id == event.job_id and redactor.redact_text(log) == log) or log in moved:
            continue
        wanted = path_of(job_id, event.attempt, event.sh)
        path, number = wanted, 2
        while path in taken:
            path, number = f"{wanted.removesuffix('.log')}-{number}.log", number + 1
        taken.add(path)
        moved[log] = path
    return moved


def _with_bytes(event: ShStarted) -> ShStarted:
    """Return ``event`` as it was before what is no UTF-8 was made readable."""
    changes: dict[str, object] = {}
    try:
        if event.argv_b64 is not None:
            changes["argv"] = tuple(_from_base64(word) for word in event.argv_b64)
        if event.cwd_b64 is not None:
            changes["cwd"] = _from_base64(event.cwd_b64)
    except ValueError:  # no base64: then the readable text is all there is
        return event
    return msgspec.structs.replace(event, **changes)


def _from_base64(text: str) -> str:
    return os.fsdecode(base64.b64decode(text, validate=True))


def _lines(blocks: Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Yield each line without its newline; of one that is too long, and of the last one without a newline, parts that go on."""
    held = bytearray()
    for block in blocks:
        start = 0
        while (end := block.find(b"\n", start)) >= 0:
            held += block[start:end]
            yield bytes(held), True
            held.clear()
            start = end + 1
        held += block[start:]
        if len(held) > MAX_READ_LINE_BYTES:
            yield bytes(held), False
            held.clear()
    if held:
        yield bytes(held), False
