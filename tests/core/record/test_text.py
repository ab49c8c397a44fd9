"""Arguments and paths as text of a record."""

from __future__ import annotations

import base64
import os
import shlex

from hypothesis import given, settings
from hypothesis import strategies as st

from procflow.record.codec import RecordCodec
from procflow.record.events import ShStarted
from procflow.record.text import command_line, path_text, readable, words

argv_bytes = st.lists(st.binary(max_size=10).filter(lambda word: b"\0" not in word), max_size=4)


def test_words_of_utf_8_are_the_whole_truth() -> None:
    """RR-06: base64 is there only where the text is not enough."""
    said = words(["grep", "-e", "ä\n\\x41", b"\xe2\x82\xac"])

    assert said.readable == ("grep", "-e", "ä\n\\x41", "€")
    assert said.in_base64 is None
    assert path_text("/tmp/ü") == ("/tmp/ü", None)


def test_odd_bytes_are_shown_and_kept() -> None:
    """RR-06: `\\xNN` for people, base64 of all words for programs; the same for `cwd`."""
    said = words(["cat", os.fsdecode(b"a\xff\xfeb")])

    assert said.readable == ("cat", "a\\xff\\xfeb")
    assert said.in_base64 == ("Y2F0", base64.b64encode(b"a\xff\xfeb").decode())
    assert path_text(b"/x/\x80") == ("/x/\\x80", base64.b64encode(b"/x/\x80").decode())


@settings(max_examples=60, deadline=None)
@given(argv_bytes)
def test_no_argv_is_lost_or_refused(argv: list[bytes]) -> None:
    """RR-06: for every vector that exec takes, given as bytes or as `os.fsdecode()` made it, the bytes can be had again."""
    said = words(argv)
    assert said == words([word.decode("utf-8", "surrogateescape") for word in argv])

    if said.in_base64 is None:
        assert [word.encode() for word in said.readable] == argv
    else:
        assert [base64.b64decode(word) for word in said.in_base64] == argv

    event = ShStarted(
        seq=1, at_ms=1, mono_ns=1, job_id="a", attempt=1, sh=1, argv=said.readable, argv_b64=said.in_base64,
        cmd=command_line(said.readable), cwd="/",
    )  # fmt: skip
    codec = RecordCodec()
    assert codec.decode(codec.encode(event)) == event


@given(st.text(max_size=20) | st.binary(max_size=20))
def test_any_text_becomes_readable(text: str | bytes) -> None:
    """RR-06: also a message with halves of surrogate pairs becomes Unicode."""
    readable(text).encode("utf-8")


def test_half_a_surrogate_pair_is_readable() -> None:
    """RR-06: what no system call would take is still no error."""
    assert readable("a\ud800") == "a\\xed\\xa0\\x80"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=8), max_size=4))
def test_a_command_line_splits_into_its_words(argv: list[str]) -> None:
    """RR-07: `shlex.split(cmd)` gives `argv` back."""
    assert shlex.split(command_line(argv)) == argv
