"""Bytes in, lines out.

Owns where lines begin and end, how a long one is cut, and what of a line stream a gap takes away.  Must not know a
clock, an event loop or the operating system.

Invariants, each a property test:

* The result does not depend on how the bytes were cut into chunks.
* Lines, cut pieces and gaps tile the stream: every byte belongs to a line, its delimiter, a dropped end that a ``CutLine``
  counts, or a ``Gap``.  A gap therefore grows: it takes the unfinished line before it, and everything up to
  and with the first delimiter after it, because nobody can know whether those bytes are a whole line.
* Searching is linear: bytes that were searched are not searched again, except the length of a delimiter.

Two speeds.  *Split*: everything up to the last newline at once: decoded as one text, which costs a fifth of decoding line by line,
where that gives the same lines; else split as bytes and decoded piece by piece.  *Walk*: one line after the other; only here is a line
cut, is a gap open, and are code units wider than a byte aligned.  Long lines among short ones are walked, the short ones are not:
what is short is found with one search for each ``max_line_bytes``, not for each line.
"""

from __future__ import annotations

from typing import TypeAlias

from procflow._streams.lines.codec import TextCodec, sniff
from procflow._streams.lines.format import LineFormat
from procflow.events import Cut, CutLine, Gap
from procflow.policies import LineConfig, Overflow

Ends: TypeAlias = "list[int] | tuple[int, bytes, int, int]"
"""Where items end: offsets, or where to look for delimiters: the offset of a block, the block, and its part."""


