"""Reading a record from its bytes: damage, gaps, versions."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from procflow.record.envelope import Unknown
from procflow.record.errors import UnreadableRecordError
from procflow.record.events import EventsDropped, JobStarted, RunEvent
from procflow.record.reading import sequence as sequence_module
from procflow.record.reading.lines import LineCutter
from procflow.record.reading.reader import Health, Line, Position, RecordReader
from procflow.record.reading.sequence import MAX_GAPS, SeqGap, Sequence, Verdict
from tests.core.record.sample import EVENTS, LINES, RECORD, header, lines_of, stamp_all


def read(data: bytes, *, step: int = 1 << 20) -> tuple[list[Line], RecordReader]:
    reader = RecordReader("r.jsonl")
    lines = [line for start in range(0, len(data), step) for line in reader.feed(data[start : start + step])]
    return lines, reader


def seqs(lines: list[Line]) -> list[int]:
    return [line.event.head.seq if isinstance(line.event, Unknown) else line.event.seq for line in lines]


def line(seq: int, job_id: str = "a") -> bytes:
    return lines_of([JobStarted(seq=seq, at_ms=seq, mono_ns=seq * 10**6, job_id=job_id, attempt=1)])[0]


class TestTorn:
    def test_every_prefix_of_a_record(self) -> None:
        """RR-39: the first k bytes give exactly the events whose lines end there, and the rest is told as torn."""
        ends = [sum(map(len, LINES[: count + 1])) for count in range(len(LINES))]

        for size in range(len(RECORD) + 1):
            lines, reader = read(RECORD[:size])
            whole = sum(end <= size for end in ends)
            assert [found.event for found in lines] == EVENTS[:whole]
            assert reader.health.torn_bytes == size - (ends[whole - 1] if whole else 0)
            assert reader.health.corrupt == 0
            assert reader.is_finished is (size == len(RECORD))

    def test_offsets_lead_to_the_lines(self) -> None:
        """RR-39: each event comes with the place of its line."""
        for found in read(RECORD)[0]:
            assert RECORD[found.offset :].startswith(found.raw + b"\n")

    @settings(max_examples=30, deadline=None)
    @given(step=st.integers(min_value=1, max_value=400))
    def test_the_cuts_do_not_matter(self, step: int) -> None:
        """RR-39: however the bytes arrive, the same events and the same account come out."""
        damaged = RECORD[:900] + b"\x00\xff" + RECORD[900:]
        lines, reader = read(damaged)
        again, cut = read(damaged, step=step)

        assert again == lines
        assert cut.health == reader.health

    @settings(max_examples=30, deadline=None)
    @given(stops=st.lists(st.integers(min_value=0, max_value=len(RECORD) + 20), max_size=3))
    def test_reading_goes_on_from_a_position(self, stops: list[int]) -> None:
        """RR-39: a reader that is given up anywhere is followed by another one, with the same result."""
        damaged = RECORD[:900] + b"!" + RECORD[900:2000] + b"\n\n" + RECORD[2000:]
        lines, reader = read(damaged)
        found: list[Line] = []
        position = Position()
        for stop in [*sorted(stops), len(damaged)]:
            part = RecordReader(position=msgspec.json.decode(msgspec.json.encode(position), type=Position))
            found += part.feed(damaged[position.offset : stop])
            position = part.position

        assert found == lines
        assert position == reader.position


class TestDamage:
    @pytest.mark.parametrize(
        "damage", [b"\x00" * 5000, b"foreign text", b'{"type":"job_st', b"\xff\xfe", b'{"type":"note","seq":7}', b"[]"]
    )
    def test_a_damaged_line_costs_that_line_only(self, damage: bytes) -> None:
        """RR-40: it is counted with its offset, and reading goes on behind the next newline."""
        before, after = LINES[:7], LINES[8:]
        lines, reader = read(b"".join(before) + damage + b"\n" + b"".join(after))

        assert seqs(lines) == [seq for seq in range(len(LINES)) if seq != 7]
        assert reader.health.corrupt == 1
        assert reader.health.corrupt_offsets == (sum(map(len, before)),)
        assert reader.health.gaps == (SeqGap(first=7, last=7, is_explained=False),)

    def test_a_torn_line_before_a_new_beginning(self) -> None:
        """RR-40: what a writer tore, and the newline by which it began anew, cost the torn line; the drop is told."""
        notice = EventsDropped(seq=8, at_ms=8, mono_ns=8, count=1, first_seq=7, last_seq=7, reason="ENOSPC")
        lines, reader = read(b"".join(LINES[:7]) + LINES[7][:30] + b"\n" + lines_of([notice])[0] + b"\n" + line(9))

        assert seqs(lines) == [*range(7), 8, 9]
        assert reader.health.corrupt == 1
        assert reader.health.dropped == 1
        assert reader.health.gaps == (SeqGap(first=7, last=7, is_explained=True),)

    @settings(max_examples=60, deadline=None)
    @given(bit=st.integers(min_value=len(LINES[0]) * 8, max_value=len(RECORD) * 8 - 1))
    def test_a_flipped_bit_costs_two_lines_at_most(self, bit: int) -> None:
        """RR-40: its own, and the next one if it was the newline between them; or the one whose number it took."""
        damaged = bytearray(RECORD)
        damaged[bit // 8] ^= 1 << bit % 8

        lines, _ = read(bytes(damaged))

        intact = {found.raw for found in lines} & {raw.rstrip(b"\n") for raw in LINES}
        assert len(intact) >= len(LINES) - 2

    def test_a_line_without_end_takes_no_memory(self) -> None:
        """RR-40: what is longer than any line is thrown away while it is read, and counted once."""
        cutter = LineCutter(max_line_bytes=100)
        for _ in range(50):
            assert list(cutter.feed(b"x" * 60)) == []
            assert sum(map(len, cutter._parts)) <= 100
        assert cutter.rest() is None
        assert list(cutter.feed(b"\nshort\nr")) == [(0, None), (3001, b"short")]
        assert (cutter.rest(), cutter.offset, cutter.pending_bytes) == (b"r", 3007, 1)

        lines, reader = read(LINES[0] + b"y" * (2 << 20) + b"\n" + line(1))
        assert (seqs(lines), reader.health.corrupt) == ([0, 1], 1)

    def test_only_the_first_places_are_kept(self) -> None:
        """RR-40: all damaged lines are counted, whatever their number."""
        _, reader = read(b"x\n" * 5000)

        assert reader.health.corrupt == 5000
        assert reader.health.corrupt_offsets == tuple(range(0, 200, 2))

    @given(st.binary(max_size=300))
    def test_any_bytes_can_be_read(self, data: bytes) -> None:
        """RR-40: no bytes raise anything."""
        _, reader = read(data)

        assert reader.health.torn_bytes == len(data) - data.rfind(b"\n") - 1


class TestNumbers:
    def test_what_is_there_twice_is_read_once(self) -> None:
        """RR-41: identical lines are ignored, and counted."""
        lines, reader = read(line(0) + line(1) + line(0) + line(1) + line(2))

        assert seqs(lines) == [0, 1, 2]
        assert (reader.health.duplicates, reader.health.conflicts) == (2, 0)

    def test_of_two_with_one_number_the_first_is_kept(self) -> None:
        """RR-41: the other is counted as a conflict."""
        lines, reader = read(line(0, "a") + line(1, "a") + line(1, "b") + line(2))

        assert [found.event.job_id for found in lines if isinstance(found.event, JobStarted)] == ["a", "a", "a"]
        assert (reader.health.duplicates, reader.health.conflicts) == (0, 1)

    def test_gaps_and_what_explains_them(self) -> None:
        """RR-41: a gap is told by its first and last number; a part of it may be explained."""
        notice = EventsDropped(seq=20, at_ms=1, mono_ns=1, count=4, first_seq=8, last_seq=11, reason="queue full")
        _, reader = read(line(2) + line(5) + b"".join(lines_of([notice])) + line(21))

        assert reader.health.gaps == (
            SeqGap(first=0, last=1, is_explained=False),
            SeqGap(first=3, last=4, is_explained=False),
            SeqGap(first=6, last=7, is_explained=False),
            SeqGap(first=8, last=11, is_explained=True),
            SeqGap(first=12, last=19, is_explained=False),
        )
        assert reader.health.missing == 18
        assert reader.health.dropped == 4
        assert not reader.health.is_clean

    def test_a_line_that_comes_late_fills_its_gap(self) -> None:
        """RR-41: the order of the lines does not matter, and a number far too high is no end of the record."""
        lines, reader = read(line(0) + line(2**40) + line(1) + line(3) + line(2) + line(1))

        assert seqs(lines) == [0, 2**40, 1, 3, 2]
        assert reader.health.gaps == (SeqGap(first=4, last=2**40 - 1, is_explained=False),)
        assert reader.health.duplicates == 1

    @settings(max_examples=60, deadline=None)
    @given(numbers=st.lists(st.integers(min_value=0, max_value=25), max_size=40), seed=st.randoms())
    def test_numbers_against_a_set(self, numbers: list[int], seed: object) -> None:
        """RR-41: for any numbers in any order, what is new, repeated and missing is what a set says."""
        sequence, naive = Sequence(), set[int]()

        for seq in numbers:
            expected = Verdict.DUPLICATE if seq in naive else Verdict.NEW
            assert sequence.judge(seq, b"%d" % seq) is expected
            naive.add(seq)

        missing = {seq for first, last in sequence.gaps for seq in range(first, last + 1)}
        assert missing == set(range(max(numbers, default=-1) + 1)) - naive
        assert all(one[1] + 1 < other[0] for one, other in zip(sequence.gaps, sequence.gaps[1:], strict=False))

    @settings(max_examples=60, deadline=None)
    @given(
        numbers=st.lists(st.tuples(st.integers(min_value=0, max_value=12), st.sampled_from([b"x", b"y"])), max_size=30),
        stop=st.integers(min_value=0, max_value=30),
    )
    def test_going_on_with_the_lines_from_before(self, numbers: list[tuple[int, bytes]], stop: int) -> None:
        """RR-41: one that may ask for the last lines before it judges as if it had seen them itself."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sequence_module, "REMEMBERED", 5)
            whole = Sequence()
            verdicts = [whole.judge(seq, raw) for seq, raw in numbers]
            first = Sequence()
            before = [first.judge(seq, raw) for seq, raw in numbers[:stop]]
            new = [line for line, verdict in zip(numbers, before, strict=False) if verdict is Verdict.NEW]
            second = Sequence(next_seq=first.next_seq, gaps=first.gaps, dropped=first.dropped, earlier=lambda: new[-5:])
            after = [second.judge(seq, raw) for seq, raw in numbers[stop:]]

        assert before + after == verdicts

    @settings(max_examples=60, deadline=None)
    @given(
        spans=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=5),
        numbers=st.lists(st.integers(min_value=0, max_value=31), max_size=8),
    )
    def test_explanations_against_a_set(self, spans: list[tuple[int, int]], numbers: list[int]) -> None:
        """RR-41: a missing number is explained exactly if some drop speaks of it."""
        sequence = Sequence()
        for seq in numbers:
            sequence.judge(seq, b"")
        for first, last in spans:
            sequence.note_dropped(first, last)

        told = {seq: gap.is_explained for gap in sequence.explained_gaps() for seq in range(gap.first, gap.last + 1)}
        assert set(told) == {seq for first, last in sequence.gaps for seq in range(first, last + 1)}
        assert told == {seq: any(first <= seq <= last for first, last in spans) for seq in told}

    def test_memory_has_a_bound(self) -> None:
        """RR-41: neither many lines nor many gaps take memory without end."""
        sequence = Sequence()

        for seq in range(40_000):
            sequence.judge(seq, b"")
        for seq in range(50_000, 70_000, 2):
            sequence.judge(seq, b"")
            sequence.note_dropped(seq, seq)

        assert len(sequence._hashes) <= 1 << 15
        assert len(sequence.gaps) == MAX_GAPS
        assert len(sequence.dropped) <= MAX_GAPS


