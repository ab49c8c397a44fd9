"""Processes that a crashed run has left behind."""

from __future__ import annotations

import os
import platform
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from procflow.record import (
    CallKey,
    ForeignRecordError,
    Orphan,
    RecordEvent,
    ShSpawned,
    UnreadableRecordError,
    orphans,
    records_in,
)
from procflow.record.reading.liveness import boot_id, start_ticks
from tests.core.record.sample import header, lines_of, sample, stamp_all, started
from tests.core.record.writers import RecordWriter, record_writer

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="flock and /proc are needed")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


@contextmanager
def child_of(writer: RecordWriter) -> Iterator[int]:
    pid = int(writer.tell("exec"))
    fd = os.pidfd_open(pid)
    try:
        yield pid
    finally:
        signal.pidfd_send_signal(fd, signal.SIGKILL)
        select.select([fd], [], [])
        os.close(fd)


def begin(pid: int, pid_start: int | None, **facts: object) -> bytes:
    """The lines of a run with one call that runs as ``pid``."""
    here: dict[str, object] = {"host": platform.node(), "boot_id": boot_id()}
    events: list[RecordEvent] = [
        header(**(here | facts)),
        started("build", 1, "sleep", "60"),
        ShSpawned(job_id="build", attempt=1, sh=1, pid=pid, pid_start=pid_start),
    ]
    return b"".join(lines_of(stamp_all(events)))  # type: ignore[arg-type]  # they are events of a run


def test_a_child_that_outlives_its_recorder(file: Path) -> None:
    """RR-46: of a killed run the processes that live on are listed, with their calls, and none is ended by that."""
    with record_writer(file) as writer, child_of(writer) as child:
        writer.write(begin(child, start_ticks(child)))
        assert orphans(file) == []  # it is no orphan while its recorder lives
        writer.kill()

        found = orphans(file.parent)

        ticks = start_ticks(child)
        assert ticks is not None
        assert found == [Orphan(pid=child, pid_start=ticks, call=CallKey("build", 1, 1), cmd="sleep 60")]
        assert orphans(file) == found
    assert orphans(file) == []


def test_another_process_with_the_number(file: Path) -> None:
    """RR-46: the start must match too; without one nothing is claimed."""
    for pid_start in (1, None):
        file.write_bytes(begin(os.getpid(), pid_start))
        assert orphans(file) == []


def test_another_boot(file: Path) -> None:
    """RR-46: all processes of an earlier boot are gone, whatever has their numbers now."""
    file.write_bytes(begin(os.getpid(), start_ticks(os.getpid()), boot_id="another"))

    assert orphans(file) == []


@pytest.mark.parametrize("facts", [{"host": "another"}, {"boot_id": None}])
def test_another_machine(file: Path, facts: dict[str, object]) -> None:
    """RR-46: what cannot be known is not answered with "none"."""
    file.write_bytes(begin(os.getpid(), start_ticks(os.getpid()), **facts))

    with pytest.raises(ForeignRecordError, match="cannot be found here"):
        orphans(file)


def test_a_record_without_its_header(file: Path) -> None:
    """RR-46: it does not say whose its processes are; one that has none is asked nothing."""
    content = begin(os.getpid(), start_ticks(os.getpid()))
    file.write_bytes(content[content.index(b"\n") + 1 :])
    with pytest.raises(ForeignRecordError):
        orphans(file)

    file.write_bytes(b"")
    assert orphans(file) == []


def test_a_run_that_is_finished(file: Path) -> None:
    """RR-46: only a crash leaves orphans."""
    file.write_bytes(b"".join(lines_of(stamp_all(sample()))))

    assert orphans(file) == []


def test_no_record(file: Path) -> None:
    """RR-46: it is no crashed run either."""
    with pytest.raises(UnreadableRecordError):
        orphans(file)


RECORDER = """
import sys
import anyio
import procflow as pf
from procflow.record import open_run

async def main():
    async with open_run("nightly", record=sys.argv[1]) as run, run.job("build"):
        async with pf.spawn(pf.Command("sleep", "600"), containment="group") as child:
            print(child.pid, flush=True)
            await child.wait()

anyio.run(main)
"""


def test_a_real_run(tmp_path: Path) -> None:
    """RR-46: what nothing but its group held lives on when the host is killed, and is found by its record."""
    with subprocess.Popen([sys.executable, "-c", RECORDER, tmp_path], stdout=subprocess.PIPE, text=True) as host:
        assert host.stdout is not None
        pid = int(host.stdout.readline())
        fd = os.pidfd_open(pid)
        try:
            host.kill()
            host.wait()

            [record] = records_in(tmp_path)
            assert [(orphan.pid, orphan.call.job_id, orphan.cmd) for orphan in orphans(record.path)] == [
                (pid, "build", "sleep 600")
            ]
        finally:
            signal.pidfd_send_signal(fd, signal.SIGKILL)
            select.select([fd], [], [])
            os.close(fd)
    assert orphans(record.path) == []
