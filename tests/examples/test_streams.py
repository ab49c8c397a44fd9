"""The examples about streams, run as a user would: real children, real files, Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from procflow.testing import assert_no_leaks

ROOT = Path(__file__).parents[2]
ENVIRON = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONUNBUFFERED": "1"}


def argv(name: str, *arguments: str) -> list[str]:
    return [sys.executable, str(ROOT / "examples" / "run.py"), name, *arguments]


def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv(name, *arguments), env=ENVIRON, capture_output=True, text=True, timeout=100, check=False)


def test_a_build_is_shown_logged_and_explained(tmp_path: Path) -> None:
    """C-31, C-50, C-8: one process feeds a view that may skip, a whole log, and the tail that says why it failed."""
    log = tmp_path / "build.log"

    done = run("build-view", "--log", str(log))

    assert done.returncode == 1, done.stdout + done.stderr
    text = log.read_text()
    compiled = re.findall(r"^Compiling '(.+)'\.\.\.$", text, re.MULTILINE)
    assert len(compiled) > 100
    assert "./xml/zz_broken.py" in compiled
    assert "SyntaxError" in text
    tail = done.stdout.splitlines()
    assert tail[0] == "--- the last 15 lines ---"
    assert tail[1:16] == text.splitlines()[-15:]
    assert tail[-1].startswith("compileall exited with 1")
    assert f"{len(text.encode()):,} bytes" in tail[-1]


def test_a_build_of_the_user_that_cannot_start_is_one_clear_line(tmp_path: Path) -> None:
    """C-4: what the user mistyped is named, and nothing else is printed."""
    done = run("build-view", "--log", str(tmp_path / "log"), "--", "maek")

    assert done.returncode == 1
    assert done.stdout == ""
    assert "maek" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_fifty_children_are_followed_to_the_last_line() -> None:
    """C-32, C-23: every line of both outputs of fifty children is printed once, and in order for each output."""
    done = run("follow", "--children", "50", "--lines", "60")

    assert done.returncode == 1, done.stderr
    lines = [line.split(" ", 2)[1:] for line in done.stdout.splitlines()]
    for number in range(50):
        mine = [text for name, text in lines if name == f"service-{number:02}"]
        assert [text for text in mine if "served" in text] == [
            f"request {i} served in {i * 7919 % 97} ms" for i in range(1, 61)
        ]
        assert [text for text in mine if "slow" in text] == [f"request {i} was slow" for i in range(10, 61, 10)]
    assert len(lines) == 50 * 66
    assert done.stderr.splitlines()[-1].startswith("follow: 3,300 lines of 50 children in ")
    assert done.stderr.splitlines()[-1].endswith("45 ended well, 5 failed")


def test_a_reader_that_has_seen_enough_ends_the_following() -> None:
    """C-67: a broken pipe behind us ends every child, without a traceback."""
    with assert_no_leaks():
        follow = subprocess.Popen(
            argv("follow", "--", "while :; do echo line; done"),
            env=ENVIRON,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert follow.stdout is not None
        assert follow.stderr is not None
        assert follow.stdout.readline().endswith(b"line\n")
        follow.stdout.close()

        assert follow.wait(100) == 141
        assert follow.stderr.read() == b""
        follow.stderr.close()


def test_ctrl_c_leaves_none_of_the_children(tmp_path: Path) -> None:
    """C-67: an interrupted program has ended what it followed, grandchildren included, before it says so."""
    pids = tmp_path / "pids"
    follow = subprocess.Popen(
        argv("follow", "--", f"sleep 1000 & echo $! >{pids}; echo ready; wait"),
        env=ENVIRON,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert follow.stdout is not None
    assert follow.stdout.readline().endswith("ready\n")

    follow.send_signal(signal.SIGINT)
    _, errors = follow.communicate(timeout=100)

    assert follow.returncode == 130
    assert errors == "follow: interrupted; none of the children is running any more\n"
    assert not is_running(int(pids.read_text()))


def is_running(pid: int) -> bool:
    """Whether a process runs; one that only waits for whoever inherited it does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
