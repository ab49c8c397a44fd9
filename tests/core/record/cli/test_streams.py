"""Pipes, terminals, signals: the world around a command."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import termios
from pathlib import Path

import pytest

from procflow.record.envelope import stamped
from procflow.record.views.words import columns_of
from tests.core.record.cli.conftest import PATIENCE_S, RUN_ID, Shell
from tests.core.record.sample import CODEC, EVENTS, LINES, RECORD, finished, header, job_finished, stamp_all, started
from tests.core.record.writers import record_writer

READING = (
    ["list"], ["show", "nightly"], ["check", "nightly"], ["what-up", "nightly"], ["timeline", "nightly"], ["tail", "nightly"],
    ["replay", "nightly", "--speed", "inf"], ["orphans", "nightly"], ["prune", "--keep", "9"], ["export", "nightly", "--otlp", "x.json"],
)  # fmt: skip


class TestPipes:
    @pytest.mark.parametrize("arguments", READING, ids=lambda words: words[0])
    def test_nothing_but_data_in_a_pipe(self, shell: Shell, arguments: list[str]) -> None:
        """RR-35: no colours, and no words for people on standard output."""
        shell.record()
        done = shell.run(*arguments)

        assert done.status == 0
        assert "\x1b" not in done.out

    @pytest.mark.parametrize("arguments", READING, ids=lambda words: words[0])
    def test_json_is_one_document_or_lines(self, shell: Shell, arguments: list[str]) -> None:
        """RR-35: whatever reads it sees nothing else, to the end."""
        shell.record()
        done = shell.run(*arguments, "--json")

        if arguments[0] in ("tail", "replay"):
            assert [json.loads(line)["seq"] for line in done.out.splitlines()] == [event.seq for event in EVENTS]
        else:
            assert isinstance(done.data, dict)

    @pytest.mark.parametrize(
        "arguments",
        [["show", "x"], ["check", "x"], ["export", "nightly"], ["prune"], ["ingest", "x"]],
        ids=lambda words: words[0],
    )
    def test_an_error_is_a_document_too(self, shell: Shell, arguments: list[str]) -> None:
        """RR-35: with --json, and in words on standard error."""
        shell.record()
        done = shell.run(*arguments, "--json")

        assert done.data["exit_status"] == done.status != 0
        assert done.data["error"]["message"] in done.err
        assert done.data["error"]["what_to_do"] in done.err

    @pytest.mark.parametrize(
        "arguments", [["list"], ["timeline", "nightly"], ["show", "nightly", "--json"], ["tail", "nightly", "--json"]]
    )
    def test_a_reader_that_has_gone(self, shell: Shell, arguments: list[str]) -> None:
        """RR-34: is no error: no trace, and the status that the command has anyway."""
        shell.record()
        read, write = os.pipe()
        os.close(read)
        done = shell.run(*arguments, stdout=write)
        os.close(write)

        assert (done.status, done.err) == (0, "")

    def test_check_keeps_its_status_without_a_reader(self, shell: Shell) -> None:
        """RR-93: the answer is in the status."""
        shell.record(events=EVENTS[:5])
        read, write = os.pipe()
        os.close(read)
        done = shell.run("check", RUN_ID, stdout=write)
        os.close(write)

        assert (done.status, done.err) == (2, "")

    def test_a_full_disk(self, shell: Shell) -> None:
        """RR-35: data that is lost is an error, in one line."""
        shell.record()
        with open("/dev/full", "wb") as full:
            done = shell.run("show", "nightly", stdout=full)

        assert done.status == 7
        assert "standard output cannot be written" in done.err
        assert "Traceback" not in done.err

    def test_streams_that_are_closed(self, shell: Shell) -> None:
        """RR-35: the null device stands in for them, so that no record takes the number of one."""
        shell.record()
        command = " ".join(shell.command("check", "nightly"))
        done = subprocess.run(
            ["/bin/sh", "-c", f"{command} <&- >&- 2>&-"], cwd=shell.folder, env=shell.env, check=False
        )

        assert done.returncode == 0

    def test_ascii_only(self, shell: Shell) -> None:
        """RR-35: letters that standard output cannot carry are replaced, not fatal."""
        shell.record(events=stamp_all([header(name="日本語"), started("ä", 1, "é")]))
        done = shell.run("show", RUN_ID, env={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "LC_ALL": "C"})

        assert done.status == 0
        assert "???" in done.out

    def test_a_path_that_is_no_text(self, shell: Shell) -> None:
        """RR-06: it is shown readably, in words and in JSON, errors included."""
        shell.record("a")
        os.rename(os.fsencode(shell.root / "a"), os.fsencode(shell.root) + b"/\xff")
        odd = os.fsdecode(b"\xff")

        assert "nightly" in shell.run("list").out
        assert shell.run("list", "--json").data["runs"][0]["path"] == "runs/\\xff"
        assert shell.run("check", odd, "--json").data["path"] == "runs/\\xff"
        assert shell.run("check", f"{odd}{odd}", "--json").data["exit_status"] == 3


class TestFollowing:
    def test_lines_are_there_as_they_are_written(self, shell: Shell) -> None:
        """RR-62: each at once, those that were there first; and the end comes by itself."""
        directory = shell.root / "a"
        directory.mkdir()
        with record_writer(directory / "events.jsonl") as writer:
            writer.write(b"".join(LINES[:3]))
            with shell.started("tail", "a", "--json") as tail:
                assert tail.stdout is not None
                assert [tail.stdout.readline().encode() for _ in range(3)] == LINES[:3]
                writer.write(b"".join(LINES[3:]))
                out, err = tail.communicate(timeout=PATIENCE_S)

        assert out.encode() == b"".join(LINES[3:])
        assert (tail.returncode, err) == (0, "")

    @pytest.mark.parametrize("command", ["tail", "replay"])
    def test_ctrl_c(self, shell: Shell, command: str) -> None:
        """RR-62: 130, and no traceback."""
        directory = shell.root / "a"
        directory.mkdir()
        with record_writer(directory / "events.jsonl") as writer:
            writer.write(LINES[0] + CODEC.encode(stamped(EVENTS[1], seq=1, at_ms=0, mono_ns=900 * 10**9)))
            with shell.started(command, "a", "--json") as process:
                assert process.stdout is not None
                process.stdout.readline()
                process.send_signal(signal.SIGINT)
                _, err = process.communicate(timeout=PATIENCE_S)

        assert (process.returncode, err) == (130, "")

    def test_a_quiet_run_does_not_hold_up_a_pipeline(self, shell: Shell) -> None:
        """RR-65: when the reader of a tail is gone the tail ends, although nothing is written any more."""
        directory = shell.root / "a"
        directory.mkdir()
        with record_writer(directory / "events.jsonl") as writer:
            writer.write(LINES[0])
            with shell.started("tail", "a", "--json") as tail:
                assert tail.stdout is not None
                tail.stdout.readline()
                tail.stdout.close()
                assert tail.wait(timeout=PATIENCE_S) == 0

    def test_from_a_number_and_without_waiting(self, shell: Shell) -> None:
        """RR-64: a running record is shown as far as it is there."""
        directory = shell.root / "a"
        directory.mkdir()
        with record_writer(directory / "events.jsonl") as writer:
            writer.write(b"".join(LINES[:5]))

            assert shell.run("tail", "a", "--json", "--no-follow", "--from-seq", "3").out.encode() == b"".join(
                LINES[3:5]
            )

    def test_a_crash_is_told(self, shell: Shell) -> None:
        """RR-62: on standard error, when the tail ends because the writer is gone."""
        shell.record(events=EVENTS[:5])
        tail = shell.run("tail", RUN_ID)

        assert len(tail.out.splitlines()) == 5
        assert tail.err == "the record has no end: its writer is gone\n"

    def test_replay_gives_the_record_back(self, shell: Shell) -> None:
        """RR-92: byte for byte, on standard output and into a file."""
        shell.record()

        assert shell.run("replay", RUN_ID, "--speed", "inf", "--json").out.encode() == RECORD
        assert shell.run("replay", RUN_ID, "--speed", "inf", "--to", "again.jsonl").out == ""
        assert (shell.folder / "again.jsonl").read_bytes() == RECORD

    def test_replay_overwrites_nothing(self, shell: Shell) -> None:
        """RR-27: a file that is there is an error that names it."""
        shell.record()
        (shell.folder / "there").write_text("precious")
        done = shell.run("replay", RUN_ID, "--speed", "inf", "--to", "there")

        assert done.status == 7
        assert "there" in done.err
        assert (shell.folder / "there").read_text() == "precious"

    @pytest.mark.parametrize("command", [["tail"], ["tail", "--no-follow"], ["replay", "--speed", "inf"]], ids=" ".join)
    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (LINES[0].replace(b'"format":[1,0]', b'"format":[2,0]'), "its format is 2.0"),
            (b"hello\nworld\n", "no line of it is an event"),
        ],
        ids=["of a later release", "something else"],
    )
    def test_what_cannot_be_read(self, shell: Shell, command: list[str], content: bytes, reason: str) -> None:
        """RR-10: is refused in words, whichever command meets it."""
        (shell.record("a") / "events.jsonl").write_bytes(content)
        done = shell.run(*command, "a")

        assert (done.status, done.out) == (3, "")
        assert reason in done.err
        assert "Traceback" not in done.err

    @pytest.mark.parametrize("command", [["tail"], ["replay", "--speed", "inf"]], ids=" ".join)
    def test_a_full_disk(self, shell: Shell, command: list[str]) -> None:
        """RR-35: data that is lost is an error, in one line, also of a command that goes on."""
        shell.record()
        with open("/dev/full", "wb") as full:
            done = shell.run(*command, "nightly", stdout=full)

        assert done.status == 7
        assert "standard output cannot be written" in done.err
        assert "Traceback" not in done.err


def on_terminal(shell: Shell, *arguments: str | Path, columns: int, env: dict[str, str] | None = None) -> str:
    """Return what a command writes to a terminal of this width."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(
        shell.command(*arguments),
        cwd=shell.folder,
        env=shell.env | (env or {}),
        stdin=follower,
        stdout=follower,
        stderr=follower,
    )
    os.close(follower)
    written = b""
    while True:
        try:
            data = os.read(leader, 65536)
        except OSError:  # the last holder of the other side is gone
            break
        if not data:
            break
        written += data
    os.close(leader)
    process.wait(timeout=PATIENCE_S)
    return written.decode().replace("\r\n", "\n")


