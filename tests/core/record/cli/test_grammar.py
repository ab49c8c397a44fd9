"""What may be typed, what a RUN may be, and what the reference says of it."""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procflow.record.cli.grammar import build_parser
from procflow.record.cli.listing import shortest_names
from procflow.record.cli.main import COMMANDS
from procflow.record.cli.runs import Candidate, chosen, find_run
from procflow.record.cli.statuses import MEANINGS, CommandError, Status
from procflow.record.cli.tables import Column, table_lines
from procflow.record.cli.values import duration_s, size_bytes
from procflow.record.views.summary import CLEAN, CRASHED, DEFECTS, RUNNING, UNREADABLE
from procflow.record.views.words import columns_of
from tests.core.record.sample import EVENTS, lines_of

PAGE = (Path(__file__).parents[4] / "docs" / "reference" / "record-cli.md").read_text("utf-8")


def help_of(*command: str) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        build_parser("0").parse_args(["record", *command, "--help"])
    return out.getvalue()


class TestReference:
    def test_statuses_are_in_help_and_reference(self) -> None:
        """RR-93: every status has a meaning, and both places show it."""
        assert set(MEANINGS) == set(Status)
        assert list(range(5)) == [CLEAN, DEFECTS, CRASHED, UNREADABLE, RUNNING]
        shown = " ".join(help_of().split())
        for status, meaning in MEANINGS.items():
            assert f"{status:d} {meaning}" in shown
            assert f"| {status:d} | {meaning} |" in PAGE

    @pytest.mark.parametrize("command", COMMANDS)
    def test_commands_and_options_are_in_the_reference(self, command: str) -> None:
        """RR-93: the page has a heading for each command, and names each option."""
        options = set(re.findall(r"(?<![\w-])--[a-z-]+", help_of(command))) - {"--help"}
        section = PAGE.partition(f"## `{command}")[2].partition("\n## ")[0]

        assert f"- `{command}`" in help_of() or f" {command} " in help_of()
        assert section
        common = {"--root", "--json", "--no-color"}
        assert [option for option in options - common if f"`{option}" not in section] == []
        assert [option for option in common if f"`{option}" not in PAGE] == []

    def test_whoever_reads_records_does_not_pay_for_this(self) -> None:
        """RR-93: importing procflow.record imports no command line."""
        script = "import sys, procflow.record; print([name for name in sys.modules if 'record.cli' in name or name == 'argparse'])"
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=100)

        assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    "arguments",
    [
        [], ["record"], ["frobnicate"], ["record", "frobnicate"], ["record", "show"], ["record", "show", "a", "b"],
        ["record", "show", "a", "--frobnicate"], ["record", "timeline", "a", "--width", "39"], ["record", "replay", "a", "--speed", "0"],
        ["record", "replay", "a", "--seek", "-1"], ["record", "prune", "--max-age", "soon"], ["record", "prune", "--max-bytes", "1.5G"],
        ["record", "list", "-n", "0"], ["record", "list", "--state", "asleep"], ["record", "scrub", "a"],
    ],
)  # fmt: skip
def test_a_wrong_command_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """RR-93: ends with 64, which no state of a record has, and says what is wrong."""
    with pytest.raises(SystemExit) as caught:
        build_parser("0").parse_args(arguments)

    captured = capsys.readouterr()
    assert (caught.value.code, captured.out) == (64, "")
    assert "error: " in captured.err


@pytest.mark.parametrize(
    ("text", "value"), [("90", 90), ("1.5s", 1.5), ("250ms", 0.25), ("10m", 600), ("2h", 7200), ("7d", 604_800)]
)
def test_durations(text: str, value: float) -> None:
    """RR-92, RR-102: seconds, or with a unit."""
    assert duration_s(text) == value


@pytest.mark.parametrize("text", ["", "s", "inf", "nan", "-1", "1w", "1hh"])
def test_what_is_no_duration(text: str) -> None:
    """RR-92, RR-102: it is repeated, with what would be one."""
    with pytest.raises(argparse.ArgumentTypeError, match="90, 1.5s"):
        duration_s(text)


