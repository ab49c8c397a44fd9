"""Kills and signals in the middle of a run: who ends, who goes on, what is left."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time

import psutil
import pytest

from tests.export.cli.conftest import Shop, Started

ENDS_WITHIN_S = 60.0
"""Ten times what the stop policy allows, for a loaded machine."""


def running(shop: Shop, started: Started) -> list[psutil.Process]:
    """Wait until the quick export is published and the slow one is in the middle; return the workers."""
    started.wait_until(lambda: shop.parts("customers"), "customers were published")
    started.wait_until(lambda: any(writes(worker, shop, "items") for worker in started.workers()), "a part was written")
    return started.workers()


def writes(worker: psutil.Process, shop: Shop, export: str) -> bool:
    """Whether a worker has a part of the export open, which may have no name yet."""
    if not sys.platform.startswith("linux"):
        return True
    try:
        links = [os.readlink(f"/proc/{worker.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{worker.pid}/fd")]
    except OSError:
        return False
    return any(link.startswith(f"{shop.out / export}/") for link in links)


def assert_nothing_left(shop: Shop, workers: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(workers, timeout=ENDS_WITHIN_S)
    assert alive == []
    # Temporary files have names that begin with a dot; a part without a manifest may be complete, never half.
    assert [name for name in shop.files("items") if name.startswith(".")] == []
    assert shop.parts("items") == []


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_the_run_in_order(shop: Shop, number: signal.Signals, status: int) -> None:
    """E-34, E-61: Ctrl-C and SIGTERM end every child, leave no half-written file, and say so in one line."""
    with shop.started("run", str(shop.slow())) as started:
        workers = running(shop, started)
        begun = time.monotonic()
        started.process.send_signal(number)
        ended = started.end()
        took_s = time.monotonic() - begun

    assert ended.status == status, ended.err
    assert took_s < ENDS_WITHIN_S
    assert_nothing_left(shop, workers)
    assert shop.parts("customers")
    assert "Traceback" not in ended.err
    last = ended.err.rstrip().splitlines()[-1]
    assert last == (
        f" stopped by {number.name}: 1 of 2 exports published, every worker ended, nothing half-written left"
    )


def test_more_signals_change_nothing(shop: Shop) -> None:
    """E-34: a second Ctrl-C is safe."""
    with shop.started("run", str(shop.slow())) as started:
        workers = running(shop, started)
        for _ in range(5):
            started.process.send_signal(signal.SIGINT)
            time.sleep(0.01)
        ended = started.end()

    assert ended.status == 130
    assert "Traceback" not in ended.err
    assert_nothing_left(shop, workers)


def test_an_early_signal_is_safe_too(shop: Shop) -> None:
    """E-34: at whatever moment the signal comes, nothing is left and there is no traceback."""
    config = str(shop.slow())
    for delay_s in (0.05, 0.2, 0.4, 0.6, 0.8, 1.0, 1.3):
        with shop.started("run", config) as started:
            time.sleep(delay_s)  # not for synchronisation: any moment will do
            workers = started.workers()
            started.process.send_signal(signal.SIGINT)
            ended = started.end()

        if "Fatal Python error" not in ended.err and "<frozen runpy>" not in ended.err:  # Python itself had started
            assert ended.status == 130, (delay_s, ended)
            assert "Traceback" not in ended.err, (delay_s, ended.err)
        assert_nothing_left(shop, workers)


@pytest.mark.parametrize("command", ["run", "check"])
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)])
def test_a_signal_before_anything_began_ends_at_once_with_a_document(
    shop: Shop, command: str, number: signal.Signals, status: int
) -> None:
    """E-34, E-60, E-61: the same status, one line and one document, however early the signal comes."""
    os.mkfifo(shop.folder / "shop.yaml")
    with shop.started(command, "shop.yaml", "--json") as started:
        fifo = os.open(shop.folder / "shop.yaml", os.O_WRONLY)  # returns once the program reads its configuration
        started.process.send_signal(number)
        ended = started.end()
        os.close(fifo)

    assert (ended.status, ended.err) == (status, f"stopped by {number.name}\n")
    assert ended.data == {"status": "cancelled", "exit_status": status, "exports": []}


def test_a_stopped_run_prints_its_document(shop: Shop) -> None:
    """E-34, E-60: a run that was stopped in the middle tells programs what became of every export."""
    with shop.started("run", str(shop.slow()), "--json") as started:
        workers = running(shop, started)
        started.process.send_signal(signal.SIGTERM)
        ended = started.end()

    assert (ended.status, ended.data["exit_status"]) == (143, 143)
    assert [export["status"] for export in ended.data["exports"]] == ["success", "cancelled"]
    assert_nothing_left(shop, workers)


def test_signals_are_heeded_before_anything_slow_is_imported(shop: Shop) -> None:
    """E-34: the module that installs the handlers imports nothing that takes time."""
    code = "import sys; before = {*sys.modules}; import procflow_export.cli.start; print(*({*sys.modules} - before))"
    done = subprocess.run(
        [sys.executable, "-c", code], env=shop.env, capture_output=True, text=True, check=True, timeout=ENDS_WITHIN_S
    )

    slow = {"argparse", "asyncio", "logging", "anyio", "msgspec", "rich", "pyarrow", "procflow", "shutil", "pathlib"}
    assert slow & {*done.stdout.split()} == set()


def test_a_killed_worker_fails_one_export_with_a_clear_word(shop: Shop) -> None:
    """E-31, E-61: kill -9 of a child: its export fails with code, ending and remedy; the others finish; status by class."""
    with shop.started("run", str(shop.slow()), "--json") as started:
        workers = running(shop, started)
        started.wait_until(
            lambda: len(started.workers()) == 1 or shop.parts("customers"), "one worker was left at work"
        )
        for worker in workers:
            os.kill(worker.pid, signal.SIGKILL)
        ended = started.end()

    verdicts = {export["export"]: export for export in ended.data["exports"]}
    assert ended.status == 2, ended.err
    assert verdicts["customers"]["status"] == "success"
    assert verdicts["items"]["failure"]["code"] == "WORKER_DIED"
    assert "was ended by SIGKILL" in ended.err
    assert "what to do  Look at the worker's last lines" in ended.err
    assert "run shop.yaml -e items" in ended.err
    assert_nothing_left(shop, workers)


def test_a_killed_worker_s_unit_is_done_by_another(shop: Shop) -> None:
    """E-31: a child that is killed fails its own unit, which is retried on another; the export is published whole."""
    config = shop.slow(throttle_ms=60, max_retries=3, retry_backoff_ms=10)
    with shop.started("run", str(config), "--json") as started:
        workers = running(shop, started)
        for worker in workers:
            os.kill(worker.pid, signal.SIGKILL)
        ended = started.end()

    verdicts = {export["export"]: export for export in ended.data["exports"]}
    assert ended.status == 0, ended.err
    assert verdicts["items"]["row_count"] == 5000
    assert verdicts["items"]["retry_count"] >= 1
    assert "is tried again" in ended.err


def test_a_killed_parent_leaves_no_worker(shop: Shop) -> None:
    """E-34: SIGKILL of the parent: its workers see the end of their standard input and are gone."""
    with shop.started("run", str(shop.slow())) as started:
        workers = running(shop, started)
        started.process.kill()
        started.process.wait()
        _, alive = psutil.wait_procs(workers, timeout=20)

    assert alive == []
    assert shop.parts("items") == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_no_secret_is_on_any_command_line(shop: Shop) -> None:
    """E-2: secrets reach workers through standard input and environment, never argv."""
    shop.env["SECRET_PATH"] = str(shop.folder / "shop.sqlite")
    config = shop.slow()
    text = config.read_text().replace('"shop.sqlite"', '"${SECRET_PATH}"')
    config.write_text(text)
    with shop.started("run", str(config.name)) as started:
        running(shop, started)
        lines = [" ".join(worker.cmdline()) for worker in started.workers()]
        started.process.send_signal(signal.SIGTERM)
        started.end()

    assert lines
    assert all(re.search(r"-P -m procflow_export worker --memory \d+$", line) for line in lines)