def without_colours(text: str) -> str:
    return re.sub("\x1b\\[[0-9;]*m", "", text)


@pytest.fixture
def crowded(shell: Shell) -> Shell:
    long = "a-name-that-is-much-longer-than-any-terminal-is-wide-" * 3
    hostile = "\x1b]0;title\x07\x1b[2J<script>\u202e\t日本語"
    shell.record(
        events=stamp_all(
            [
                header(name=long), started("job " + long, 1, "command", long), finished("job " + long, 1, 1), job_finished("job " + long, "failed"),
                started(hostile, 1, hostile), finished(hostile, 1),
            ]
        )
    )  # fmt: skip
    return shell


class TestTerminals:
    @pytest.mark.parametrize("columns", [40, 80, 120])
    def test_no_line_is_wider_than_the_terminal(self, crowded: Shell, columns: int) -> None:
        """RR-90: nor does anything in a name move the cursor; for every command that shows foreign text."""
        for arguments in (
            ["list"],
            ["show", RUN_ID, "--calls"],
            ["what-up", RUN_ID],
            ["timeline", RUN_ID],
            ["tail", RUN_ID],
            ["check", RUN_ID],
        ):
            shown = without_colours(on_terminal(crowded, *arguments, columns=columns))
            lines = [line for line in shown.splitlines() if not line.startswith("the record has no end")]

            assert lines
            assert [line for line in lines if columns_of(line) > columns or not line.isprintable()] == []

    def test_colours_and_how_they_go_away(self, shell: Shell) -> None:
        """RR-90: a terminal has them, unless NO_COLOR, --no-color or a dumb terminal say otherwise."""
        shell.record()

        assert "\x1b[32m" in on_terminal(shell, "timeline", RUN_ID, columns=80)
        for arguments, env in (([], {"NO_COLOR": "1"}), (["--no-color"], {}), ([], {"TERM": "dumb"})):
            assert "\x1b" not in on_terminal(shell, "timeline", RUN_ID, *arguments, columns=80, env=env)

    def test_ids_are_short_and_lead_back(self, shell: Shell) -> None:
        """RR-43: a terminal shows as much of an id as is needed to name it."""
        shell.record("019b76da-a800-7000-8000-000000000001")
        shell.record("019b76da-a811-7000-8000-000000000001", EVENTS[:3])

        lines = without_colours(on_terminal(shell, "list", columns=80)).splitlines()[1:]
        names = [line.split()[0] for line in lines]

        assert sorted(names) == ["019b76da-a80", "019b76da-a81"]
        assert shell.run("check", "019b76da-a81").status == 2
