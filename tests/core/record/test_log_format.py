"""Lines of logs, and streams as lines."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procflow.record.logs.cap import output_in
from procflow.record.logs.format import (
    MAX_FRAGMENT_BYTES,
    MAX_LINE_BYTES,
    Dropped,
    LogLine,
    LogStream,
    MalformedLineError,
    decode_line,
    encode_dropped,
    encode_line,
)
from procflow.record.logs.lane import IDLE_NS, LogLane
from procflow.record.logs.splitter import LineSplitter
from procflow.record.redaction import RedactionRules, Redactor, Secret

STREAMS = st.sampled_from(LogStream)
DATA = st.binary().map(lambda data: data.replace(b"\n", b""))
CHUNKS = st.lists(
    st.sampled_from(
        [b"\n", b"\r\n", b"a\n\n", b"x" * MAX_FRAGMENT_BYTES, b"y" * (MAX_FRAGMENT_BYTES * 2 + 1), b"\0", b"\xff"]
    )
    | st.binary(max_size=20),
    max_size=8,
)


def lines_of(log: bytes) -> list[LogLine]:
    assert log == b"" or log.endswith(b"\n")
    found = [decode_line(line) for line in log.split(b"\n")[:-1]]
    assert all(isinstance(line, LogLine) for line in found)
    return found  # type: ignore[return-value]  # asserted


def test_a_line_as_it_is_written() -> None:
    """RR-67: an instant of RFC 3339 in UTC with nanoseconds, the stream, F or P, and the bytes."""
    at_ns = int(datetime(2026, 11, 29, 13, 28, 15, tzinfo=UTC).timestamp()) * 10**9 + 123
    line = LogLine(at_ns=at_ns, stream=LogStream.STDOUT, data=b"a\r\0\xff b ", is_whole=True)

    assert encode_line(line) == b"2026-11-29T13:28:15.000000123Z stdout F a\r\0\xff b \n"
    assert line.output == b"a\r\0\xff b \n"


@given(at_ns=st.integers(0, 253402300799 * 10**9), stream=STREAMS, data=DATA, is_whole=st.booleans())
def test_every_line_survives(at_ns: int, stream: LogStream, data: bytes, is_whole: bool) -> None:
    """RR-67: a line reads back as it was, to the nanosecond and the byte."""
    line = LogLine(at_ns=at_ns, stream=stream, data=data, is_whole=is_whole)

    assert decode_line(encode_line(line)[:-1]) == line
    assert output_in(encode_line(line)) == len(line.output)


@given(at_ns=st.integers(0, 10**18), counts=st.tuples(st.integers(0, 2**60), st.integers(0, 2**60)))
def test_a_hole_survives(at_ns: int, counts: tuple[int, int]) -> None:
    """RR-72: the line that marks a hole says how much is missing of each stream."""
    dropped = Dropped(at_ns=at_ns, dropped_bytes=dict(zip(LogStream, counts, strict=True)))

    assert decode_line(encode_dropped(dropped)[:-1]) == dropped


@pytest.mark.parametrize(("at_ns", "begin"), [(-1, b"1970-01-01T00:00:00.0"), (10**21, b"9999-12-31T23:59:59.9")])
def test_a_clock_that_is_far_off_is_no_error(at_ns: int, begin: bytes) -> None:
    """RR-67: an instant that the format cannot hold is the nearest that it can."""
    assert encode_line(LogLine(at_ns=at_ns, stream=LogStream.STDERR, data=b"", is_whole=True)).startswith(begin)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"text",
        b"2026-11-29T13:28:15.123456789Z stdout F",
        b"2026-11-29T13:28:15.123456789Z stdin F x",
        b"2026-11-29T13:28:15.123456789Z stdout X x",
        b"2026-11-29T13:28:15Z stdout F x",
        b"2026-13-29T13:28:15.123456789Z stdout F x",
        b"2026-11-29T13:28:15.123456789Z dropped F some bytes",
    ],
)
def test_what_is_no_line(line: bytes) -> None:
    """RR-67: anything else is one error that has the line."""
    with pytest.raises(MalformedLineError) as caught:
        decode_line(line)

    assert caught.value.line == line


@given(chunks=CHUNKS, stream=STREAMS)
def test_the_bytes_of_a_stream_are_in_its_lines(chunks: list[bytes], stream: LogStream) -> None:
    """RR-67, RR-68: the lines give the exact bytes back, in fragments of at most 16 KiB."""
    splitter = LineSplitter(stream)
    log = b"".join([splitter.feed(chunk, at_ns=number * 7) for number, chunk in enumerate(chunks)]) + splitter.flush()

    lines = lines_of(log)

    assert b"".join(line.output for line in lines) == b"".join(chunks)
    assert all(len(line.data) <= MAX_FRAGMENT_BYTES and line.stream is stream for line in lines)
    assert max(map(len, log.splitlines(keepends=True)), default=0) <= MAX_LINE_BYTES + 2 or b"\r" in log
    assert all(line.is_whole or len(line.data) == MAX_FRAGMENT_BYTES for line in lines[:-1])
    assert not lines or lines[-1].is_whole == b"".join(chunks).endswith(b"\n")
    assert output_in(log) == len(b"".join(chunks))


@given(chunks=CHUNKS)
def test_a_line_has_the_time_of_its_first_byte(chunks: list[bytes]) -> None:
    """RR-68: whichever read ends a line, it has the time of the read that it began in; so has every fragment."""
    splitter = LineSplitter(LogStream.STDOUT)
    log = b"".join([splitter.feed(chunk, at_ns=number) for number, chunk in enumerate(chunks)]) + splitter.flush()
    times = [number for number, chunk in enumerate(chunks) for _ in chunk]

    at = 0
    for line in lines_of(log):
        assert line.at_ns == times[at]
        at += len(line.output)


def test_a_line_of_ten_megabytes() -> None:
    """RR-67: a very long line is in the log in fragments, and is whole again."""
    whole = bytes(range(1, 10)) * 1_100_000 + b"\n"
    splitter = LineSplitter(LogStream.STDOUT)
    parts = [splitter.feed(whole[at : at + 65536], at_ns=1) for at in range(0, len(whole), 65536)]

    lines = lines_of(b"".join(parts))

    assert b"".join(line.output for line in lines).replace(b"\n", b"") + b"\n" == whole.replace(b"\n", b"") + b"\n"
    assert b"".join(line.output for line in lines) == whole


def test_an_unfinished_line_is_written_after_200_ms() -> None:
    """RR-69: output waits for its newline for 200 ms since its first byte, then it is there as P."""
    lane = LogLane(LogStream.STDOUT)
    assert lane.due_ns is None
    assert lane.feed(b"done\nPass", at_ns=50, mono_ns=1000) != b""
    assert lane.feed(b"word: ", at_ns=60, mono_ns=5000) == b""

    assert lane.due_ns == 1000 + IDLE_NS
    assert lane.flush_idle(1000 + IDLE_NS - 1) == b""
    (line,) = lines_of(lane.flush_idle(1000 + IDLE_NS))
    assert (line.data, line.is_whole, line.at_ns) == (b"Password: ", False, 50)
    assert lane.due_ns is None

    # The rest of the line goes on with its own time; nothing of it waits once it has ended.
    (rest,) = lines_of(lane.feed(b"\n", at_ns=70, mono_ns=9000))
    assert (rest.data, rest.is_whole, rest.at_ns) == (b"", True, 70)
    assert lane.due_ns is None


def secretive_lane() -> LogLane:
    made = Redactor([Secret("hunter2-hunter2", name="db")], rules=RedactionRules.none())
    return LogLane(LogStream.STDOUT, made.stream())


def test_what_may_be_a_secret_waits_and_nothing_else() -> None:
    """RR-69, RR-79: bytes that a redactor holds are in the log after 200 ms, but for the beginning of a secret."""
    lane = secretive_lane()
    assert lane.feed(b"a line\nhunter2-", at_ns=1, mono_ns=10) == b""
    assert lane.due_ns == 10 + IDLE_NS

    assert lines_of(lane.flush_idle(10 + IDLE_NS))[0].data == b"a line"
    assert lane.due_ns is None
    assert lane.flush_idle(10**12) == b""

    assert lane.feed(b"hunter2\n", at_ns=2, mono_ns=10**12) == b""
    # What waited for longer than it may is due at once.
    assert lane.due_ns is not None
    assert lane.due_ns <= 10**12
    assert lines_of(lane.flush_idle(10**12))[0] == LogLine(
        at_ns=1, stream=LogStream.STDOUT, data=b"<redacted:db>", is_whole=True
    )


@given(chunks=st.lists(st.binary(min_size=1, max_size=12).map(lambda data: data.replace(b"<", b"\n")), max_size=12))
def test_a_redactor_changes_no_times(chunks: list[bytes]) -> None:
    """RR-68: a line has the time at which its first byte was read, however long a redactor held it."""
    plain, secretive = LogLane(LogStream.STDOUT), secretive_lane()
    logs = [
        b"".join([lane.feed(chunk, at_ns=number, mono_ns=number) for number, chunk in enumerate(chunks)])
        + lane.finish()
        for lane in (plain, secretive)
    ]

    assert logs[0] == logs[1]


def test_a_lane_remembers_few_reads() -> None:
    """RR-72: the times of an endless secret, read byte by byte, are not kept."""
    lane = LogLane(LogStream.STDOUT, Redactor([Secret("a" * 8, name="a")]).stream())
    for number in range(5000):
        lane.feed(b"a", at_ns=number, mono_ns=number)

    assert len(lane._reads) < 300
    (line,) = lines_of(lane.finish())
    assert (line.data, line.at_ns) == (b"<redacted:a>", 0)
    assert lane.take_output_bytes() == len(b"<redacted:a>")
