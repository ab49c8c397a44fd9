"""Taking secrets out of bytes that arrive in pieces.

Problem: a secret may be split across any reads.  So as many bytes are held back as the longest of what is searched for, less
one.  A part that is taken out may go on for ever (a secret that is written again and again), so it is not held: its bytes
are let go, and its marker is due when it ends.  Markers that pass through are left alone unless a pause cut them.

Bytes that were released before a secret was added cannot be taken back.  Owns no clock: whoever reads says when the stream
is idle.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from procflow.record.redaction.markers import marker, markers_in
from procflow.record.redaction.matching import NeedleTable, found_between
from procflow.redaction.matching import held_bytes
from procflow.redaction.spans import Span, merged


class Piece(NamedTuple):
    """Bytes that may be shown, and the offset in the stream of the first byte that they stand for.

    A marker stands for a part of any length; other bytes stand for themselves.
    """

    data: bytes
    offset: int
    is_marker: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _OpenSpan:
    """A part that is taken out and may go on.

    Attributes:
        offset: Where it began.
        names: Of what was found in it so far.
        covered_bytes: How many of the held bytes belong to it.
    """

    offset: int
    names: frozenset[str]
    covered_bytes: int


class StreamRedactor:
    """One stream without its secrets: what comes out is what a redaction of the whole would give.

    Not safe for use by two threads at once.
    """

    __slots__ = ("_count", "_held", "_offset", "_open", "_table")

    def __init__(self, table: Callable[[], NeedleTable], count: Callable[[int], None]) -> None:
        """Redact by what ``table`` returns at the moment of each step; ``count`` is told how many parts were replaced."""
        self._table = table
        self._count = count
        self._held = b""
        self._offset = 0
        self._open: _OpenSpan | None = None

    def __repr__(self) -> str:
        return f"<StreamRedactor at {self._offset}, {len(self._held)} bytes held>"

    @property
    def is_holding(self) -> bool:
        """Whether anything was fed that did not come out yet."""
        return bool(self._held) or self._open is not None

    @property
    def held_offset(self) -> int:
        """The offset of the first byte that is held."""
        return self._offset

    @property
    def pending_offset(self) -> int:
        """The offset of the first byte that did not come out, nor its marker."""
        return self._offset if self._open is None else self._open.offset

    def feed(self, data: bytes) -> bytes:
        """Take ``data``, the next bytes of the stream, and return what may be shown now."""
        return _joined(self.feed_pieces(data))

    def flush_idle(self) -> bytes:
        """Return what may be shown because nothing more came for a while.

        Held are only bytes that are the beginning of a form of a secret, for as long as nothing follows them.
        """
        return _joined(self.flush_idle_pieces())

    def finish(self) -> bytes:
        """Return everything that is held: the stream has ended."""
        return _joined(self.finish_pieces())

    def feed_pieces(self, data: bytes) -> list[Piece]:
        """Do what ``feed()`` does, and say where the bytes come from."""
        table = self._table()
        text = self._held + data
        return self._release(text, max(0, len(text) - table.hold_bytes), table)

    def flush_idle_pieces(self) -> list[Piece]:
        """Do what ``flush_idle()`` does, and say where the bytes come from."""
        table = self._table()
        held = max((held_bytes(needle.text, self._held) for needle in table.in_bytes), default=0)
        return self._release(self._held, len(self._held) - held, table, is_last=held == 0)

    def finish_pieces(self) -> list[Piece]:
        """Do what ``finish()`` does, and say where the bytes come from."""
        if not self.is_holding:
            return []
        return self._release(self._held, len(self._held), self._table(), is_last=True)

    def _release(self, text: bytes, cut: int, table: NeedleTable, *, is_last: bool = False) -> list[Piece]:
        """Let go of ``text`` up to ``cut``; whatever is found and begins before ``cut`` must be in ``text`` as a whole."""
        holes = markers_in(text, table.known)
        for start, stop in holes:
            if start < cut < stop:
                cut = stop
        spans = [span for span in found_between(text, table.likely_in(text), holes) if span.start < cut]
        before = self._open
        if before is not None:
            spans.append(Span(0, before.covered_bytes, before.names))
        self._open = None
        pieces: list[Piece] = []
        done = replaced_count = 0
        for span in merged(spans):
            if span.start > done:
                pieces.append(Piece(text[done : span.start], self._offset + done))
            origin = before.offset if before is not None and span.start == 0 else self._offset + span.start
            if span.stop < cut or is_last:
                pieces.append(Piece(marker(span.names).encode(), origin, is_marker=True))
                replaced_count += 1
                done = span.stop
            else:
                self._open = _OpenSpan(offset=origin, names=span.names, covered_bytes=span.stop - cut)
                done = cut
        if done < cut:
            pieces.append(Piece(text[done:cut], self._offset + done))
        self._held = text[cut:]
        self._offset += cut
        if replaced_count:
            self._count(replaced_count)
        return pieces


def _joined(pieces: list[Piece]) -> bytes:
    return pieces[0].data if len(pieces) == 1 else b"".join(piece.data for piece in pieces)
