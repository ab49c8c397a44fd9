"""Cases of cancellation beyond one process: strict children, maps, services, probes, fakes."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

import anyio

import procflow as pf
import procflow.testing
from procflow import ready, record
from tests.core.record.runs import require_balance, the_run_in

from .cancelling import Attempt, cancels

NOW = pf.Shutdown.now()
SERVER = pf.shell("echo up; read x; echo down")


@cancels("spawn", "Process.terminate")
async def spawn_strictly(attempt: Attempt) -> None:
    """Cancelled while a nanny is hired, while she starts the child, and while she ends its tree."""

    async def call() -> None:
        async with pf.spawn(
            pf.shell("setsid sleep 60 & echo ready; wait"), containment="strict", shutdown=NOW
        ) as child:
            await child.stdout.wait_for_line("ready")
            await child.terminate(NOW)

    await attempt(call)


@cancels("Process.wait_ready")
async def wait_ready(attempt: Attempt) -> None:
    async with pf.spawn(SERVER, stdin=pf.PIPE, shutdown=NOW) as child:

        async def call() -> None:
            await child.wait_ready(ready.line("up"))

        await attempt(call)
        assert (await child.stdout.wait_for_line(".*")).text == "up"  # nobody has taken it


@cancels("map_run", "MapResults.__anext__")
async def map_run(attempt: Attempt) -> None:
    async def call() -> None:
        commands = (pf.shell(f"exit {number}") for number in (0, 3, 0))
        async with pf.map_run(commands, max_running=2, order="submitted", shutdown=NOW) as results:
            codes = [done.outcome.exit_code async for done in results if done.outcome is not None]
        assert codes == [0, 3, 0]

    await attempt(call)


@cancels("supervise", "Service.wait_ready", "Service.restart", "Service.stop", "Service.wait")
async def supervise(attempt: Attempt) -> None:
    async def call() -> None:
        async with pf.supervise(SERVER, stdin=pf.PIPE, ready=ready.line("up"), shutdown=NOW) as service:
            await service.wait_ready()
            await service.restart()
            await service.wait_ready()
            await service.stop()
            await service.wait()

    await attempt(call)


@cancels("ServiceReader.__aenter__", "ServiceReader.__anext__", "ServiceReader.__aexit__", "ServiceReader.aclose")
async def read_service(attempt: Attempt) -> None:
    async with pf.supervise(SERVER, stdin=pf.PIPE, shutdown=NOW) as service:
        reader = service.stdout.lines()
        got: list[str] = []

        async def call() -> None:
            async with reader:
                async for item in reader:
                    if isinstance(item, str):
                        got.append(item)
                        return

        await attempt(call)
        await reader.aclose()
        assert got in ([], ["up"])


@cancels("testing.FakeSpawner.installed")
async def fake(attempt: Attempt) -> None:
    async def call() -> None:
        spawner = procflow.testing.FakeSpawner()
        spawner.on("git").prints("a\n").exits(0)
        async with spawner.installed():
            assert (await pf.run(pf.Command("git"))).stdout.text == "a\n"

    await attempt(call)


@cancels("testing.HostileTree.wait_ready")
async def wait_hostile(attempt: Attempt) -> None:
    with procflow.testing.hostile_tree(procflow.testing.Hostile.TERM_IGNORER) as tree:
        config = pf.StreamConfig(replay=pf.Replay.all())
        async with pf.spawn(tree.command, stdout=config, shutdown=NOW) as child:

            async def call() -> None:
                await tree.wait_ready(child)

            await attempt(call)
            with anyio.move_on_after(30), contextlib.suppress(pf.NotReadyError):
                async with child.stdout.lines(start="start") as lines:
                    async for line in lines:
                        if line == "ready":
                            break


@cancels("record.open_run", "record.Run.job", "record.Run.sh", "record.Job.sh", "record.Run.run_jobs")
async def record_a_run(attempt: Attempt) -> None:
    """Wherever it is cancelled, whatever was begun has an end in the record."""

    async def work(job: record.Job) -> None:
        await job.sh("true", shutdown=NOW, containment="group")

    with tempfile.TemporaryDirectory() as root:

        async def call() -> None:
            async with record.open_run("x", record=root) as run:
                run.declare("a")
                await run.sh("true", shutdown=NOW, containment="group")
                async with run.job("b") as job:
                    await work(job)
                jobs = [
                    record.JobSpec(job_id=name, work=work, after=after) for name, after in (("c", ["b"]), ("d", ["c"]))
                ]
                await run.run_jobs(jobs, max_running=1)

        await attempt(call)
        if any(Path(root).iterdir()):
            require_balance(the_run_in(Path(root)))
