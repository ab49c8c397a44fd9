"""The envelope around every event, and the codec between events and lines of NDJSON.

Owns the four words that every line carries (``type``, ``seq``, ``at_ms``, ``mono_ns``), the rule that a reader keeps
what it does not know, and nothing of what particular events mean.  Must not know clocks, files or loops: whoever
emits an event passes the numbers to ``stamped()``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Generic, TypeVar, Union

import msgspec

UNSTAMPED: Final = -1
"""Value of ``seq``, ``at_ms`` and ``mono_ns`` before the event was emitted; never on the wire."""


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type"):
    """Base of every event: a subclass adds its ``tag`` and its own fields.

    A new field must have a default, so that a reader of the next version understands the lines of this one; fields
    that a reader does not know are skipped.

    Attributes:
        seq: 0, 1, 2, ... without holes within one stream.
        at_ms: Wall clock in milliseconds since 1970, UTC; it may go backwards.
        mono_ns: Monotonic nanoseconds since the stream began.
    """

    seq: int = UNSTAMPED
    at_ms: int = UNSTAMPED
    mono_ns: int = UNSTAMPED


E_co = TypeVar("E_co", bound=Event, covariant=True)
AnyEvent = TypeVar("AnyEvent", bound=Event)


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """The envelope alone, as it is read from any line, of whatever type."""

    type: str
    seq: int = UNSTAMPED
    at_ms: int = UNSTAMPED
    mono_ns: int = UNSTAMPED


class Unknown(msgspec.Struct, frozen=True, kw_only=True):
    """An event of a type that this version does not know, kept byte for byte."""

    head: Head
    raw: bytes


class MalformedEventError(ValueError):
    """A line is not an event: no JSON object, no ``type``, or a known type with a field of the wrong kind.

    Attributes:
        line: The line as it was read, without its newline.
    """

    def __init__(self, line: bytes, reason: str) -> None:
        self.line = line
        super().__init__(f"the line of {len(line)} bytes is not an event: {reason}")


def stamped(event: AnyEvent, *, seq: int, at_ms: int, mono_ns: int) -> AnyEvent:
    """Return a copy of ``event`` that carries its place and time in the stream."""
    return msgspec.structs.replace(event, seq=seq, at_ms=at_ms, mono_ns=mono_ns)


class EventCodec(Generic[E_co]):
    """Turns the events of one closed family into lines and lines into events.

    Not safe for use by two threads at once.
    """

    def __init__(self, types: Sequence[type[E_co]], *, synonyms: Mapping[str, str] | None = None) -> None:
        """Prepare for events of ``types``; every one needs its own ``tag``.

        ``synonyms`` maps names of types that were written once to those of today; they are accepted, and never written.
        """
        self._decoders: dict[str, msgspec.json.Decoder[E_co]] = {
            _tag(event_type): msgspec.json.Decoder(event_type) for event_type in types
        }
        if len(self._decoders) != len(types):
            raise ValueError("two event types share one tag")
        self._types = {_tag(event_type): event_type for event_type in types}
        self._synonyms = dict(synonyms or {})
        # A union of one is not asked for its tag.
        self._any: msgspec.json.Decoder[E_co] | None = (
            msgspec.json.Decoder(Union[tuple(types)]) if len(types) > 1 else None  # noqa: UP007 (made when it runs)
        )
        self._heads = msgspec.json.Decoder(Head)
        self._encoder = msgspec.json.Encoder()

    def encode(self, event: Event) -> bytes:
        """Return ``event`` as one line of JSON, with its newline."""
        line = bytearray()
        self._encoder.encode_into(event, line)
        line += b"\n"
        return bytes(line)

    def decode(self, line: bytes) -> E_co | Unknown:
        """Return the event on ``line`` (with or without its newline).

        Raises:
            MalformedEventError: If the line is no event at all, or a broken one of a known type.
        """
        line = line.rstrip(b"\r\n")
        if self._any is not None:
            try:  # one look at nearly every line
                return self._any.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                pass  # looked at again, for its type and for what is wrong
        try:
            head = self._heads.decode(line)
            decoder = self._decoders.get(head.type)
            if decoder is not None:
                return decoder.decode(line)
            today = self._synonyms.get(head.type)
            if today is None:
                return Unknown(head=head, raw=line)
            return msgspec.convert({**msgspec.json.decode(line), "type": today}, self._types[today])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            raise MalformedEventError(line, str(exc)) from exc


def tag_of(event: Event) -> str:
    """Return the ``type`` of an event, as it stands on its line."""
    return _tag(type(event))


def _tag(event_type: type[Event]) -> str:
    tag = event_type.__struct_config__.tag
    if not isinstance(tag, str):
        raise TypeError(f"{event_type.__name__} has no tag of its own")
    return tag
