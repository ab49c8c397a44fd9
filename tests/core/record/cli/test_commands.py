"""What each command says, to people and to programs."""

from __future__ import annotations

import json
import os
import platform
import re
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import NoReturn
from xml.etree import ElementTree as ET

import pytest

from procflow.record.cli import keeping, main
from procflow.record.errors import UnusableDatabaseError
from procflow.record.events import ShSpawned
from procflow.record.loading import load
from procflow.record.reading.liveness import boot_id, start_ticks
from procflow.record.retention.pruning import Pruned
from procflow.record.storing import view_from
from tests.core.record.cli.conftest import RUN_ID, Shell
from tests.core.record.sample import EVENTS, LINES, finished, header, sample, stamp_all, started
from tests.core.record.writers import record_writer

CRASHED = EVENTS[:16]


class TestList:
    def test_every_record_has_its_line(self, shell: Shell) -> None:
        """RR-43: finished, crashed and unreadable ones, the latest first."""
        shell.record()
        shell.record("later", stamp_all([header(name="later", run_id="later")], back_at=0)[:1])
        (shell.root / "broken").mkdir()
        (shell.root / "broken" / "events.jsonl").write_text("nonsense\n")
        (shell.root / "no-record").mkdir()

        listed = shell.run("list")
        lines = listed.out.splitlines()

        assert (listed.status, listed.err) == (0, "")
        assert [line.split()[:3] for line in lines[1:3]] == [
            [RUN_ID, "nightly", "cancelled"],
            ["later", "later", "lost"],
        ]
        assert lines[3].startswith("broken")
        assert "unreadable" in lines[3]
        assert [run["state"] for run in shell.run("list", "--json").data["runs"]] == [
            "finished",
            "crashed",
            "unreadable",
        ]
        assert len(shell.run("list", "-n", "1").out.splitlines()) == 2
        assert [run["path"] for run in shell.run("list", "--state", "crashed", "--json").data["runs"]] == ["runs/later"]

    def test_the_root_is_an_option_a_variable_or_the_default(self, shell: Shell, tmp_path: Path) -> None:
        """RR-102: in this order."""
        shell.record()
        other = tmp_path / "other"
        other.mkdir()

        assert RUN_ID in shell.run("list").out
        assert shell.run("list", env={"PROCFLOW_RUNS": str(other)}).err == "no runs\n"
        assert RUN_ID in shell.run("list", "--root", "runs", env={"PROCFLOW_RUNS": str(other)}).out

    def test_a_root_that_is_not_there(self, shell: Shell) -> None:
        """RR-47: one clear error, and what to do."""
        listed = shell.run("list", "--root", "nowhere")

        assert (listed.status, listed.out) == (3, "")
        assert "nowhere" in listed.err
        assert "PROCFLOW_RUNS" in listed.err


class TestShow:
    def test_figures_jobs_and_bad_calls(self, shell: Shell) -> None:
        """RR-93: counts, longest path, slowest calls and health, then what did not end well."""
        shell.record()
        shown = shell.run("show", "nightly")

        assert (shown.status, shown.err) == (0, "")
        for text in (
            "cancelled",
            "finished; the clock stepped back",
            "1 succeeded",
            "calls that did not end well",
            "slowest calls",
            "why",
        ):
            assert text in shown.out
        assert "exit 2" in shown.out
        assert "git.sha" not in shown.out

    def test_how_long_a_running_run_has_taken_is_said_with_its_end(self, shell: Shell) -> None:
        """RR-93: a run that hangs writes nothing, so what its record says ends with its last event, and is not taken for now."""
        directory = shell.root / "a"
        directory.mkdir()
        with record_writer(directory / "events.jsonl") as writer:
            writer.write(b"".join(LINES[:8]))
            shown = shell.run("show", "a")

        assert "up to its last event" in shown.out

    def test_json_is_the_view(self, shell: Shell) -> None:
        """RR-93: every row of the run, and the figures."""
        view = load(shell.record())
        data = shell.run("show", RUN_ID, "--json").data

        assert data["run"]["run_id"] == RUN_ID
        assert len(data["jobs"]) == len(view.jobs)
        assert {(call["job_id"], call["attempt"], call["sh"]) for call in data["calls"]} == set(view.calls)
        assert data["summary"]["critical_path"][0] == "build"
        assert data["health"]["is_clean"] is True

    def test_every_call(self, shell: Shell) -> None:
        """RR-93: with --calls."""
        shell.record()

        assert "ruff check" in shell.run("show", "nightly", "--calls").out


