"""A run as a picture and as a page, and the lines that people read."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from procflow.record.envelope import Head, Unknown, stamped
from procflow.record.events import RunEvent, ShFinished
from procflow.record.fold.view import RunView, view_of
from procflow.record.reading.states import RecordState
from procflow.record.views.axis import ticks
from procflow.record.views.event_lines import event_line
from procflow.record.views.layout import layout
from procflow.record.views.looks import Look, look_of
from procflow.record.views.open_work import elapsed_ns, open_work
from procflow.record.views.page import page
from procflow.record.views.spans import timeline
from procflow.record.views.style import SIGNS
from procflow.record.views.svg import MIN_WIDTH, svg
from procflow.record.views.words import bytes_text, columns_of, instant_text, printable
from tests.core.record.sample import EVENTS, finished, header, job_finished, stamp_all, started
from tests.core.record.strategies import any_event
from tests.core.record.test_views import CRASHED, RUNNING, VIEWS, WHOLE, any_view

GOLDEN = Path(__file__).parent / "golden" / "views"
SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = (
    "<script>alert(1)</script>", "]]>--><!--", "a&b\"'", "\x00\x08\x1b[31m\x7f\x9b", "\u202eabc\u2066", "x" * 10_000, "日本語" * 50, "&lt;",
    "\ufffe\uffff", "javascript:alert(1)", "\n\r\t",
)  # fmt: skip


def hostile_run(name: str) -> RunView:
    events: list[RunEvent] = [
        header(name=name, meta={name: name}),
        started(name, 1, name, name),
        finished(name, 1, 3),
        job_finished(name, "failed"),
    ]
    return view_of(stamp_all(events), state=RecordState.FINISHED)


class Pages(HTMLParser):
    """Reads a page as a browser would, and keeps what matters."""

    VOID = frozenset({"meta", "line", "rect", "path"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


class TestPicture:
    @pytest.mark.parametrize("name", VIEWS)
    def test_the_picture_is_stable(self, name: str) -> None:
        """RR-90: the picture of a whole, a crashed and a running record is golden."""
        assert svg(VIEWS[name]) + "\n" == (GOLDEN / f"{name}.svg").read_text("utf-8")

    @settings(max_examples=60, deadline=None)
    @given(view=any_view, width=st.integers(min_value=MIN_WIDTH, max_value=2000))
    def test_any_view_has_a_picture(self, view: RunView, width: int) -> None:
        """RR-90: well-formed XML whatever the fold gives, with a bar for each span and all of them within its frame."""
        root = ET.fromstring(svg(view, width=width))

        assert root.get("viewBox", "").startswith(f"0 0 {width} ")
        height = float(root.get("height", "0"))
        bars = [group for group in root.iter(f"{SVG}g") if group[0].tag == f"{SVG}title"]
        assert len(bars) == len(timeline(view))
        for shape in root.iter(f"{SVG}rect"):
            if shape.get("x") is not None:
                x, y = float(shape.get("x", "0")), float(shape.get("y", "0"))
                assert -0.01 <= x <= x + float(shape.get("width", "0")) <= width + 0.01
                assert 0 <= y <= height

    @pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
    def test_a_name_stays_text(self, text: str) -> None:
        """RR-90: nothing in a name becomes markup, or anything that XML forbids, or changes the direction of writing."""
        root = ET.fromstring(svg(hostile_run(text)))

        tags = {element.tag.removeprefix(SVG) for element in root.iter()}
        assert tags <= {"svg", "style", "defs", "pattern", "rect", "path", "line", "text", "title", "g"}
        shown = "".join(element.text or "" for element in root.iter() if element.tag in (f"{SVG}text", f"{SVG}title"))
        assert shown.replace("\n", "").isprintable()
        assert printable(text, columns=20)[:19] in shown

    def test_nothing_comes_from_elsewhere(self) -> None:
        """RR-90: a picture needs no script, font or style sheet of others, and refers only to its own patterns."""
        for view in VIEWS.values():
            drawn = svg(view)
            assert re.findall(r"url\((?!#)|href|@import|<script|on\w+=|https?://(?!www\.w3\.org/2000/svg)", drawn) == []

    def test_looks_differ_without_colours(self) -> None:
        """RR-90: each ending has a sign of its own, and what is open or lost has a shape of its own."""
        assert len(set(SIGNS.values())) == len(Look)
        assert "pf-open-inside" in svg(RUNNING).partition("</style>")[2]
        assert 'class="pf-lost"' in svg(CRASHED)
        assert "stroke-dasharray" in svg(CRASHED)

    def test_what_is_left_out_is_told(self) -> None:
        """RR-90: of a run that is too large what ended well and was short goes first."""
        events: list[RunEvent] = [header()]
        for sh in range(1, 11):
            events += [started("a", sh, "x"), finished("a", sh, int(sh == 7))]
        found = layout(view_of(stamp_all(events), state=RecordState.FINISHED), max_calls=1)

        (call,) = found.jobs[0].calls
        assert look_of(call.row) is Look.BAD
        assert found.left_out == "9 calls that ended well or were shorter are not shown"

    def test_a_width_that_is_too_small_is_refused(self) -> None:
        """RR-90: 600 units are the least."""
        with pytest.raises(ValueError, match="600"):
            svg(WHOLE, width=599)


class TestPage:
    @settings(max_examples=40, deadline=None)
    @given(view=any_view)
    def test_any_view_has_a_page(self, view: RunView) -> None:
        """RR-93: whatever the fold gives; every element that is opened is closed."""
        assert Pages(page(view)).open == []

    @pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
    def test_a_name_stays_text(self, text: str) -> None:
        """RR-93: no element, attribute or script comes out of a name."""
        found = Pages(page(hostile_run(text)))
        harmless = Pages(page(hostile_run("harmless")))

        assert found.tags == harmless.tags
        assert not {"script", "img", "iframe", "link", "a"} & set(found.tags)
        assert [name for name, _ in found.attributes] == [name for name, _ in harmless.attributes]

    def test_figures_and_tables(self) -> None:
        """RR-93: what ended badly is named twice, once first and once among all calls."""
        found = Pages(page(WHOLE)).text

        assert found.count("make docs") >= 2
        assert "What did not end well" in found
        assert "default-src 'none'" in page(WHOLE)


class TestAxis:
    @given(total_ns=st.integers(min_value=0, max_value=2**63 - 1), at_most=st.integers(min_value=2, max_value=20))
    def test_marks_are_few_round_and_different(self, total_ns: int, at_most: int) -> None:
        """RR-90: from 0 on, equally far apart, not too many, each with a label of its own."""
        marks = ticks(total_ns, at_most=at_most)

        assert 1 <= len(marks) <= at_most
        assert marks[0] == (0, "0")
        assert all(mark.at_ns <= total_ns for mark in marks)
        assert len({mark.label for mark in marks}) == len(marks)
        steps = {other.at_ns - one.at_ns for one, other in zip(marks, marks[1:], strict=False)}
        assert len(steps) <= 1

    @pytest.mark.parametrize(
        ("total_s", "labels"),
        [
            (0.03, ["0", "10ms", "20ms", "30ms"]), (7, ["0", "2s", "4s", "6s"]), (100, ["0", "30s", "1m", "1m30s"]),
            (7200, ["0", "30m", "1h", "1h30m", "2h"]), (200_000, ["0", "12h", "1d", "1d12h", "2d"]),
        ],
    )  # fmt: skip
    def test_labels_are_as_people_count(self, total_s: float, labels: list[str]) -> None:
        """RR-90: seconds up to a minute, then minutes, hours and days."""
        assert [mark.label for mark in ticks(int(total_s * 10**9), at_most=5)] == labels


class TestOpenWork:
    def test_time_goes_on_while_the_run_does(self) -> None:
        """RR-66: up to now in a running record, up to the last event in a crashed one."""
        now_ms = (RUNNING.run.last_at_ms or 0) + 5000

        running = {one.job.job_id: one for one in open_work(RUNNING, now_ms=now_ms)}
        crashed = {one.job.job_id: one for one in open_work(CRASHED, now_ms=now_ms)}

        assert running["build"].elapsed_ns == 10_000_000 + 5 * 10**9
        assert crashed["build"].elapsed_ns == 10_000_000
        assert [(call.sh, time_ns) for call, time_ns in crashed["build"].calls] == [(1, 8_000_000)]

    def test_a_clock_that_steps_back(self) -> None:
        """RR-66, RR-23: no time is negative."""
        assert all(one.elapsed_ns >= 0 for one in open_work(RUNNING, now_ms=0))
        assert elapsed_ns(RUNNING.run, RUNNING.run, RUNNING.state, 0) == 15_000_000

    @settings(max_examples=40, deadline=None)
    @given(view=any_view, now_ms=st.integers(min_value=0, max_value=2**62))
    def test_of_any_view(self, view: RunView, now_ms: int) -> None:
        """RR-66: every call that is open is there, once."""
        work = open_work(view, now_ms=now_ms)

        assert sorted(call.key for one in work for call, _ in one.calls) == sorted(call.key for call in view.open_calls)


class TestEventLines:
    @given(event=any_event)
    def test_any_event_is_a_line(self, event: RunEvent) -> None:
        """RR-62: nothing in it moves the cursor."""
        line = event_line(event)

        assert "".join(line[:3]).isprintable()
        assert columns_of(line.time) <= 7

    def test_the_sample(self) -> None:
        """RR-62: what happened, to what, and when."""
        lines = [event_line(event) for event in EVENTS]

        assert (lines[3].who, lines[3].what) == ("test", "declared, after build, lint")
        assert (lines[14].time, lines[14].who, lines[14].what) == (
            "14.0ms",
            "build",
            "[2] exit 2 after 5.0ms, 20 B out, 0 B err",
        )
        assert lines[24].what == "[1] cancelled by SIGTERM after 3ns, 0 B out, 0 B err"
        assert lines[26].what == "skipped because of build"
        assert lines[28].what == "cancelled after 30.0ms"

    def test_a_type_that_is_not_known(self) -> None:
        """RR-09: is an event like any other."""
        line = event_line(Unknown(head=Head(type="new\x1b", seq=1, at_ms=0, mono_ns=10**9), raw=b""))

        assert (line.time, line.what) == ("1.0s", "an event of the unknown type new·")


class TestWords:
    def test_who_ended_it_comes_before_how(self) -> None:
        """RR-90: a call that ran out of time and was killed is timed out."""
        event = ShFinished(
            job_id="a",
            attempt=1,
            sh=1,
            outcome="timed_out",
            signal="SIGKILL",
            duration_ns=1,
            stdout_bytes=0,
            stderr_bytes=0,
        )
        view = view_of(
            [stamped(started("a", 1, "x"), seq=0, at_ms=0, mono_ns=0), stamped(event, seq=1, at_ms=0, mono_ns=1)]
        )

        (call,) = view.calls.values()
        assert look_of(call) is Look.STOPPED

    @pytest.mark.parametrize(
        ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (10_189, "10 KiB"), (1_048_000, "1023 KiB"), (1_048_576, "1.0 MiB"), (2**63 - 1, "8.0 EiB")]
    )  # fmt: skip
    def test_bytes(self, count: int, text: str) -> None:
        """RR-93: in at most eight characters."""
        assert bytes_text(count) == text
        assert len(text) <= 8

    @pytest.mark.parametrize(
        ("at_ms", "text"),
        [(None, "?"), (0, "1970-01-01 00:00:00"), (-1, "1969-12-31 23:59:59"), (2**63 - 1, "?"), (-(2**63), "?")],
    )
    def test_instants(self, at_ms: int | None, text: str) -> None:
        """RR-93: UTC, and a mark for what no calendar has."""
        assert instant_text(at_ms) == text
