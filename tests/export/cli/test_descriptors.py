"""Standard streams that are closed, full or gone when the program starts or while it writes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.export.cli.conftest import TIMEOUT_S, Ended, Shop

pytestmark = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
RUN = ("run", "shop.yaml", "--json", "-q")


def in_shell(shop: Shop, redirection: str, *arguments: str) -> Ended:
    """Run the program with ``redirection`` of a shell."""
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {redirection}', "sh", *shop.command(*arguments)], cwd=shop.folder, env=shop.env,
        capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip
    return Ended(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("redirection", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("engine", ["processes", "in-process"])
def test_a_closed_standard_stream_is_the_null_device(shop: Shop, redirection: str, engine: str) -> None:
    """E-60, E-61: a run whose streams were closed publishes, prints what it can, and its status is its own."""
    shop.three()
    ended = in_shell(shop, redirection, *RUN, "--engine", engine)

    assert (ended.status, ended.err) == (0, "")
    assert len(shop.parts("items")) == 4
    has_output = redirection in ("<&-", "2>&-")
    assert (json.loads(ended.out)["row_count"] if has_output else ended.out) == (7300 if has_output else "")


@pytest.mark.parametrize("arguments", [("schema",), ("schema", "errors"), ("--version",), ("--help",), ("run", "-x")])
@pytest.mark.parametrize("redirection", [">&-", "2>&-", ">&- 2>&-"])
def test_simple_questions_survive_closed_streams(shop: Shop, arguments: tuple[str, ...], redirection: str) -> None:
    """E-60, E-61: no traceback, and the status that an open stream would have got."""
    ended = in_shell(shop, redirection, *arguments)

    assert ended.status == (64 if arguments[0] == "run" else 0)
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("arguments", [RUN, ("schema",), ("schema", "errors"), ("check", "shop.yaml", "--json", "-q")])
def test_a_report_that_cannot_be_written_is_a_failure(shop: Shop, arguments: tuple[str, ...]) -> None:
    """E-60, E-61: a full disk under standard output is said, and the status is that of the environment: 1."""
    shop.three()
    ended = in_shell(shop, ">/dev/full", *arguments)

    assert ended.status == 1
    assert "ENVIRONMENT: standard output could not be written: No space left on device" in ended.err
    assert "Traceback" not in ended.err
    assert ended.err.count("ENVIRONMENT") == 1


def test_a_lost_report_does_not_hide_why_a_run_failed(shop: Shop) -> None:
    """E-61: a status that says more than "the report was lost" stays."""
    shop.config({"name": "customers", "table": "customers"})
    ended = in_shell(shop, ">/dev/full", *RUN, "-e", "custmers")

    assert ended.status == 64
    assert "standard output could not be written" in ended.err


def test_words_that_cannot_be_written_do_not_fail_a_run(shop: Shop) -> None:
    """E-61: the report on standard output is whole; a full disk under standard error loses words only."""
    shop.three()
    ended = in_shell(shop, "2>/dev/full", "run", "shop.yaml", "--json")

    assert ended.status == 0
    assert ended.data["row_count"] == 7300


def test_a_worker_opens_what_is_missing(shop: Shop) -> None:
    """E-34: a worker without any standard stream ends by itself, without a traceback."""
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" <&- >&-', "sh", sys.executable, "-m", "procflow_export", "worker"], cwd=shop.folder,
        env=shop.env, capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
