"""The cards on a real pseudo-terminal, seen through a small screen."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator

import pytest

from tests.export.cli.conftest import TIMEOUT_S, Shop
from tests.export.ui.screen import Screen


class Terminal:
    """One program on a pseudo-terminal of a given size."""

    def __init__(self, shop: Shop, columns: int, lines: int, *arguments: str, **env: str) -> None:
        self.screen = Screen(columns, lines)
        self.raw = ""
        self.master, slave = pty.openpty()
        self.resize(columns, lines, notify=False)
        self.process = subprocess.Popen(
            shop.command(*arguments), cwd=shop.folder, env=shop.env | env, stdin=slave, stdout=slave, stderr=slave,
            start_new_session=True,
        )  # fmt: skip
        os.close(slave)
        self._rest = b""

    def resize(self, columns: int, lines: int, *, notify: bool = True) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        if notify:
            self.screen.resize(columns)
            self.screen.lines = lines
            self.process.send_signal(signal.SIGWINCH)

    def read(self, timeout_s: float = 0.05) -> bool:
        """Take what the program wrote; False once it has closed the terminal."""
        if not select.select([self.master], [], [], timeout_s)[0]:
            return True
        try:
            data = os.read(self.master, 1024)  # little at a time, so that no frame is passed over
        except OSError:
            return False
        text = (self._rest + data).decode(errors="ignore")
        self.raw += text
        self.screen.feed(text)
        return bool(data)

    def wait_for(self, *texts: str) -> None:
        """Read until one row of the screen holds all of ``texts``."""
        deadline = time.monotonic() + TIMEOUT_S
        while not any(all(text in row for text in texts) for row in self.screen.text):
            assert self.read(), f"ended without {texts}:\n" + "\n".join(self.screen.text)
            assert time.monotonic() < deadline, f"never {texts}:\n" + "\n".join(self.screen.text)

    def end(self) -> int:
        while self.read():
            pass
        return self.process.wait(TIMEOUT_S)


@pytest.fixture
def terminal(shop: Shop) -> Iterator[type[Terminal]]:
    opened: list[Terminal] = []

    class Here(Terminal):
        def __init__(self, columns: int, lines: int, *arguments: str, **env: str) -> None:
            super().__init__(shop, columns, lines, *arguments, **env)
            opened.append(self)

    yield Here
    for one in opened:
        if one.process.poll() is None:
            os.killpg(one.process.pid, signal.SIGTERM)
            one.process.wait(TIMEOUT_S)
        os.close(one.master)


def test_cards_live_and_give_way_to_the_summary(shop: Shop, terminal: type[Terminal]) -> None:
    """E-63: live cards on a terminal; at the end the summary stands in their place and the cursor is back."""
    screen = terminal(100, 30, "run", str(shop.slow(throttle_ms=60)))  # type: ignore[arg-type]
    screen.wait_for("progress")
    screen.wait_for("1 of 2 done")
    screen.wait_for("items", "%")
    cards = screen.screen.text
    status = screen.end()

    assert status == 0
    assert any(row.startswith(" ✓ customers") for row in cards)
    final = screen.screen.text
    assert final[0].split()[:3] == ["export", "rows", "parts"]
    assert final[-1].startswith(" all exports published")
    assert sum("customers" in row for row in final) == 1
    assert screen.screen.has_cursor
    assert screen.screen.wraps


@pytest.mark.parametrize(("columns", "lines"), [(40, 24), (80, 6), (20, 3)])
def test_small_terminals_are_safe(shop: Shop, terminal: type[Terminal], columns: int, lines: int) -> None:
    """E-63: taller-than-terminal-safe: the picture never outgrows the terminal, however small that is."""
    screen = terminal(columns, lines, "run", str(shop.slow(throttle_ms=60)))  # type: ignore[arg-type]
    screen.wait_for("1 of 2 done")
    picture = screen.screen.text
    status = screen.end()

    assert status == 0
    assert len(picture) <= lines
    assert sum("of 2 done" in row for row in picture) == 1


def test_resizing_leaves_no_ghosts(shop: Shop, terminal: type[Terminal]) -> None:
    """E-63: resize-safe."""
    screen = terminal(100, 30, "run", str(shop.slow()))  # type: ignore[arg-type]
    screen.wait_for("1 of 2 done")
    for columns in (70, 30, 90, 45):
        while screen.read(0.0):  # whatever was drawn for the old size arrives first
            if not select.select([screen.master], [], [], 0.0)[0]:
                break
        screen.resize(columns, 30)
        deadline = time.monotonic() + TIMEOUT_S / 4
        while time.monotonic() < deadline and screen.read(0.05):
            if sum("of 2 done" in row for row in screen.screen.text) == 1 and len(screen.screen.text) <= 7:
                break

        assert sum("of 2 done" in row for row in screen.screen.text) == 1, screen.screen.text
    screen.process.send_signal(signal.SIGINT)

    assert screen.end() == 130


def test_ctrl_c_on_the_terminal_ends_in_one_line(shop: Shop, terminal: type[Terminal]) -> None:
    """E-34: Ctrl-C typed on the terminal stops in order and says so; the picture is gone and the cursor is back."""
    screen = terminal(100, 30, "run", str(shop.slow()))  # type: ignore[arg-type]
    screen.wait_for("1 of 2 done")
    screen.process.send_signal(signal.SIGINT)
    status = screen.end()

    assert status == 130
    assert screen.screen.text[-1].startswith(" stopped by SIGINT: 1 of 2 exports published, every worker ended")
    assert screen.screen.has_cursor


@pytest.mark.parametrize("env", [{"TERM": "dumb"}, {"TERM": ""}])
def test_a_dumb_terminal_gets_plain_lines(shop: Shop, terminal: type[Terminal], env: dict[str, str]) -> None:
    """E-63: TERM=dumb: no escape code at all."""
    screen = terminal(100, 30, "run", str(shop.three()), **env)  # type: ignore[arg-type]

    assert screen.end() == 0
    assert "\x1b" not in screen.raw
    assert "items: done, 5,000 rows" in screen.raw


@pytest.mark.parametrize(("arguments", "env"), [((), {"NO_COLOR": "1"}), (("--no-color",), {})])
def test_no_color_means_no_color(
    shop: Shop, terminal: type[Terminal], arguments: tuple[str, ...], env: dict[str, str]
) -> None:
    """E-60: NO_COLOR and --no-color: the cards move, and no colour is set."""
    import re

    screen = terminal(100, 30, "run", str(shop.three()), *arguments, **env)  # type: ignore[arg-type]

    assert screen.end() == 0
    colours = [
        code for code in re.findall(r"\x1b\[([0-9;]*)m", screen.raw) if re.search(r"(?:^|;)(?:3\d|4\d|9\d)", code)
    ]
    assert colours == []


def test_quiet_says_nothing(shop: Shop, terminal: type[Terminal]) -> None:
    screen = terminal(100, 30, "run", str(shop.three()), "--quiet")  # type: ignore[arg-type]

    assert screen.end() == 0
    assert screen.raw == ""
