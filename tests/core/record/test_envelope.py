"""The envelope of events and its codec."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procflow.record import Event, EventCodec, MalformedEventError, Unknown, stamped


class Said(Event, tag="said", frozen=True, kw_only=True):
    words: str
    count: int = 0


class Done(Event, tag="done", frozen=True, kw_only=True):
    pass


def codec() -> EventCodec[Said | Done]:
    return EventCodec((Said, Done))


@given(
    words=st.text(),
    count=st.integers(),
    seq=st.integers(min_value=0, max_value=2**63),
    at_ms=st.integers(min_value=0, max_value=2**53),
)
def test_every_event_survives_the_line(words: str, count: int, seq: int, at_ms: int) -> None:
    """RR-1: an event is one line of JSON, and reads back as it was."""
    event = stamped(Said(words=words, count=count), seq=seq, at_ms=at_ms, mono_ns=0)

    line = codec().encode(event)

    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert codec().decode(line) == event


def test_the_envelope_is_always_written() -> None:
    """RR-1: `type`, `seq`, `at_ms` and `mono_ns` are on every line, zeros too."""
    line = codec().encode(stamped(Done(), seq=0, at_ms=0, mono_ns=0))

    assert json.loads(line) == {"type": "done", "seq": 0, "at_ms": 0, "mono_ns": 0}


def test_an_unknown_type_is_kept_byte_for_byte() -> None:
    """RR-9: a reader keeps what a newer writer says."""
    line = b'{"type":"sung","seq":3,"at_ms":1,"mono_ns":2,"notes":[1, 2]}'

    event = codec().decode(line + b"\n")

    assert isinstance(event, Unknown)
    assert (event.head.type, event.head.seq, event.raw) == ("sung", 3, line)


def test_unknown_fields_are_skipped() -> None:
    """RR-9: a known type with a new field is still that type."""
    assert codec().decode(b'{"type":"done","seq":1,"at_ms":1,"mono_ns":1,"new":{}}') == Done(seq=1, at_ms=1, mono_ns=1)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"null",
        b"[]",
        b"{}",
        b'{"seq":1}',
        b'{"type":"said"}',
        b'{"type":"said","words":1}',
        b'{"type":',
        b"\xff",
    ],
)
def test_a_broken_line_is_one_error_with_the_line(line: bytes) -> None:
    """E-32: a line that does not parse can be counted and shown."""
    with pytest.raises(MalformedEventError) as caught:
        codec().decode(line)

    assert caught.value.line == line.rstrip(b"\n")


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(line: bytes) -> None:
    """E-32: whatever arrives, the reader has one error to expect."""
    with contextlib.suppress(MalformedEventError):
        codec().decode(line)


def test_deep_nesting_is_a_broken_line() -> None:
    """E-32: a hostile line cannot end the reader."""
    with pytest.raises(MalformedEventError):
        codec().decode(b'{"type":"said","words":' + b"[" * 100_000)


def test_two_types_of_one_tag_are_refused() -> None:
    """RR-1: a tag means one thing."""

    class Also(Event, tag="done", frozen=True, kw_only=True):
        pass

    with pytest.raises(ValueError, match="tag"):
        EventCodec((Done, Also))