class TestCheck:
    def test_complete_and_clean(self, shell: Shell) -> None:
        """RR-93: 0."""
        shell.record()
        checked = shell.run("check", "nightly")

        assert (checked.status, checked.err) == (0, "")
        assert checked.out.startswith("finished: ")

    def test_complete_with_defects(self, shell: Shell) -> None:
        """RR-93: 1, and where they are."""
        directory = shell.record()
        damaged = [*LINES[:3], b"{torn\n", *LINES[6:]]
        (directory / "events.jsonl").write_bytes(b"".join(damaged))

        checked = shell.run("check", directory)

        assert checked.status == 1
        assert f"at byte {sum(map(len, LINES[:3]))}: a line that is no event" in checked.out
        assert "events 3 to 5 are missing" in checked.out
        data = shell.run("check", directory, "--json").data
        assert (data["exit_status"], data["health"]["corrupt"], data["health"]["missing"]) == (1, 1, 3)

    def test_crashed(self, shell: Shell) -> None:
        """RR-93: 2."""
        shell.record(events=CRASHED)
        checked = shell.run("check", RUN_ID)

        assert checked.status == 2
        assert checked.out == "crashed, with 1 call open: clean\n"

    @pytest.mark.parametrize(
        "text", ["nonsense\n", json.dumps({"type": "run_started", "seq": 0, "format": [2, 0]}) + "\n"]
    )
    def test_unreadable(self, shell: Shell, text: str) -> None:
        """RR-93: 3, which is an answer and no failure."""
        directory = shell.root / "a"
        directory.mkdir()
        (directory / "events.jsonl").write_text(text)

        checked = shell.run("check", "a")

        assert (checked.status, checked.err) == (3, "")
        assert checked.out.startswith("unreadable: ")
        assert shell.run("check", "a", "--json").data["exit_status"] == 3

    def test_a_name_that_no_file_can_have(self, shell: Shell) -> None:
        """RR-93: there is no such run, and the system is not to blame."""
        done = shell.run("check", "x" * 10_000)

        assert done.status == 3
        assert "there is no run" in done.err

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may enter everything")
    def test_a_directory_that_may_not_be_entered(self, shell: Shell) -> None:
        """RR-93: its record is one that cannot be read, by its name as by its path."""
        shell.record("a").chmod(0)

        found = [shell.run("check", name).status for name in ("a", "runs/a")]
        (shell.root / "a").chmod(0o700)

        assert found == [3, 3]

    def test_there_is_none(self, shell: Shell) -> None:
        """RR-93: 3 as well, with one error that names it."""
        for typed in ("nothing", "./nothing"):
            checked = shell.run("check", typed)

            assert (checked.status, checked.out) == (3, "")
            assert "nothing" in checked.err.splitlines()[0]
            assert "what to do" in checked.err

    def test_running(self, shell: Shell) -> None:
        """RR-93: 4 while its writer lives."""
        directory = shell.root / "a"
        directory.mkdir()
        with record_writer(directory / "events.jsonl") as writer:
            writer.write(b"".join(LINES[:16]))

            assert shell.run("check", "a").status == 4

    def test_quiet(self, shell: Shell) -> None:
        """RR-93: with -q only the exit status."""
        shell.record(events=CRASHED)
        checked = shell.run("check", RUN_ID, "-q")

        assert (checked.status, checked.out, checked.err) == (2, "", "")


class TestWhatUp:
    def test_of_a_running_run(self, shell: Shell) -> None:
        """RR-66: open jobs and calls with elapsed time, also when no run is named."""
        directory = shell.root / "a"
        directory.mkdir()
        shell.record(events=CRASHED)
        with record_writer(directory / "events.jsonl") as writer:
            writer.write(b"".join(LINES[:16]))
            named, found = shell.run("what-up", "a"), shell.run("what-up", "--json")

        assert named.out.startswith("nightly  running for ")
        assert "[1] make -j4  (pid 101)" in named.out
        assert "make docs" not in named.out
        assert [run["path"] for run in found.data["runs"]] == ["runs/a"]
        jobs = {job["job_id"]: job for job in found.data["runs"][0]["jobs"]}
        assert set(jobs) == {"build", "lint"}
        assert jobs["build"]["calls"][0]["elapsed_ns"] > 365 * 86_400  # the sample is of a day that is long past

    def test_of_a_crashed_run(self, shell: Shell) -> None:
        """RR-66: up to its last event."""
        shell.record(events=CRASHED)
        found = shell.run("what-up", RUN_ID)

        assert found.status == 0
        assert found.out.splitlines()[:3] == [
            "nightly  crashed after 15.0ms", "   10.0ms  build", "    8.0ms    [1] make -j4  (pid 101)",
        ]  # fmt: skip

    def test_of_a_finished_run(self, shell: Shell) -> None:
        """RR-66: nothing is open."""
        shell.record()

        assert shell.run("what-up", RUN_ID).out == "nightly  finished after 30.0ms\n  nothing is open\n"

    def test_nothing_goes_on(self, shell: Shell) -> None:
        """RR-66: which is said on standard error."""
        shell.record()
        found = shell.run("what-up")

        assert (found.status, found.out, found.err) == (0, "", "no run in runs goes on\n")