class TestClock:
    def test_a_step_of_the_wall_clock_is_told(self) -> None:
        """RR-23: an hour back in the middle of a run, which changes nothing else."""
        lines, reader = read(RECORD)

        assert reader.health.clock_step_ms == -3_600_000
        assert [found.event for found in lines] == EVENTS
        assert reader.health.is_clean

    def test_small_differences_are_no_step(self) -> None:
        """RR-23: two clocks that are read one after the other differ a little."""
        events = [JobStarted(seq=seq, at_ms=1000 + seq * 7 + seq % 3, mono_ns=seq * 7_000_000, job_id="a", attempt=1)
                  for seq in range(9)]  # fmt: skip

        assert read(b"".join(lines_of(events)))[1].health.clock_step_ms == 0


class TestVersions:
    def test_a_higher_minor_version_is_read(self) -> None:
        """RR-10: what it says more is ignored or kept as unknown."""
        events: list[RunEvent] = stamp_all([header(format=(1, 9))])
        new = b'{"type":"job_paused","seq":1,"at_ms":1,"mono_ns":1,"job_id":"a"}\n'

        lines, reader = read(b"".join(lines_of(events)) + new + line(2))

        assert seqs(lines) == [0, 1, 2]
        assert isinstance(lines[1].event, Unknown)
        assert reader.health.unknown == 1
        assert reader.health.corrupt == 0

    def test_a_higher_major_version_is_refused(self) -> None:
        """RR-10: whatever it looks like; the error names the file and both versions, and nothing was read."""
        reader = RecordReader("runs/x/events.jsonl")

        with pytest.raises(UnreadableRecordError) as caught:
            list(reader.feed(b'{"type":"run_started","format":[2,1],"all":"different"}\n' + line(1)))

        assert (caught.value.path, caught.value.theirs, caught.value.ours) == ("runs/x/events.jsonl", "2.1", "1.0")
        assert all(word in str(caught.value) for word in ("runs/x/events.jsonl", "2.1", "1.0"))
        assert not reader.has_events

    def test_an_unknown_requirement_is_refused(self) -> None:
        """RR-10: also of a version that could be read; the error names the feature too."""
        data = b"".join(lines_of(stamp_all([header(format=(1, 3), requires=("shards",))])))

        with pytest.raises(UnreadableRecordError) as caught:
            read(data)

        assert caught.value.feature == "shards"
        assert all(word in str(caught.value) for word in ("r.jsonl", "1.3", "1.0", "shards"))

    def test_only_the_header_decides(self) -> None:
        """RR-10: once the version is known, a line that looks like another header is damage like any other."""
        lines, reader = read(RECORD + b'{"type":"run_started","format":[9,0]}\n' + line(len(LINES)))

        assert len(lines) == len(LINES) + 1
        assert reader.health.corrupt == 1

    def test_unknown_types_are_kept_with_their_bytes(self) -> None:
        """RR-09: they are events like any other, and no defect."""
        raw = json.dumps({"type": "sung", "seq": 0, "at_ms": 1, "mono_ns": 1, "notes": [1]}).encode()

        lines, reader = read(raw + b"\n")

        assert [found.raw for found in lines] == [raw]
        assert reader.health == Health(unknown=1)
        assert reader.health.is_clean