class LineSplitter:
    """Splits the bytes of one stream, or of a stream from an offset on."""

    __slots__ = (
        "_config",
        "_dropped",
        "_first",
        "_format",
        "_gap_start",
        "_head",
        "_is_inside",
        "_keep",
        "_keep_start",
        "_line_start",
        "_max",
        "_parts",
        "_pending_bytes",
        "_spans",
        "_start",
        "decode_error",
        "overflow_at",
    )

    def __init__(self, config: LineConfig, *, offset: int = 0, opening: bytes = b"") -> None:
        """Begin at ``offset`` of a stream that begins with ``opening``, where a byte order mark holds for all of it.

        Both are bytes of the stream, not of the reader: whoever begins in the middle reads with the order that the beginning tells.
        """
        self._config = config
        self._max = config.max_line_bytes
        self._parts: list[bytes] = []  # the unfinished line
        self._pending_bytes = 0
        self._line_start = offset  # of the unfinished line, or of its unfinished rest
        self._head = b""  # too short to tell the byte order
        self._is_inside = False  # a piece of the current line was given out
        self._dropped = 0  # bytes of the current line that were dropped after its first piece
        self._keep: str | None = None  # that first piece, until the number of dropped bytes is known
        self._keep_start = 0
        self._gap_start: int | None = None  # lines are lost from here to the next delimiter
        self._start = offset  # of the last step: nothing before it is given out by that step
        self._spans: list[Ends] = []  # of the items of the last step
        self.overflow_at: int | None = None
        """Offset of the line that was too long, once one was and the policy is to raise: the splitter then stops."""
        self.decode_error: UnicodeDecodeError | None = None
        """Why the next line did not decode, with ``errors="strict"``: the splitter then stops."""
        self._first = offset  # of the first line: after a byte order mark
        self._format: LineFormat | None = None  # not known before the byte order is
        found = sniff(config.encoding, opening if offset else b"", is_final=offset > 0)
        if found is not None:
            self._set_format(found[0])

    @property
    def has_stopped(self) -> bool:
        """Whether a line could not be given out as asked, so that nothing after it is."""
        return self.overflow_at is not None or self.decode_error is not None

    @property
    def gave_only_whole_lines(self) -> bool:
        """Whether no item of the last step is a ``CutLine`` or a ``Gap``; false means that one may be."""
        return not any(isinstance(span, list) for span in self._spans)

    @property
    def resume_offset(self) -> int:
        """Offset after everything that belongs to finished lines: where another reader can go on."""
        if self._gap_start is not None:
            return self._gap_start
        return self._line_start if self._keep is None else self._keep_start

    def offset_after(self, count: int) -> int:
        """Return the offset after the first ``count`` items of the last step, their delimiters included."""
        return self.ends()[count - 1] if count else self._start

    def start_of(self, index: int) -> int:
        """Return the offset of the first byte of item ``index`` of the last step."""
        return max(self.offset_after(index), self._first)

    def ends(self) -> list[int]:
        """Return the offset after each item of the last step, its delimiter included."""
        ends: list[int] = []
        for span in self._spans:
            if isinstance(span, list):
                ends += span
                continue
            assert self._format is not None
            base, block, position, stop = span
            while position < stop:
                position = block.find(self._format.delimiter, position) + self._format.size
                ends.append(base + position)
        return ends

    def feed(self, data: bytes) -> list[str | Gap]:
        """Return what ``data``, the bytes that follow the ones fed before, completes: lines without their delimiter."""
        self._start = self.resume_offset
        self._spans = []
        if self.overflow_at is not None or self.decode_error is not None:
            return []
        if self._format is None:
            self._head += data
            found = sniff(self._config.encoding, self._head, is_final=False)
            if found is None:
                return []
            data, self._head = self._head[found[1] :], b""
            self._first = self._line_start = self._line_start + found[1]
            self._set_format(found[0])
        form = self._format
        assert form is not None
        if (
            self._pending_bytes + len(data) <= self._max
            and form.is_simple
            and self._gap_start is None
            and self._keep is None
            and not self._is_inside
        ):
            base = self._line_start + self._pending_bytes
            stop = data.rfind(form.delimiter) + form.size
            if stop < form.size:
                self._parts.append(data)
                self._pending_bytes += len(data)
                return []
            items = self._split(data, 0, stop, base, form)
            if stop < len(data) and not self.has_stopped:
                self._parts.append(data[stop:])
                self._pending_bytes = len(data) - stop
            return items
        return self._feed_any(data, form)

    def _feed_any(self, data: bytes, form: LineFormat) -> list[str | Gap]:
        buffer = self._cut_tail(form.overlap) + data if form.overlap and self._parts else data
        base = self._line_start + self._pending_bytes
        items: list[str | Gap] = []
        position, size = 0, len(buffer)
        while position < size and not self.has_stopped:
            if form.splits_blocks and self._is_plain:
                stop = form.end_of_short(buffer, position, pending_bytes=self._pending_bytes, max_bytes=self._max)
                if stop > position:
                    items += self._split(buffer, position, stop, base, form)
                    position = stop
                    continue
                if self._pending_bytes + size - position <= self._max:
                    self._add(buffer[position:])
                    break
            position = self._walk(buffer, position, base, items, form)
        return items

    def gap(self, gap: Gap, *, opening: bytes = b"") -> list[str | Gap]:
        """Note that the bytes of ``gap`` come next and are lost.  Lines resume after the next delimiter.

        ``opening`` is what the stream begins with, for a reader to whom that was lost.

        Returns the first piece of a truncated line if one is pending: its end is among what is lost.
        """
        items: list[str | Gap] = []
        ends = self._begin_step()
        if self._keep is not None:
            items.append(self._truncated(self._pending_bytes))
            self._line_start += self._pending_bytes
            ends.append(self._line_start)
        if self._gap_start is None:
            self._gap_start = self._line_start
        if self._format is None:
            found = sniff(self._config.encoding, opening or self._head, is_final=True)
            assert found is not None
            self._set_format(found[0])
            self._head = b""
        self._reset_line(gap.stop)
        return items

    def finish(self) -> list[str | Gap]:
        """Return what the end of the stream completes: the unterminated last line, or the gap that was still open."""
        if self._format is None:
            found = sniff(self._config.encoding, self._head, is_final=True)
            assert found is not None
            self._set_format(found[0])
            head, self._head = self._head, b""
            self._first = self._line_start = self._line_start + found[1]
            items = self.feed(head[found[1] :])
        else:
            items = []
            self._begin_step()
        form = self._format
        assert form is not None
        ends: list[int] = []
        self._spans.append(ends)
        stop = self._line_start + self._pending_bytes
        if self._gap_start is not None:
            items.append(Gap(self._gap_start, stop))
            ends.append(stop)
            self._gap_start = None
        elif self._keep is not None:
            items.append(self._truncated(self._pending_bytes))
            ends.append(stop)
        elif self._pending_bytes and not self.has_stopped:
            start = self._line_start
            try:
                self._emit(b"".join(self._parts), stop, items, ends, form)
            except UnicodeDecodeError as error:
                self._stop_at(ends[-1] if ends else start, error)
        if not self.has_stopped:
            self._reset_line(stop)
        return items

    def _begin_step(self) -> list[int]:
        self._start = self.resume_offset
        ends: list[int] = []
        self._spans = [ends]
        return ends

    # --- split --------------------------------------------------------------------------------------------------

    @property
    def _is_plain(self) -> bool:
        """Whether the unfinished line is only too short: nothing of it was given out, cut off or lost."""
        return self._gap_start is None and self._keep is None and not self._is_inside

    def _split(self, data: bytes, position: int, stop: int, base: int, form: LineFormat) -> list[str | Gap]:
        """Give out the lines in ``data[position:stop]``, which ends with a delimiter and whose first line may have begun before."""
        body, first = position, b""
        if self._parts:
            end = data.find(form.delimiter, position)
            first = b"".join((*self._parts, data[position:end]))
            body = end + form.size
        try:
            lines: list[str | Gap] = []
            if body < stop:
                lines = form.decode_lines(data, body, stop - form.size)
            if body > position:
                lines.insert(0, form.decode(first))
        except UnicodeDecodeError:
            lines = []
            while position < stop and not self.has_stopped:  # gives out the lines before the bad one
                position = self._walk(data, position, base, lines, form)
            return lines
        self._spans.append((base, data, position, stop))
        self._parts = []
        self._pending_bytes = 0
        self._line_start = base + stop
        return lines

    def _tail(self, size: int) -> bytes:
        """The last ``size`` bytes of the unfinished line, or all of it."""
        tail = b""
        for part in reversed(self._parts):
            if len(tail) >= size:
                break
            tail = part[-(size - len(tail)) :] + tail
        return tail

    def _cut_tail(self, size: int) -> bytes:
        """Take the last ``size`` bytes, or all, off the unfinished line."""
        tail = self._tail(size)
        self._pending_bytes -= len(tail)
        left = len(tail)
        while left and left >= len(self._parts[-1]):
            left -= len(self._parts.pop())
        if left:
            self._parts[-1] = self._parts[-1][:-left]
        return tail

    # --- walk ---------------------------------------------------------------------------------------------------

    def _walk(self, data: bytes, position: int, base: int, items: list[str | Gap], form: LineFormat) -> int:
        """Go on to the end of one line, or of ``data``, and return where that is; ``base`` is the absolute offset of ``data[0]``."""
        start = self.resume_offset
        ends: list[int] = []
        self._spans.append(ends)
        found = form.find(data, position, base)
        try:
            if found < 0:
                self._add(data[position:])
                self._shorten(items, ends, form)
                return len(data)
            self._add(data[position:found])
            self._end_line(b"".join(self._parts), items, ends, form)
        except UnicodeDecodeError as error:
            self._stop_at(ends[-1] if ends else start, error)
        return found + form.size

    def _add(self, data: bytes) -> None:
        if data:
            self._parts.append(data)
            self._pending_bytes += len(data)

    def _end_line(self, content: bytes, items: list[str | Gap], ends: list[int], form: LineFormat) -> None:
        stop = self._line_start + len(content) + form.size
        if self._gap_start is not None:
            items.append(Gap(self._gap_start, stop))
            ends.append(stop)
            self._gap_start = None
        elif self._keep is not None:
            items.append(self._truncated(len(form.strip(content))))
            ends.append(stop)
        else:
            self._emit(form.strip(content), stop, items, ends, form)
        if not self.has_stopped:
            self._reset_line(stop)

    def _emit(self, content: bytes, stop: int, items: list[str | Gap], ends: list[int], form: LineFormat) -> None:
        """Give out a whole line, or the rest of one, in as many pieces as its length asks for."""
        if len(content) > self._max:
            content = self._cut(content, items, ends, form)
            if self.overflow_at is not None:
                return
        if self._keep is not None:
            items.append(self._truncated(len(content)))
        elif self._is_inside:
            items.append(CutLine(form.codec.decode(content), cut=Cut.REST))
        else:
            items.append(form.codec.decode(content))
        ends.append(stop)

    def _shorten(self, items: list[str | Gap], ends: list[int], form: LineFormat) -> None:
        """Cut the unfinished line as soon as it is certain that it is too long."""
        spare = form.spare
        if self._gap_start is not None or self._keep is not None:
            certain = self._pending_bytes - spare
            if certain > 0:
                self._forget(certain)
        elif self._pending_bytes - spare > self._max:
            content = b"".join(self._parts)
            rest = self._cut(content[: len(content) - spare], items, ends, form) + content[len(content) - spare :]
            if self.overflow_at is None:
                self._parts = [rest] if rest else []
                self._pending_bytes = len(rest)
                if self._config.overflow is Overflow.TRUNCATE:
                    self._shorten(items, ends, form)

    def _forget(self, count: int) -> None:
        """Drop the first ``count`` bytes of the unfinished line: they are lost or truncated."""
        rest = self._tail(self._pending_bytes - count)
        self._parts = [rest] if rest else []
        self._pending_bytes = len(rest)
        self._line_start += count
        if self._keep is not None:
            self._dropped += count

    def _cut(self, content: bytes, items: list[str | Gap], ends: list[int], form: LineFormat) -> bytes:
        """Apply the overflow policy to content that is too long; return what is left of it."""
        if self._config.overflow is Overflow.ERROR:
            self.overflow_at = self._line_start
            self._parts, self._pending_bytes = [], 0
            return b""
        while len(content) > self._max and self._keep is None:
            cut = form.codec.cut_before(content, self._max)
            text = form.codec.decode(content[:cut])
            if self._config.overflow is Overflow.TRUNCATE:
                self._keep_start = self._line_start
            self._line_start += cut
            content = content[cut:]
            if self._config.overflow is Overflow.TRUNCATE:
                self._keep = text
            else:
                items.append(CutLine(text, cut=Cut.CONTINUES))
                ends.append(self._line_start)
                self._is_inside = True
        return content

    def _stop_at(self, offset: int, error: UnicodeDecodeError) -> None:
        self._reset_line(offset)
        self.decode_error = error

    def _truncated(self, pending: int) -> CutLine:
        assert self._keep is not None
        return CutLine(self._keep, cut=Cut.TRUNCATED, lost_bytes=self._dropped + pending)

    def _reset_line(self, offset: int) -> None:
        self._line_start = offset
        self._parts = []
        self._pending_bytes = 0
        self._is_inside = False
        self._dropped = 0
        self._keep = None

    def _set_format(self, encoding: str) -> None:
        self._format = LineFormat(TextCodec(encoding, self._config.errors), self._config)