class TestTimeline:
    def test_text_is_the_chart(self, shell: Shell) -> None:
        """RR-90: 80 columns where there is no terminal; any width from 40."""
        shell.record()
        golden = Path(__file__).parents[1] / "golden" / "views"

        assert shell.run("timeline", RUN_ID).out == (golden / "whole-80.txt").read_text("utf-8")
        assert shell.run("timeline", RUN_ID, "--width", "40").out == (golden / "whole-40.txt").read_text("utf-8")
        assert len(shell.run("timeline", RUN_ID, "--jobs").out.splitlines()) == 6

    def test_colours_change_nothing_but_colours(self, shell: Shell) -> None:
        """RR-90: the chart with colours is the one without, when they are taken out."""
        shell.record()
        coloured = shell.run("timeline", RUN_ID, env={"FORCE_COLOR": "1"}).out

        assert "\x1b[" in coloured
        assert re.sub("\x1b\\[[0-9;]*m", "", coloured) == shell.run("timeline", RUN_ID).out

    def test_pictures_pages_and_traces(self, shell: Shell) -> None:
        """RR-90, RR-91: written to files, all at once if wanted."""
        shell.record()
        drawn = shell.run("timeline", RUN_ID, "--svg", "a.svg", "--html", "a.html", "--chrome", "a.json", "--json")

        assert (drawn.status, drawn.err) == (0, "")
        assert drawn.data["files"] == ["a.svg", "a.html", "a.json"]
        assert ET.parse(shell.folder / "a.svg").getroot().tag.endswith("svg")
        assert (shell.folder / "a.html").read_text().startswith("<!DOCTYPE html>")
        assert json.loads((shell.folder / "a.json").read_text())["traceEvents"]
        assert sorted(path.name for path in shell.folder.iterdir()) == ["a.html", "a.json", "a.svg", "runs"]

    def test_a_dash_is_standard_output(self, shell: Shell) -> None:
        """RR-91: for pipes."""
        shell.record()

        assert json.loads(shell.run("timeline", RUN_ID, "--chrome", "-").out)["traceEvents"]

    def test_a_place_where_nothing_can_be_written(self, shell: Shell) -> None:
        """RR-91: one error that names the file, and nothing is left."""
        shell.record()
        drawn = shell.run("timeline", RUN_ID, "--svg", "nowhere/a.svg")

        assert drawn.status == 7
        assert "nowhere/a.svg" in drawn.err


