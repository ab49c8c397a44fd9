"""Secrets in bytes that arrive in pieces."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procflow.record.redaction import RedactionRules, Redactor, Secret

KEY = "first-line-of-it\nsecond-line-of-it\n"
NAMES = {"hunter2-hunter2": "db", "2-hunter2-tail": "tail", "aaaaaaaa": "a", KEY: "key", ">suffix12": "end"}


def redactor() -> Redactor:
    return Redactor([Secret(value, name=name) for value, name in NAMES.items()], rules=RedactionRules.none())


TEXTS = st.lists(
    st.sampled_from([value.encode() for value in NAMES])
    | st.sampled_from([b"hunter2-", b"aaaa", b"<redacted:db>", b"<redacted", b"suffix12", b"\n"])
    | st.sampled_from([base64.b64encode(b"x" + value.encode()) for value in NAMES])
    | st.binary(max_size=6),
    max_size=8,
).map(b"".join)


def test_every_split_in_two_is_found() -> None:
    """RR-79: wherever two reads divide a stream, what comes out is the redaction of the whole."""
    made = redactor()
    whole = (
        b"a hunter2-hunter2-tail b aaaaaaaaaaaaaa c <redacted:db>suffix12 "
        + KEY.encode() * 2
        + base64.b64encode(b"xhunter2-hunter2")
    )
    expected = made.redact_bytes(whole)

    for at in range(len(whole) + 1):
        stream = made.stream()
        assert stream.feed(whole[:at]) + stream.feed(whole[at:]) + stream.finish() == expected


def test_a_stream_of_single_bytes_is_the_redaction_of_the_whole() -> None:
    """RR-77, RR-79: secrets that touch are one marker wherever a read ends, and markers that pass through stay as they are."""
    made = Redactor(
        [Secret("hunter2-hunter2", name="db"), Secret("a" * 8, name="a"), Secret("reaches-in-<red", name="in")],
        rules=RedactionRules.none(),
    )
    whole = b"." * 90 + b"hunter2-hunter2aaaaaaaaa" + b"." * 90 + b"reaches-in-<redacted:a,db,in>" + b"." * 90
    expected = b"." * 90 + b"<redacted:a,db>" + b"." * 90 + b"reaches-in-<redacted:a,db,in>" + b"." * 90

    stream = made.stream()
    shown = b"".join([stream.feed(whole[at : at + 1]) for at in range(len(whole))]) + stream.finish()

    assert shown == made.redact_bytes(whole) == expected


@given(data=st.data(), whole=TEXTS)
def test_every_chunking_is_found(data: st.DataObject, whole: bytes) -> None:
    """RR-79: in whatever pieces a stream arrives, what comes out is the redaction of the whole."""
    made = redactor()
    stream = made.stream()
    shown, at = b"", 0
    while at < len(whole):
        length = data.draw(st.integers(1, len(whole) - at))
        shown += stream.feed(whole[at : at + length])
        at += length

    assert shown + stream.finish() == made.redact_bytes(whole)
    assert not stream.is_holding


@given(data=st.data(), whole=TEXTS)
def test_no_secret_gets_through_pauses(data: st.DataObject, whole: bytes) -> None:
    """RR-79: a stream that is flushed at any moment shows no secret that crosses the moment."""
    stream = redactor().stream()
    pieces = [b""]
    for byte in whole:
        pieces.append(stream.feed(bytes((byte,))))
        if data.draw(st.booleans()):
            pieces.append(stream.flush_idle())
    shown = b"".join((*pieces, stream.finish()))

    for name in NAMES.values():
        shown = shown.replace(b"<redacted:%b>" % name.encode(), b"\0")
    assert not any(value.encode() in shown for value in NAMES if not value.startswith(">"))


def test_a_pause_releases_what_is_no_beginning_of_a_secret() -> None:
    """RR-79: after a flush only the bytes that may become a secret are held, as long as nothing follows."""
    stream = redactor().stream()

    assert stream.feed(b"Password: hunter") == b""
    assert stream.flush_idle() == b"Password: "
    assert stream.flush_idle() == b""
    assert stream.is_holding
    assert stream.feed(b"s ") == b""
    assert stream.flush_idle() == b"hunters "
    assert not stream.is_holding


def test_a_pause_after_a_secret_shows_its_marker() -> None:
    """RR-79: a secret at the end of what came so far is replaced when the stream rests."""
    stream = redactor().stream()
    assert stream.feed(b"x hunter2-hunter2\n") == b""
    assert stream.flush_idle() == b"x <redacted:db>\n"
    assert stream.feed(b"hunter2-hunter2") == b""

    # It may go on as the other one, whose beginning it ends with.
    assert stream.flush_idle() == b""
    assert stream.feed(b"-tail.") + stream.flush_idle() == b"<redacted:db,tail>."


def test_held_bytes_are_bounded() -> None:
    """RR-79: however long a part is that is taken out, no more is held than the longest form of a secret and a marker."""
    made = redactor()
    stream = made.stream()
    for _ in range(1000):
        assert stream.feed(b"a" * 1000) == b""
        assert len(stream._held) <= made._table.hold_bytes
    assert stream.finish() == b"<redacted:a>"
    assert made.statistics().replaced_count == 1


def test_a_secret_that_is_added_later_counts_in_open_streams() -> None:
    """RR-83: what is read from then on is searched for it."""
    made = Redactor(rules=RedactionRules.none())
    stream = made.stream()
    assert stream.feed(b"hunter2-hunter2 ") == b"hunter2-hunter2 "

    made.add(Secret("hunter2-hunter2", name="db"))

    assert stream.feed(b"hunter2-hunter2 ") + stream.finish() == b"<redacted:db> "


@given(data=st.data(), whole=TEXTS)
def test_pieces_say_where_they_come_from(data: st.DataObject, whole: bytes) -> None:
    """RR-68: each piece knows the offset of the first byte that it stands for, so that it has a time."""
    stream = redactor().stream()
    pieces, at = [], 0
    while at < len(whole):
        length = data.draw(st.integers(1, len(whole) - at))
        pieces += stream.feed_pieces(whole[at : at + length])
        at += length
    pieces += stream.finish_pieces()

    assert [piece.offset for piece in pieces] == sorted(piece.offset for piece in pieces)
    for piece in pieces:
        if not piece.data.startswith(b"<redacted"):
            assert whole.startswith(piece.data, piece.offset)


@pytest.mark.parametrize("rules", [RedactionRules(), RedactionRules.none()])
def test_a_stream_without_secrets_holds_nothing(rules: RedactionRules) -> None:
    """RR-79: with nothing to search for, every byte comes out at once; the rules do not apply to output."""
    stream = Redactor(rules=rules).stream()

    assert stream.feed(b"--password x") == b"--password x"
    assert stream.flush_idle() == stream.finish() == b""
