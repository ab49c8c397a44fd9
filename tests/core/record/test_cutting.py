"""Events that are too long for a line."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from procflow.record.codec import RecordCodec
from procflow.record.cutting import MAX_LINE_BYTES, fit
from procflow.record.envelope import stamped
from procflow.record.events import (
    ErrorInfo,
    JobFinished,
    JobStarted,
    Note,
    RecordEvent,
    RedactionInfo,
    ShStarted,
)
from tests.core.record.sample import header
from tests.core.record.strategies import any_event

CODEC = RecordCodec()


def call(*argv: str, **more: object) -> ShStarted:
    fields = {"seq": 1, "at_ms": 1, "mono_ns": 1, "job_id": "build", "attempt": 1, "sh": 1, "cmd": "x", "cwd": "/"}
    return msgspec.convert({"type": "sh_started", **fields, "argv": argv, **more}, ShStarted)


def test_what_fits_is_left_alone() -> None:
    """RR-100: a line of exactly the bound is not cut; one byte more is."""
    event = call("x" * 1000)
    size = len(CODEC.encode(event))

    assert fit(event, CODEC, max_line_bytes=size) == (CODEC.encode(event), event)
    assert fit(event, CODEC, max_line_bytes=size - 1)[1].cut == {"argv.0": 1000}


def test_a_vector_of_two_mebibytes_is_recorded_cut() -> None:
    """RR-100: the largest strings are cut, the small ones stay, and the original sizes are told."""
    big = "é" * (1 << 20)
    line, event = fit(call("prog", "-x", big, cmd=f"prog -x {big}"), CODEC)

    assert len(line) <= MAX_LINE_BYTES
    assert len(line) > MAX_LINE_BYTES * 0.9
    assert CODEC.decode(line) == event
    assert event.argv[:2] == ("prog", "-x")
    assert event.argv[2].startswith("ééé")
    assert event.argv[2].endswith("é…[cut: 2097152 bytes]")
    assert event.cut == {"argv.2": 2 << 20, "cmd": (2 << 20) + 8}


def test_base64_goes_first() -> None:
    """RR-100: half of a base64 text is worth nothing, so it goes whole, and the readable text stays."""
    big = "A" * 200_000
    _, event = fit(call("x" * 100_000, argv_b64=[big], cwd_b64="L/4="), CODEC)

    assert (event.argv_b64, event.cwd_b64) == (None, None)
    assert len(event.argv[0]) == 100_000
    assert event.cut == {"argv_b64": 200_004, "cwd_b64": 6}


def test_a_vector_of_very_many_words_loses_its_end() -> None:
    """RR-100: where no word is long, the list is cut, and `cut` tells what it took."""
    line, event = fit(call(*(f"file-{number}" for number in range(100_000))), CODEC)

    assert len(line) <= MAX_LINE_BYTES
    assert event.argv[0] == "file-0"
    assert 1000 < len(event.argv) < 100_000
    assert event.cut is not None
    assert event.cut["argv"] > 1 << 20


def test_keys_are_not_cut_while_anything_else_can_be() -> None:
    """RR-100: what pairs a start with its finish survives a long error message."""
    long_id = "j" * 1024
    event = JobFinished(
        seq=1, at_ms=1, mono_ns=1, job_id=long_id, attempt=1, outcome="errored", duration_ns=1,
        error=ErrorInfo(type="ValueError", message="\x00" * 300_000),
    )  # fmt: skip

    line, cut = fit(event, CODEC)

    assert len(line) <= MAX_LINE_BYTES
    assert cut.job_id == long_id
    assert cut.error is not None
    assert cut.error.type == "ValueError"
    assert cut.cut == {"error.message": 300_000}


def test_even_a_key_is_cut_before_an_event_is_dropped() -> None:
    """RR-100: never a dropped event, whatever is too long."""
    line, event = fit(JobStarted(seq=1, at_ms=1, mono_ns=1, job_id="j" * 400_000, attempt=1), CODEC)

    assert len(line) <= MAX_LINE_BYTES
    assert event.cut == {"job_id": 400_000}


def test_a_note_too_deep_to_cut_is_told_by_its_size() -> None:
    """RR-100: half a structure would be another one, so a value of very many parts becomes the mark."""
    line, event = fit(Note(seq=1, at_ms=1, mono_ns=1, key="a.b", value=[[1]] * 200_000), CODEC)

    assert len(line) < 200
    assert str(event.value).startswith("…[cut: ")


@pytest.mark.parametrize("count", [1, 70, 5000])
def test_many_long_strings_come_to_one_level(count: int) -> None:
    """RR-100: no string is cut shorter than a smaller one stays, and what tells of many cuts has a bound itself."""
    line, event = fit(call(*("y" * 3000 for _ in range(count)), "z" * 400_000), CODEC)

    assert len(line) <= MAX_LINE_BYTES
    kept = {len(word) for word in event.argv[:count]}
    assert len(kept) == 1
    assert event.cut is not None
    assert len(event.cut) <= 70


def enlarged(value: object, times: int) -> object:
    """Return ``value`` with every text and every list in it ``times`` as long."""
    match value:
        case str():
            return value * times
        case list():
            return [enlarged(item, times) for item in value] * times
        case dict():
            return {key: enlarged(item, times) for key, item in value.items()}
        case _:
            return value


@settings(max_examples=60, deadline=None)
@given(event=any_event, times=st.sampled_from([1, 3, 40, 400]))
def test_every_event_fits(event: RecordEvent, times: int) -> None:
    """RR-100: for any event, however long its texts and lists: the line fits, is valid, and is the event that is returned."""
    bound = 2500
    fields = msgspec.json.decode(CODEC.encode(event), type=dict[str, object])
    own = ("type", "format", "requires", "cut")  # what a release says itself
    fields = {name: value if name in own else enlarged(value, times) for name, value in fields.items()}
    event = msgspec.convert(fields, type(event))

    line, shortened = fit(event, CODEC, max_line_bytes=bound)

    assert len(line) <= bound
    assert CODEC.encode(shortened) == line
    assert type(shortened) is type(event)
    if shortened != event:
        assert shortened.cut


def test_a_name_in_a_map_may_be_too_long_too() -> None:
    """RR-100: what would tell of a cut must not itself be too long."""
    event = header(
        meta={"k" * 300_000: "v" * 300_000, "why": "cron"},
        redaction=RedactionInfo(enabled=True, rules=("rule",) * 90_000),
    )

    line, shortened = fit(stamped(event, seq=0, at_ms=0, mono_ns=0), CODEC)

    assert len(line) <= MAX_LINE_BYTES
    assert shortened.cut is not None
    assert set(shortened.cut) == {"meta", "redaction.rules"}
    assert shortened.redaction.rules[0] == "rule"