class TestStore:
    def test_ingest_everything(self, shell: Shell) -> None:
        """RR-49: below the root, and again without anything new."""
        directory = shell.record()
        first, second = shell.run("ingest", "--json"), shell.run("ingest", "--json")

        assert (first.status, second.status) == (0, 0)
        assert first.data["runs"][0]["new_events"] == len(EVENTS)
        assert second.data["runs"][0]["new_events"] == 0
        assert view_from(shell.root / "records.sqlite", RUN_ID).jobs == load(directory).jobs

    def test_a_run_out_of_a_database(self, shell: Shell) -> None:
        """RR-87: show says the same of it."""
        directory = shell.record()
        shell.run("ingest", directory, "--database", "x.sqlite")

        assert shell.run("show", RUN_ID[:8], "--database", "x.sqlite").out == shell.run("show", directory).out
        assert RUN_ID in shell.run("list", "--database", "x.sqlite").out

    def test_what_cannot_be_read_does_not_keep_the_others_out(self, shell: Shell) -> None:
        """RR-54: it is told, and the exit status says it."""
        (shell.root / "a").mkdir()
        (shell.root / "a" / "events.jsonl").write_text("nonsense\n")
        shell.record(events=CRASHED, tail=b"{torn")

        done = shell.run("ingest", "--json")

        assert done.status == 3
        assert [failure["path"] for failure in done.data["failures"]] == ["runs/a/events.jsonl"]
        assert [run["run_id"] for run in done.data["runs"]] == [RUN_ID]

    def test_reproject(self, shell: Shell) -> None:
        """RR-55: rows are made anew from the database alone."""
        directory = shell.record()
        shell.run("ingest", directory)
        with closing(sqlite3.connect(shell.root / "records.sqlite")) as database, database:
            database.execute("DELETE FROM notes")

        done = shell.run("reproject", "--json")

        assert (done.status, done.data["runs"]) == (0, [{"run_id": RUN_ID, "events": len(EVENTS)}])
        assert len(view_from(shell.root / "records.sqlite", RUN_ID).notes) == 2

    def test_reproject_makes_no_database(self, shell: Shell) -> None:
        """RR-55: it has nothing to make one of; a name that was mistyped is told, and nothing is left there."""
        (shell.folder / "empty").touch()

        for name in ("mistyped", "empty"):
            done = shell.run("reproject", "--database", name)
            assert done.status == 3
            assert name in done.err
        assert not (shell.folder / "mistyped").exists()
        assert not (shell.folder / "empty").stat().st_size

    @pytest.mark.parametrize(("code", "status"), [(sqlite3.SQLITE_FULL, 7), (sqlite3.SQLITE_BUSY, 5), (None, 3)])
    def test_a_full_disk_is_told_from_a_damaged_database(
        self, monkeypatch: pytest.MonkeyPatch, code: int | None, status: int
    ) -> None:
        """RR-57: whoever waits and tries again, and whoever has to make room, sees it by the status."""

        def fails(parsed: object, face: object) -> NoReturn:
            raise UnusableDatabaseError(path="runs.db", reason="no", sqlite_code=code)

        monkeypatch.setitem(main.COMMANDS, "ingest", fails)

        assert main.run(["record", "ingest"]) == status

    def test_a_database_of_somebody_else(self, shell: Shell) -> None:
        """RR-58: it is left alone, and named."""
        (shell.folder / "x.sqlite").write_text("no database")
        shell.record()
        done = shell.run("ingest", "--database", "x.sqlite")

        assert done.status == 3
        assert "x.sqlite" in done.err
        assert (shell.folder / "x.sqlite").read_text() == "no database"


class TestExport:
    def test_files(self, shell: Shell) -> None:
        """RR-94, RR-99: spans and events in files, without a network."""
        shell.record()
        done = shell.run("export", RUN_ID, "--otlp", "spans.jsonl", "--openlineage", "events.jsonl", "--json")

        assert (done.status, done.data["files"], done.data["sent_spans"]) == (0, ["spans.jsonl", "events.jsonl"], 0)
        assert json.loads((shell.folder / "spans.jsonl").read_text())["resourceSpans"]
        assert all(json.loads(line)["eventType"] for line in (shell.folder / "events.jsonl").read_text().splitlines())

    def test_nowhere_to_export_to(self, shell: Shell) -> None:
        """RR-94: the command line is wrong then."""
        shell.record()

        assert shell.run("export", RUN_ID).status == 64


