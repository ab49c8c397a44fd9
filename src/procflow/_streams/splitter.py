"""Bytes in, lines out.

Owns where lines begin and end, how a long one is cut, and what of a line stream a gap takes away.  Must not know a
clock, an event loop or the operating system.

Invariants, each a property test:

* The result does not depend on how the bytes were cut into chunks.
* Lines, cut pieces and gaps tile the stream: every byte belongs to a line, its delimiter, a dropped end that a ``CutLine``
  counts, or a ``Gap``.  A gap therefore grows: it takes the unfinished line before it, and everything up to
  and with the first delimiter after it, because nobody can know whether those bytes are a whole line.
* Searching is linear: bytes that were searched are not searched again, except the length of a delimiter.

Three speeds.  *Block*: decode everything up to the last newline at once and split the text, which costs a fifth of decoding
line by line.  *Parts*: split bytes, then decode each.  *Walk*: find one delimiter after the other; only here can a line be cut
or a gap be open, and only here are code units wider than a byte aligned.
"""

from __future__ import annotations

from procflow._streams.codec import TextCodec, sniff
from procflow.events import Cut, CutLine, Gap
from procflow.policies import LineConfig, Overflow


class LineSplitter:
    """Splits the bytes of one stream, or of a stream from an offset on."""

    __slots__ = (
        "_block",
        "_codec",
        "_config",
        "_delimiter",
        "_dropped",
        "_ends",
        "_gap_start",
        "_head",
        "_is_inside",
        "_keep",
        "_keep_start",
        "_line_start",
        "_max",
        "_parts",
        "_pending_bytes",
        "_strips_return",
        "decode_error",
        "overflow_at",
    )

    def __init__(self, config: LineConfig, *, offset: int = 0, opening: bytes = b"") -> None:
        """Begin at ``offset`` of a stream that begins with ``opening``, where a byte order mark holds for all of it.

        Both are bytes of the stream, not of the reader: whoever begins in the middle reads with the order that the beginning tells.
        """
        self._config = config
        self._max = config.max_line_bytes
        self._strips_return = config.delimiter is None
        self._parts: list[bytes] = []  # the unfinished line
        self._pending_bytes = 0
        self._line_start = offset  # of the unfinished line, or of its unfinished rest
        self._head = b""  # too short to tell the byte order
        self._is_inside = False  # a piece of the current line was given out
        self._dropped = 0  # bytes of the current line that were dropped after its first piece
        self._keep: str | None = None  # that first piece, until the number of dropped bytes is known
        self._keep_start = 0
        self._gap_start: int | None = None  # lines are lost from here to the next delimiter
        self._block: tuple[int, bytes] = (offset, b"")
        self._ends: list[int] | None = None
        self.overflow_at: int | None = None
        """Offset of the line that was too long, once one was and the policy is to raise: the splitter then stops."""
        self.decode_error: UnicodeDecodeError | None = None
        """Why the next line did not decode, with ``errors="strict"``: the splitter then stops."""
        self._codec: TextCodec | None = None
        self._delimiter = b""
        found = sniff(config.encoding, opening if offset else b"", is_final=offset > 0)
        if found is not None:
            self._set_codec(found[0])

    @property
    def has_stopped(self) -> bool:
        """Whether a line could not be given out as asked, so that nothing after it is."""
        return self.overflow_at is not None or self.decode_error is not None

    @property
    def resume_offset(self) -> int:
        """Offset after everything that belongs to finished lines: where another reader can go on."""
        if self._gap_start is not None:
            return self._gap_start
        return self._line_start if self._keep is None else self._keep_start

    def offset_after(self, count: int) -> int:
        """Return the offset after the first ``count`` items of the last ``feed()``, their delimiters included."""
        start, block = self._block
        if self._ends is not None:
            return self._ends[count - 1] if count else start
        size, position = len(self._delimiter), 0
        for _ in range(count):
            found = block.find(self._delimiter, position)
            position = (found if found >= 0 else len(block)) + size
        return start + position

    def feed(self, data: bytes) -> list[str | Gap]:
        """Return what ``data``, the bytes that follow the ones fed before, completes: lines without their delimiter."""
        self._ends = None
        self._block = (self._line_start, b"")
        if self.has_stopped:
            return []
        if self._codec is None:
            self._head += data
            found = sniff(self._config.encoding, self._head, is_final=False)
            if found is None:
                return []
            data, self._head = self._head[found[1] :], b""
            self._line_start += found[1]
            self._set_codec(found[0])
        codec = self._codec
        assert codec is not None
        if (
            codec.width > 1
            or self._gap_start is not None
            or self._is_inside
            or self._dropped
            or self._keep is not None
            or self._pending_bytes + len(data) > self._max
        ):
            return self._walk(data, codec)
        if codec.can_decode_blocks and len(self._delimiter) == 1 and self._delimiter < b"\x80":
            return self._split_block(data, codec)
        return self._split_parts(data, codec)

    def gap(self, gap: Gap, *, opening: bytes = b"") -> list[str | Gap]:
        """Note that the bytes of ``gap`` come next and are lost.  Lines resume after the next delimiter.

        ``opening`` is what the stream begins with, for a reader to whom that was lost.

        Returns the first piece of a truncated line if one is pending: its end is among what is lost.
        """
        items: list[str | Gap] = []
        self._ends = []
        self._block = (self._line_start, b"")
        if self._keep is not None:
            items.append(self._truncated(self._pending_bytes))
            self._ends.append(self._line_start + self._pending_bytes)
            self._line_start += self._pending_bytes
        if self._gap_start is None:
            self._gap_start = self._line_start
        if self._codec is None:
            found = sniff(self._config.encoding, opening or self._head, is_final=True)
            assert found is not None
            self._set_codec(found[0])
            self._head = b""
        self._reset_line(gap.stop)
        return items

    def finish(self) -> list[str | Gap]:
        """Return what the end of the stream completes: the unterminated last line, or the gap that was still open."""
        items: list[str | Gap] = []
        self._ends = None
        if self._codec is None:
            found = sniff(self._config.encoding, self._head, is_final=True)
            assert found is not None
            self._set_codec(found[0])
            head, self._head = self._head, b""
            self._line_start += found[1]
            items += self.feed(head[found[1] :])
        codec = self._codec
        assert codec is not None
        stop = self._line_start + self._pending_bytes
        if self._gap_start is not None:
            items.append(Gap(self._gap_start, stop))
            self._gap_start = None
        elif self._keep is not None:
            items.append(self._truncated(self._pending_bytes))
        elif self._pending_bytes and not self.has_stopped:
            try:
                self._emit(b"".join(self._parts), stop, items, [], codec)
            except UnicodeDecodeError as error:
                self._stop_at(self._line_start, error)
        if not self.has_stopped:
            self._reset_line(stop)
        self._block = (self._line_start, b"")
        self._ends = [self._line_start] * len(items)
        return items

    def _stop_at(self, offset: int, error: UnicodeDecodeError) -> None:
        self._reset_line(offset)
        self.decode_error = error

    # --- block and parts ----------------------------------------------------------------------------------------

    def _split_block(self, data: bytes, codec: TextCodec) -> list[str | Gap]:
        cut = data.rfind(self._delimiter)
        if cut < 0:
            self._parts.append(data)
            self._pending_bytes += len(data)
            return []
        block = data[:cut]
        if self._parts:
            self._parts.append(block)
            block = b"".join(self._parts)
        try:
            text = str(block, codec.name, codec.errors)
        except UnicodeDecodeError:
            self._parts, self._pending_bytes = [], 0
            return self._split_parts(block + data[cut:], codec)  # gives out the lines before the bad one
        lines: list[str | Gap] = text.split(chr(self._delimiter[0]))  # type: ignore[assignment]  # a list of str is one
        if self._strips_return and b"\r" in block:
            lines = [line[:-1] if line[-1:] == "\r" else line for line in lines]  # type: ignore[index]  # all are str
        self._block = (self._line_start, block)
        self._line_start += len(block) + 1
        rest = data[cut + 1 :]
        self._parts = [rest] if rest else []
        self._pending_bytes = len(rest)
        return lines

    def _split_parts(self, data: bytes, codec: TextCodec) -> list[str | Gap]:
        size = len(self._delimiter)
        if self._parts:
            seam = self._tail(size - 1)
            self._parts.append(data)
            self._pending_bytes += len(data)
            if self._delimiter not in seam + data:
                return []
            data = b"".join(self._parts)
        pieces = data.split(self._delimiter)
        rest = pieces.pop()
        self._parts = [rest] if rest else []
        self._pending_bytes = len(rest)
        self._block = (self._line_start, data[: len(data) - len(rest) - size] if pieces else b"")
        self._line_start += len(data) - len(rest)
        lines: list[str | Gap] = []
        try:
            for piece in pieces:
                lines.append(codec.decode(self._strip(piece, codec)))  # noqa: PERF401 (what was decoded before an error stays)
        except UnicodeDecodeError as error:
            self._stop_at(self.offset_after(len(lines)), error)
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

    def _walk(self, data: bytes, codec: TextCodec) -> list[str | Gap]:
        items: list[str | Gap] = []
        ends: list[int] = []
        self._ends = ends
        size = len(self._delimiter)
        buffer = self._cut_tail(size + codec.width - 2) + data if self._parts else data
        base = self._line_start + self._pending_bytes
        position = 0
        while not self.has_stopped:
            found = self._find(buffer, position, base, codec)
            if found < 0:
                self._add(buffer[position:])
                start = self.resume_offset
                try:
                    self._shorten(items, ends, codec)
                except UnicodeDecodeError as error:
                    self._stop_at(ends[-1] if ends else start, error)
                break
            self._add(buffer[position:found])
            start = self.resume_offset
            try:
                self._end_line(b"".join(self._parts), items, ends, codec)
            except UnicodeDecodeError as error:
                self._stop_at(ends[-1] if ends else start, error)
            position = found + size
        return items

    def _find(self, data: bytes, position: int, base: int, codec: TextCodec) -> int:
        """Find a delimiter that begins at a whole code unit; ``base`` is the absolute offset of ``data[0]``."""
        found = data.find(self._delimiter, position)
        while found >= 0 and (base + found) % codec.width:
            found = data.find(self._delimiter, found + 1)
        return found

    def _add(self, data: bytes) -> None:
        if data:
            self._parts.append(data)
            self._pending_bytes += len(data)

    def _end_line(self, content: bytes, items: list[str | Gap], ends: list[int], codec: TextCodec) -> None:
        stop = self._line_start + len(content) + len(self._delimiter)
        if self._gap_start is not None:
            items.append(Gap(self._gap_start, stop))
            ends.append(stop)
            self._gap_start = None
        elif self._keep is not None:
            items.append(self._truncated(len(self._strip(content, codec))))
            ends.append(stop)
        else:
            self._emit(self._strip(content, codec), stop, items, ends, codec)
        if not self.has_stopped:
            self._reset_line(stop)

    def _strip(self, content: bytes, codec: TextCodec) -> bytes:
        return content.removesuffix(codec.return_) if self._strips_return else content

    def _emit(self, content: bytes, stop: int, items: list[str | Gap], ends: list[int], codec: TextCodec) -> None:
        """Give out a whole line, or the rest of one, in as many pieces as its length asks for."""
        if len(content) > self._max:
            content = self._cut(content, items, ends, codec)
            if self.overflow_at is not None:
                return
        if self._keep is not None:
            items.append(self._truncated(len(content)))
        elif self._is_inside:
            items.append(CutLine(codec.decode(content), cut=Cut.REST))
        else:
            items.append(codec.decode(content))
        ends.append(stop)

    def _shorten(self, items: list[str | Gap], ends: list[int], codec: TextCodec) -> None:
        """Cut the unfinished line as soon as it is certain that it is too long."""
        # the last bytes may turn out to be a delimiter, or the CR before one
        spare = len(self._delimiter) + (len(codec.return_) if self._strips_return else 0) - 1
        if self._gap_start is not None or self._keep is not None:
            certain = self._pending_bytes - spare
            if certain > 0:
                self._forget(certain)
        elif self._pending_bytes - spare > self._max:
            content = b"".join(self._parts)
            rest = self._cut(content[: len(content) - spare], items, ends, codec) + content[len(content) - spare :]
            if self.overflow_at is None:
                self._parts = [rest] if rest else []
                self._pending_bytes = len(rest)
                if self._config.overflow is Overflow.TRUNCATE:
                    self._shorten(items, ends, codec)

    def _forget(self, count: int) -> None:
        """Drop the first ``count`` bytes of the unfinished line: they are lost or truncated."""
        rest = self._tail(self._pending_bytes - count)
        self._parts = [rest] if rest else []
        self._pending_bytes = len(rest)
        self._line_start += count
        if self._keep is not None:
            self._dropped += count

    def _cut(self, content: bytes, items: list[str | Gap], ends: list[int], codec: TextCodec) -> bytes:
        """Apply the overflow policy to content that is too long; return what is left of it."""
        if self._config.overflow is Overflow.ERROR:
            self.overflow_at = self._line_start
            self._parts, self._pending_bytes = [], 0
            return b""
        while len(content) > self._max and self._keep is None:
            cut = codec.cut_before(content, self._max)
            text = codec.decode(content[:cut])
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

    def _set_codec(self, name: str) -> None:
        self._codec = TextCodec(name, self._config.errors)
        self._delimiter = self._codec.newline if self._config.delimiter is None else self._config.delimiter