@pytest.mark.parametrize(
    ("text", "value"), [("0", 0), ("1000", 1000), ("64K", 65_536), ("2m", 2 << 20), ("10G", 10 << 30)]
)
def test_sizes(text: str, value: int) -> None:
    """RR-102: bytes, or with a unit."""
    assert size_bytes(text) == value


@pytest.mark.parametrize("text", ["", "K", "-1", "1.5G", "1X", "1KB"])
def test_what_is_no_size(text: str) -> None:
    """RR-102: it is repeated, with what would be one."""
    with pytest.raises(argparse.ArgumentTypeError, match="1000, 64K"):
        size_bytes(text)


class TestRuns:
    KNOWN = (
        Candidate("019b76da-a800", "019b76da-a800", "nightly", 1),
        Candidate("019b76da-b800", "019b76da-b800", "nightly", 3),
        Candidate("weekly-run", "019c0000-0000", "weekly", 2),
    )

    @pytest.mark.parametrize(
        ("typed", "found"),
        [
            ("019b76da-a8", [0]), ("019b76da", [0, 1]), ("019c", [2]), ("week", [2]), ("weekly", [2]), ("nightly", [0, 1]), ("night", []),
            ("latest", [1]), ("", [0, 1, 2]), ("019b76da-a800", [0]),
        ],
    )  # fmt: skip
    def test_what_is_meant(self, typed: str, found: list[int]) -> None:
        """RR-93: an id or the beginning of one comes before a name, and `latest` is the last that began."""
        assert chosen(typed, self.KNOWN) == [self.KNOWN[index] for index in found]

    def test_paths(self, tmp_path: Path) -> None:
        """RR-93: a directory or a file of events, before anything that the root holds."""
        directory = tmp_path / "runs" / "abc"
        directory.mkdir(parents=True)
        (directory / "events.jsonl").write_bytes(b"".join(lines_of(EVENTS)))

        for typed in (str(directory), str(directory / "events.jsonl")):
            assert find_run(typed, tmp_path / "nowhere") == Path(typed)
        assert find_run("ab", tmp_path / "runs") == directory
        assert find_run("nightly", tmp_path / "runs") == directory

    def test_more_than_one(self, tmp_path: Path) -> None:
        """RR-93: the error shows which there are."""
        for name in ("abc", "abd"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "events.jsonl").write_bytes(b"".join(lines_of(EVENTS)))

        with pytest.raises(CommandError) as caught:
            find_run("ab", tmp_path)

        assert caught.value.status is Status.USAGE
        assert "abc  nightly" in caught.value.advice
        assert "abd  nightly" in caught.value.advice


names = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


class TestTables:
    @given(names=st.lists(st.text("ab1", min_size=1, max_size=14), max_size=8))
    def test_short_names_are_told_apart(self, names: list[str]) -> None:
        """RR-43: each is the beginning of its name, and of no other, unless that begins with the whole name."""
        short = shortest_names(names)

        assert set(short) == set(names)
        for name, beginning in short.items():
            assert name.startswith(beginning)
            assert [other for other in set(names) if other.startswith(beginning) and not other.startswith(name)] == []

    @given(
        cells=st.lists(st.lists(names, min_size=4, max_size=4), max_size=5),
        width=st.none() | st.integers(min_value=28, max_value=60),
    )
    def test_lines_fit(self, cells: list[list[str]], width: int | None) -> None:
        """RR-90: no line is wider, whatever the cells hold, and nothing moves the cursor."""
        columns = [
            Column(head="A", least=3), Column(head="B", is_right=True, rank=2), Column(head="C", least=4), Column(head="D", rank=1),
        ]  # fmt: skip
        lines = table_lines(columns, [(None, row) for row in cells], width=width, paint=lambda text, _: text)

        assert len(lines) == len(cells) + 1
        assert all(line.isprintable() for line in lines)
        assert width is None or all(columns_of(line) <= width for line in lines)