class TestPrune:
    def test_the_least_recently_used_go(self, shell: Shell) -> None:
        """RR-102: --dry-run prints the same list, and removes nothing."""
        for number in range(3):
            directory = shell.record(f"run-{number}")
            os.utime(directory / "events.jsonl", (number, number))

        dry, wet = shell.run("prune", "--keep", "1", "--dry-run"), shell.run("prune", "--keep", "1")

        assert (dry.status, wet.status) == (0, 0)
        assert dry.out == wet.out
        assert [line.split()[0] for line in wet.out.splitlines()[1:]] == ["run-0", "run-1"]
        assert os.listdir(shell.root) == ["run-2"]

    def test_what_cannot_be_deleted_is_told(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        """RR-102: records that went and still take room are not passed over in silence."""
        done = Pruned(removed=(), kept=(), unfinished=("runs/.removed-1-a",))
        monkeypatch.setattr(keeping, "prune", lambda root, retention, dry_run: done)

        assert main.run(["record", "prune", "--keep", "1", "--root", str(tmp_path)]) == 1
        assert "runs/.removed-1-a is left" in capfd.readouterr().err

    def test_without_a_bound(self, shell: Shell) -> None:
        """RR-102: nothing goes because somebody forgot to say what stays."""
        shell.record()

        assert shell.run("prune").status == 64
        assert (shell.root / RUN_ID).exists()


class TestScrub:
    SECRET = "correct-horse-battery"

    def record(self, shell: Shell) -> Path:
        events = stamp_all([*sample()[:6], started("build", 1, "login", self.SECRET), finished("build", 1)])
        return shell.record(events=events)

    def test_the_secret_is_gone(self, shell: Shell) -> None:
        """RR-83: from the events; it comes from standard input, and no line of output holds it."""
        directory = self.record(shell)
        done = shell.run("scrub", RUN_ID, "--secret-from-stdin", "--name", "pass", input=self.SECRET + "\n")

        assert done.status == 0
        assert self.SECRET not in done.out + done.err
        text = (directory / "events.jsonl").read_text()
        assert self.SECRET not in text
        assert "<redacted:pass>" in text
        assert shell.run("check", RUN_ID).status == 2

    def test_without_saying_where_it_comes_from(self, shell: Shell) -> None:
        """RR-83: a secret is no argument, so the command line is wrong."""
        self.record(shell)

        assert shell.run("scrub", RUN_ID).status == 64
        assert shell.run("scrub", RUN_ID, "--secret-from-stdin", self.SECRET).status == 64

    def test_nothing_on_standard_input(self, shell: Shell) -> None:
        """RR-83: an empty secret is refused, and the record stays as it is."""
        directory = self.record(shell)
        before = (directory / "events.jsonl").read_bytes()

        assert shell.run("scrub", RUN_ID, "--secret-from-stdin").status == 64
        assert (directory / "events.jsonl").read_bytes() == before

    def test_no_standard_input(self, shell: Shell) -> None:
        """RR-83: is an empty one."""
        directory = self.record(shell)
        command = " ".join(shell.command("scrub", directory, "--secret-from-stdin"))
        done = subprocess.run(
            ["/bin/sh", "-c", f"{command} <&-"], cwd=shell.folder, env=shell.env, check=False, capture_output=True
        )

        assert done.returncode == 64
        assert b"Traceback" not in done.stderr

    def test_a_run_that_goes_on(self, shell: Shell) -> None:
        """RR-83: is refused with a status of its own."""
        directory = shell.root / "a"
        directory.mkdir()
        with record_writer(directory / "events.jsonl") as writer:
            writer.write(b"".join(LINES[:16]))
            done = shell.run("scrub", "a", "--secret-from-stdin", input=self.SECRET)

        assert done.status == 5
        assert "written" in done.err

    def test_a_short_secret(self, shell: Shell) -> None:
        """RR-82: it is told that it is not searched in texts; what it is stays unsaid."""
        self.record(shell)
        done = shell.run("scrub", RUN_ID, "--secret-from-stdin", "--name", "pin", input="x7q1")

        assert done.status == 0
        assert "'pin' is too short" in done.err
        assert "x7q1" not in done.err


class TestOrphans:
    def test_a_process_that_is_left(self, shell: Shell) -> None:
        """RR-46: listed with its call, and the status says that there is one; it goes on."""
        with subprocess.Popen(["sleep", "600"]) as process:
            try:
                head = header(host=platform.node(), boot_id=boot_id(), pid=1, pid_start=1)
                spawned = ShSpawned(job_id="a", attempt=1, sh=1, pid=process.pid, pid_start=start_ticks(process.pid))
                gone = ShSpawned(job_id="a", attempt=1, sh=2, pid=process.pid, pid_start=1)
                shell.record(events=stamp_all([head, started("a", 1, "sleep", "600"), spawned, gone]))
                shown, data = shell.run("orphans", RUN_ID), shell.run("orphans", RUN_ID, "--json").data
                assert process.poll() is None
            finally:
                process.kill()

        assert shown.status == 1
        assert shown.out.splitlines()[1].split() == [str(process.pid), "a", "1", "sleep", "600"]
        assert [one["pid"] for one in data["orphans"]] == [process.pid]

    def test_none_is_left(self, shell: Shell) -> None:
        """RR-46: which is 0."""
        shell.record()

        assert shell.run("orphans", RUN_ID).status == 0

    def test_a_record_of_another_machine(self, shell: Shell) -> None:
        """RR-46: nothing can be said about its processes, and that is an error."""
        shell.record(events=[*stamp_all([header(host="elsewhere", boot_id="x")]), *EVENTS[1:16]])

        assert shell.run("orphans", RUN_ID).status == 5
