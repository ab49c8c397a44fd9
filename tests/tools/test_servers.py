"""The throw-away servers: one of each for a run, and nothing of them when the run has ended, however it ended."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tools.servers import Owner

ROOT = Path(__file__).parents[2]
BOUND_S = 30.0

INNER = """
import os, pathlib, select, sys, pytest
from tools.pytest_servers import mariadb_execute, postgres_execute

@pytest.mark.parametrize("number", range(6))
def test_uses_servers(postgres_database, mariadb_database, s3_store, number):
    postgres_execute(postgres_database, "CREATE TABLE t (x int)")
    mariadb_execute(mariadb_database, "CREATE TABLE t (x int)")
    report = pathlib.Path(os.environ["REPORT"])
    (report / f"{os.getpid()}-{number}").write_text(f"{postgres_database} {mariadb_database} {s3_store.endpoint}/{s3_store.bucket}")
    if os.environ.get("HANG"):
        os.mkfifo(report / f"hang-{os.getpid()}-{number}")
        open(report / f"hang-{os.getpid()}-{number}").read()
"""


def inner_run(directory: Path, *options: str, **environ: str) -> subprocess.Popen[bytes]:
    (directory / "test_inner.py").write_text(INNER)
    argv = [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, "--rootdir", str(directory)]
    argv += ["-p", "tools.pytest_servers", "-p", "no:cacheprovider", *options, str(directory)]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COVERAGE_"))}
    env = {**inherited, "PYTHONPATH": str(ROOT), "REPORT": str(directory), **environ}
    return subprocess.Popen(argv, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def wait_until(condition: Callable[[], object]) -> None:
    """Poll: what is awaited here happens in processes that are nobody's children."""
    deadline = time.monotonic() + BOUND_S
    while not condition():
        assert time.monotonic() < deadline, "not so after 30 s"
        time.sleep(0.02)


def processes_naming(text: str) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command_line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if text in command_line:
            found.append(command_line)
    return found


@pytest.mark.postgres
@pytest.mark.mariadb
@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_a_run_shares_one_server_of_each_kind_and_leaves_nothing(
    tmp_path: Path, options: tuple[str, ...], postgres_url: str, mariadb_url: str
) -> None:
    """All tests of a run, in whatever process, see the same three servers, which are gone when the run has ended."""
    run = inner_run(tmp_path, *options)

    output, _ = run.communicate(timeout=100)

    assert run.returncode == 0, output.decode()
    reports = [path.read_text().split() for path in tmp_path.glob("*-*")]
    assert len(reports) == 6
    ports = {url.rsplit("/", 1)[0] for report in reports for url in report}
    assert len(ports) == 3
    assert ports.isdisjoint({url.rsplit("/", 1)[0] for url in (postgres_url, mariadb_url)})
    assert len({tuple(report) for report in reports}) == 6
    assert not list(Path(tempfile.gettempdir()).glob(f"procflow-servers-{run.pid}-*"))


@pytest.mark.postgres
@pytest.mark.mariadb
@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["alone", "xdist"])
@pytest.mark.usefixtures("postgres_url", "mariadb_url")
def test_nothing_is_left_of_the_servers_when_the_run_is_killed(tmp_path: Path, options: tuple[str, ...]) -> None:
    """SIGKILL of the test run ends the servers and removes their directories."""
    run = inner_run(tmp_path, *options, HANG="1")
    wait_until(lambda: list(tmp_path.glob("hang-*")) or run.poll() is not None)
    assert run.poll() is None
    directory = Owner.of(run.pid).directory
    watchers = [
        Owner.parse(json.loads((directory / f"{kind}.json").read_text())["watcher"])
        for kind in ("postgres", "mariadb", "s3")
    ]
    pidfds = [watcher.open_pidfd() for watcher in watchers]
    assert len(processes_naming(str(directory))) >= 2

    run.send_signal(signal.SIGKILL)

    run.communicate(timeout=BOUND_S)
    for pidfd in pidfds:
        assert select.select([pidfd], [], [], BOUND_S)[0]
        os.close(pidfd)
    assert processes_naming(str(directory)) == []
    assert not directory.exists()


@pytest.mark.postgres
@pytest.mark.usefixtures("postgres_url")
def test_the_kernel_ends_the_server_when_the_watcher_is_killed() -> None:
    """A server does not outlive its watcher."""
    script = (
        "import os, sys; from tools.servers import Owner, ensure\n"
        "print(ensure('postgres', Owner.of(os.getpid())), flush=True); sys.stdin.read()"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    )
    assert owner.stdin
    assert owner.stdout
    owner.stdout.readline()
    directory = Owner.of(owner.pid).directory
    watcher = Owner.parse(json.loads((directory / "postgres.json").read_text())["watcher"])

    os.kill(watcher.pid, signal.SIGKILL)

    wait_until(lambda: not processes_naming(str(directory)))
    owner.kill()
    owner.communicate(timeout=BOUND_S)
    subprocess.run(["rm", "-r", str(directory)], check=True)  # what only the watcher would remove


@pytest.mark.postgres
@pytest.mark.usefixtures("postgres_url")
def test_the_command_passes_on_exit_code_signals_and_urls(tmp_path: Path) -> None:
    """`python -m tools.servers postgres -- CMD` is CMD with a server beside it."""
    ready = tmp_path / "ready"
    os.mkfifo(ready)
    script = f'trap "exit 7" TERM; echo "$PROCFLOW_PG_URL" > {ready}; while :; do sleep 0.05; done'
    command = subprocess.Popen([sys.executable, "-m", "tools.servers", "postgres", "--", "sh", "-c", script], cwd=ROOT)
    assert ready.read_text().startswith("postgresql://postgres@127.0.0.1:")
    directory = Owner.of(command.pid).directory
    assert directory.exists()

    command.terminate()

    assert command.wait(BOUND_S) == 7
    assert not directory.exists()


@pytest.mark.postgres
@pytest.mark.usefixtures("postgres_url")
def test_a_server_takes_further_options() -> None:
    """What a caller adds to the command line wins over what is always there."""
    script = (
        "import asyncio, asyncpg; from tools.servers import running\n"
        "async def shown(url):\n"
        "    connection = await asyncpg.connect(url)\n"
        "    print(await connection.fetchval('SHOW work_mem'), await connection.fetchval('SHOW fsync'))\n"
        "with running('postgres', options={'postgres': ['-c', 'work_mem=5MB', '-c', 'fsync=on']}) as urls:\n"
        "    asyncio.run(shown(urls['postgres']))"
    )

    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout == "5MB on\n"
