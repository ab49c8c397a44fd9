"""JSON values out of lines.

Owns which lines are values, and what becomes of a line that is none.  Must not know how lines are split or delivered.

Decoding many lines with one call (``msgspec.json.Decoder.decode_lines()``) was ruled out: it lets a value span lines, and takes two on
one line, so a broken writer would go unseen.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Final, Literal, TypeAlias

import msgspec

from procflow._streams.lines.codec import ASCII_SUPERSETS
from procflow._streams.lines.readers import Feed
from procflow._streams.subscription import Subscription
from procflow.errors import JsonLineError
from procflow.events import CutLine, Gap, UndecodedLine
from procflow.policies import LineConfig, OnGap

OnJsonError: TypeAlias = Literal["yield", "raise"]
BLANKS: Final = " \t\r\n"
"""What JSON calls whitespace."""


class JsonFeed(Feed[object]):
    """Gives the value of each line, an ``UndecodedLine`` for a line that is none, and gaps unless they are to be skipped."""

    __slots__ = ("_decode", "_errors", "_escaped", "_failed_at", "_on_error", "_places", "_values")

    items_per_turn = 2048

    def __init__(
        self,
        subscription: Subscription,
        config: LineConfig,
        on_gap: OnGap,
        *,
        decode: Callable[[str], object],
        on_error: OnJsonError,
    ) -> None:
        self._decode = decode
        self._on_error = on_error
        self._errors = config.errors
        encoding = codecs.lookup(config.encoding).name
        name = "utf-8" if encoding == "utf-8-sig" else encoding
        # bytes that are no text must not become a value: escaped, they stay what they are, and msgspec refuses them
        self._escaped: str | None = name if name in ASCII_SUPERSETS else None
        if self._escaped is not None:
            config = replace(config, errors="surrogateescape")
        self._values = 0  # how many the last step gave
        self._places: list[int] | None = None  # the item that each was made of, where that is not the one of its number
        self._failed_at: int | None = None  # offset after the line whose error is raised next
        super().__init__(subscription, config, on_gap)

    def _converted(self) -> list[object]:
        lines = self._items
        values: list[object]
        self._places = None
        if lines and self.splitter.gave_only_whole_lines:
            try:
                values = list(map(self._decode, lines))  # type: ignore[arg-type]  # all are str
            except Exception:  # noqa: BLE001 (found again below, where it is told which line it was)
                values = self._each_converted()
        else:
            values = self._each_converted() if lines else []
        self._values = len(values)
        return values

    def _each_converted(self) -> list[object]:
        values: list[object] = []
        places = self._places = []
        ends = self.splitter.ends()
        for place, line in enumerate(self._items):
            if isinstance(line, Gap):
                if self._on_gap == "skip":
                    continue
                values.append(line)
            elif isinstance(line, CutLine):
                reason = f"it is longer than {self._config.max_line_bytes} bytes"
                values.append(UndecodedLine(text=self._shown(line), offset=self._start_of(place, ends), reason=reason))
            elif not line.strip(BLANKS):
                continue
            else:
                try:
                    values.append(self._decode(line))
                except (ValueError, RecursionError) as error:  # msgspec's own errors are ValueErrors, Unicode's too
                    reason = "it is not valid text" if isinstance(error, UnicodeError) else str(error)
                    values.append(
                        UndecodedLine(text=self._shown(line), offset=self._start_of(place, ends), reason=reason)
                    )
                except Exception as error:  # noqa: BLE001 (of a type's own code: raised by the reader)
                    self._fail(ends[place], partial(_same, error))
                    break
            places.append(place)
            if self._on_error == "raise" and isinstance(values[-1], UndecodedLine):
                bad = values.pop()
                assert isinstance(bad, UndecodedLine)
                places.pop()
                self._fail(ends[place], partial(JsonLineError, stream_name=self._stream_name, line=bad))
                break
        return values

    def _fail(self, offset: int, failure: Callable[[], Exception]) -> None:
        """End the lines here: what follows was not given out."""
        self._failed_at = offset
        self._failure = failure

    def _start_of(self, place: int, ends: list[int]) -> int:
        return ends[place - 1] if place else self.splitter.start_of(0)

    def _shown(self, line: str) -> str:
        """Return a line as the caller's ``errors`` says it."""
        if self._escaped is None:
            return line
        errors = self._errors if self._errors != "strict" else "replace"
        text = line.encode(self._escaped, "surrogateescape").decode(self._escaped, errors)
        return CutLine(text, cut=line.cut, lost_bytes=line.lost_bytes) if isinstance(line, CutLine) else text

    def _given_offset(self, left: int) -> int:
        if not left:
            return self.splitter.resume_offset if self._failed_at is None else self._failed_at
        place = self._values - left
        return self.splitter.offset_after(place if self._places is None else self._places[place])


def _same(error: Exception) -> Exception:
    return error.with_traceback(None)


def json_decoder(kind: object) -> Callable[[str], object]:
    """Return a function that decodes one line as a value of type ``kind``; ``object`` is any value.

    Raises:
        TypeError: If msgspec cannot decode into that type.
    """
    return msgspec.json.Decoder().decode if kind is object else msgspec.json.Decoder(kind).decode
