"""The JSON methods of a stream.

Owns what a caller may ask of a stream in JSON values.  Must not know how they are made.
"""

from __future__ import annotations

from typing import Any, Literal, TypeVar, overload

from procflow._streams.core import StreamCore
from procflow._streams.lines.access import subscribe_lines
from procflow._streams.lines.json_readers import JsonFeed, OnJsonError, json_decoder
from procflow._streams.lines.readers import LineBatchReader, LineReader
from procflow.events import Gap, UndecodedLine
from procflow.policies import Delivery, LineConfig, OnGap, Reliable, Start

T = TypeVar("T")


class JsonAccess:
    """What ``OutputStream`` offers in JSON values."""

    _core: StreamCore

    @overload
    def json_lines(
        self,
        type: type[T],
        delivery: Reliable = ...,
        *,
        config: LineConfig = ...,
        on_error: Literal["raise"],
        on_gap: Literal["skip", "raise"] | None = ...,
        start: Start = ...,
        last_bytes: int | None = ...,
        name: str | None = ...,
    ) -> LineReader[T]: ...
    @overload
    def json_lines(
        self,
        type: type[T],
        delivery: Delivery,
        *,
        config: LineConfig = ...,
        on_error: Literal["raise"],
        on_gap: Literal["skip", "raise"],
        start: Start = ...,
        last_bytes: int | None = ...,
        name: str | None = ...,
    ) -> LineReader[T]: ...
    @overload
    def json_lines(
        self,
        type: type[T],
        delivery: Delivery = ...,
        *,
        config: LineConfig = ...,
        on_error: Literal["raise"],
        on_gap: OnGap | None = ...,
        start: Start = ...,
        last_bytes: int | None = ...,
        name: str | None = ...,
    ) -> LineReader[T | Gap]: ...
    @overload
    def json_lines(
        self,
        type: type[T],
        delivery: Reliable = ...,
        *,
        config: LineConfig = ...,
        on_error: OnJsonError = ...,
        on_gap: Literal["skip", "raise"] | None = ...,
        start: Start = ...,
        last_bytes: int | None = ...,
        name: str | None = ...,
    ) -> LineReader[T | UndecodedLine]: ...
    @overload
    def json_lines(
        self,
        type: type[T],
        delivery: Delivery,
        *,
        config: LineConfig = ...,
        on_error: OnJsonError = ...,
        on_gap: Literal["skip", "raise"],
        start: Start = ...,
        last_bytes: int | None = ...,
        name: str | None = ...,
    ) -> LineReader[T | UndecodedLine]: ...
    @overload
    def json_lines(
        self,
        type: type[T],
        delivery: Delivery = ...,
        *,
        config: LineConfig = ...,
        on_error: OnJsonError = ...,
        on_gap: OnGap | None = ...,
        start: Start = ...,
        last_bytes: int | None = ...,
        name: str | None = ...,
    ) -> LineReader[T | UndecodedLine | Gap]: ...
    @overload
    def json_lines(
        self,
        type: object,
        delivery: Delivery = ...,
        *,
        config: LineConfig = ...,
        on_error: OnJsonError = ...,
        on_gap: OnGap | None = ...,
        start: Start = ...,
        last_bytes: int | None = ...,
        name: str | None = ...,
    ) -> LineReader[Any]: ...
    def json_lines(
        self,
        type: object,  # noqa: A002 (what callers know it by)
        delivery: Delivery = Reliable(),  # noqa: B008 (frozen value)
        *,
        config: LineConfig = LineConfig(),  # noqa: B008 (frozen value)
        on_error: OnJsonError = "yield",
        on_gap: OnGap | None = None,
        start: Start = "unread",
        last_bytes: int | None = None,
        name: str | None = None,
    ) -> LineReader[Any]:
        """Return an async iterator over the JSON values of lines, attached now.

        Each line is decoded by msgspec as a value of ``type``.  A line that does not decode is yielded as an ``UndecodedLine``, which
        has its text, its offset and the reason, or raises ``JsonLineError`` (``on_error="raise"``).  A line longer than
        ``max_line_bytes`` never decodes: each of its pieces is an ``UndecodedLine`` whose text is a ``CutLine``.  Blank lines are passed over.
        Gaps and all else are those of ``lines()``.

        Args:
            type: What each line is: any type that msgspec decodes into; ``object`` is any value.
            delivery: As in ``subscribe()``.
            config: How bytes become lines.  Bytes that are not text in its encoding do not decode, whatever its ``errors`` says.
            on_error: What to do about a line that does not decode.
            on_gap: As in ``lines()``.
            start: As in ``subscribe()``.
            last_bytes: As in ``subscribe()``.
            name: As in ``subscribe()``.

        Raises:
            TypeError: If msgspec cannot decode into ``type``.
            HistoryLostError: As ``subscribe()``.
        """
        return LineReader(self._json_feed(type, delivery, config, on_error, on_gap, start, last_bytes, name))

    @overload
    def json_batches(
        self,
        type: type[T],
        delivery: Reliable = ...,
        *,
        config: LineConfig = ...,
        on_error: Literal["raise"],
        on_gap: Literal["skip", "raise"] | None = ...,
        start: Start = ...,
        last_bytes: int | None = ...,
        name: str | None = ...,
    ) -> LineBatchReader[T]: ...
    @overload
    def json_batches(
        self,
        type: type[T],
        delivery: Delivery,
        *,
        config: LineConfig = ...,
        on_error: Literal["raise"],
        on_gap: Literal["skip", "raise"],
        start: Start = ...,
        last_bytes: int | None = ...,
        name: str | None = ...,
    ) -> LineBatchReader[T]: ...
    @overload
    def json_batches(
        self,
        type: type[T],
        delivery: Delivery = ...,
        *,
        config: LineConfig = ...,
        on_error: Literal["raise"],
        on_gap: OnGap | None = ...,
        start: Start = ...,
        last_bytes: int | None = ...,
        name: str | None = ...,
    ) -> LineBatchReader[T | Gap]: ...
    @overload
    def json_batches(
        self,
        type: type[T],
        delivery: Reliable = ...,
        *,
        config: LineConfig = ...,
        on_error: OnJsonError = ...,
        on_gap: Literal["skip", "raise"] | None = ...,
        start: Start = ...,
        last_bytes: int | None = ...,
        name: str | None = ...,
    ) -> LineBatchReader[T | UndecodedLine]: ...
    @overload
    def json_batches(
        self,
        type: type[T],
        delivery: Delivery,
        *,
        config: LineConfig = ...,
        on_error: OnJsonError = ...,
        on_gap: Literal["skip", "raise"],
        start: Start = ...,
        last_bytes: int | None = ...,
        name: str | None = ...,
    ) -> LineBatchReader[T | UndecodedLine]: ...
    @overload
    def json_batches(
        self,
        type: type[T],
        delivery: Delivery = ...,
        *,
        config: LineConfig = ...,
        on_error: OnJsonError = ...,
        on_gap: OnGap | None = ...,
        start: Start = ...,
        last_bytes: int | None = ...,
        name: str | None = ...,
    ) -> LineBatchReader[T | UndecodedLine | Gap]: ...
    @overload
    def json_batches(
        self,
        type: object,
        delivery: Delivery = ...,
        *,
        config: LineConfig = ...,
        on_error: OnJsonError = ...,
        on_gap: OnGap | None = ...,
        start: Start = ...,
        last_bytes: int | None = ...,
        name: str | None = ...,
    ) -> LineBatchReader[Any]: ...
    def json_batches(
        self,
        type: object,  # noqa: A002 (what callers know it by)
        delivery: Delivery = Reliable(),  # noqa: B008 (frozen value)
        *,
        config: LineConfig = LineConfig(),  # noqa: B008 (frozen value)
        on_error: OnJsonError = "yield",
        on_gap: OnGap | None = None,
        start: Start = "unread",
        last_bytes: int | None = None,
        name: str | None = None,
    ) -> LineBatchReader[Any]:
        """Return an async iterator over lists of JSON values, attached now: each list is all that is complete by then.

        Otherwise as ``json_lines()``.
        """
        return LineBatchReader(self._json_feed(type, delivery, config, on_error, on_gap, start, last_bytes, name))

    def _json_feed(
        self,
        kind: object,
        delivery: Delivery,
        config: LineConfig,
        on_error: OnJsonError,
        on_gap: OnGap | None,
        start: Start,
        last_bytes: int | None,
        name: str | None,
    ) -> JsonFeed:
        if on_error not in ("yield", "raise"):
            raise ValueError(f'on_error must be "yield" or "raise", not {on_error!r}')
        decode = json_decoder(kind)
        subscription, on_gap = subscribe_lines(self._core, delivery, on_gap, start, last_bytes, name)
        return JsonFeed(subscription, config, on_gap, decode=decode, on_error=on_error)
