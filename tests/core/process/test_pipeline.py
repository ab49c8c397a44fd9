"""Pipelines of real children."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import anyio
import pytest

import procflow as pf
from procflow._process.leader import Leader
from procflow._process.scope import SpawnScope
from procflow._process.spawn import PopenSpawner, SpawnRequest
from procflow._process.start import SpawnOptions
from procflow._process.stdio.plans import plan_stdio
from tests.patience import Growing

from .conftest import group_is_gone, is_alive, process_state, python

pytestmark = pytest.mark.anyio

NOW = pf.Shutdown.now()


async def test_bytes_travel_through_the_kernel() -> None:
    """C-9: what the first stage is fed comes out of the last one."""
    data = os.urandom(300_000)

    done = await pf.run(pf.Command("cat") | pf.Command("cat") | pf.Command("wc", "-c"), stdin=data)

    assert done.stdout.text.split() == ["300000"]
    assert done.outcome.ok
    assert [str(stage) for stage in done.outcome.stages] == [
        "cat exited with 0",
        "cat exited with 0",
        "wc exited with 0",
    ]


async def test_a_stage_that_has_enough_ends_the_ones_before_it() -> None:
    """C-9: ``yes | head -1`` ends at once and well: SIGPIPE of an upstream stage is forgiven."""
    with anyio.fail_after(10):
        done = await pf.run(pf.Command("yes") | pf.Command("head", "-1"))

    assert done.stdout.text == "y\n"
    assert done.outcome.ok
    assert done.outcome.stages[0].signal == signal.SIGPIPE
    assert done.outcome.output_complete


async def test_a_shell_around_a_cut_stage_is_forgiven_too() -> None:
    """C-9: a shell turns SIGPIPE of its child into the exit code 141."""
    pipeline = pf.shell("yes; exit $?") | pf.Command("head", "-1")

    done = await pf.run(pipeline)

    assert (done.outcome.stages[0].exit_code, done.outcome.exit_code) == (141, 0)


async def test_ten_stages() -> None:
    """C-9: any number of stages; each has an outcome of its own."""
    pipeline = pf.Pipeline(*[pf.Command("cat", name=f"cat{i}") for i in range(10)])

    done = await pf.run(pipeline, stdin="through all of them")

    assert done.stdout.text == "through all of them"
    assert [stage.name for stage in done.outcome.stages] == [f"cat{i}" for i in range(10)]
    assert len({stage.pid for stage in done.outcome.stages}) == 10


async def test_the_error_names_the_stage_that_failed_and_has_its_stderr() -> None:
    """C-9: ``ExitError`` names the last stage that failed, carries its stderr, and those of all others."""
    first = pf.shell("echo from the first >&2; exit 1", name="first")
    second = pf.shell("cat; echo from the second >&2; exit 3", name="second")
    third = pf.shell("cat; echo from the third >&2", name="third")

    with pytest.raises(
        pf.ExitError, match=r"first \| second \| third failed in stage 2 of 3: second exited with 3"
    ) as info:
        await pf.run(first | second | third)

    error = info.value
    assert error.outcome.failed_stage is not None
    assert error.outcome.failed_stage.name == "second"
    assert error.stderr is not None
    assert error.stderr.text == "from the second\n"
    assert error.outcome.stderr_tail == b"from the second\n"
    assert [stage.stderr.text for stage in error.stages] == [
        "from the first\n",
        "from the second\n",
        "from the third\n",
    ]
    assert "from the second" in "".join(error.__notes__)


async def test_results_carry_every_stage() -> None:
    """C-9: without ``check`` the same is in the result; stdout is that of the last stage."""
    done = await pf.run(pf.shell("echo a; echo e >&2; exit 4") | pf.Command("cat"), check=False)

    assert (done.outcome.exit_code, done.outcome.decided_by) == (4, 0)
    assert (done.stdout.text, done.stderr.text) == ("a\n", "e\n")
    assert [stage.outcome for stage in done.stages] == list(done.outcome.stages)
    assert done.outcome.usage is not None


async def test_a_stage_that_cannot_be_started_leaves_nothing_behind() -> None:
    """C-9, C-3: the error names the stage; what was started before it is killed and reaped."""
    seen: list[pf.ProcessEvent] = []
    with pf.observe(seen.append):
        with pytest.raises(pf.SpawnError, match="stage 3 of 3: cannot start 'no-such-program'") as info:
            await pf.run(pf.Command("sleep", "60") | pf.Command("cat") | pf.Command("no-such-program"))

    started = [event.pid for event in seen if isinstance(event, pf.Spawned)]
    assert info.value.stage == 3
    assert len(started) == 2
    assert sorted(started) == sorted(event.pid for event in seen if isinstance(event, pf.Reaped))
    assert not any(is_alive(pid) for pid in started)


async def test_a_file_that_cannot_be_opened_starts_nothing(tmp_path: Path) -> None:
    """C-9: a file for the output of the last stage is opened before the first stage is started."""
    seen: list[pf.ProcessEvent] = []
    with pf.observe(seen.append):
        with pytest.raises(pf.SpawnError, match="stdout"):
            await pf.run(pf.Command("true") | pf.Command("true"), stdout=tmp_path / "no" / "file")

    assert not any(isinstance(event, pf.Spawned) for event in seen)


async def test_one_group_and_one_stop() -> None:
    """C-9, C-65: the stages, and what they start, are one group that one stop ends."""
    pipeline = pf.shell("sleep 60 & echo up; wait") | pf.shell("sleep 60 & cat; wait") | pf.Command("cat")

    async with pf.spawn(pipeline) as child:
        await child.stdout.wait_for_line("up")
        groups = {os.getpgid(stage.pid) for stage in child.stages}
        outcome = await child.terminate()

        assert groups == {child.pid}
        assert outcome.ended_by is pf.EndedBy.TERMINATE
        assert [stage.signal for stage in outcome.stages] == [signal.SIGTERM] * 3
        assert [phase.signal for phase in outcome.phases] == [signal.SIGTERM]
        assert group_is_gone(child.pid)
    assert any("session" in text for text in child.containment.missing)


async def test_a_stage_that_ignores_the_polite_signal_is_killed() -> None:
    """C-9, C-64: a phase waits for all stages; then all of them get SIGKILL."""
    stubborn = python("import signal,sys; signal.signal(15, signal.SIG_IGN); print('up', flush=True); signal.pause()")
    pipeline = pf.Command("sleep", "60") | stubborn

    grace = Growing(0.05)
    while True:
        async with pf.spawn(pipeline) as child:
            await child.stdout.wait_for_line("up")
            outcome = await child.terminate(pf.Shutdown.sigterm(grace.seconds))
        if outcome.stages[0].signal == signal.SIGTERM or not grace.grow():  # else it was not run in all that time
            break

    assert [stage.signal for stage in outcome.stages] == [signal.SIGTERM, signal.SIGKILL]
    assert group_is_gone(child.pid)


@pytest.mark.parametrize("stubborn_stage", [0, 1, 2])
async def test_leaving_the_block_ends_all_stages(stubborn_stage: int) -> None:
    """C-67: whichever stage resists, and whichever has exited already."""
    resisting = pf.shell("trap '' TERM; echo up >&2; while :; do sleep 60; done")
    stages = [pf.Command("true"), pf.Command("true"), pf.Command("true")]
    stages[stubborn_stage] = resisting

    async with pf.spawn(pf.Pipeline(*stages), shutdown=pf.Shutdown.sigterm(0.05)) as child:
        await child.stages[stubborn_stage].stderr.wait_for_line("up")
        for stage in child.stages:
            if stage.pid != child.stages[stubborn_stage].pid:
                assert (await stage.wait()).ok
        assert child.outcome is None

    assert child.outcome is not None
    assert child.outcome.ended_by is pf.EndedBy.SCOPE
    assert child.outcome.failed_stage == child.outcome.stages[stubborn_stage]
    assert group_is_gone(child.pid)
    assert all(process_state(stage.pid) is None for stage in child.stages)


async def test_the_end_of_the_last_stage_is_not_the_end_of_all() -> None:
    """C-9, C-60: a stage that ignores its output goes on, as in a shell; ``Stage.wait()`` waits for one of them."""
    async with pf.spawn(pf.shell("read x; exit 5") | pf.Command("true"), stdin=pf.PIPE) as child:
        last = await child.stages[1].wait()
        assert last.ok
        assert child.stages[1].outcome is not None
        assert child.outcome is None

        await child.stdin.send(b"\n")
        outcome = await child.wait()

    assert outcome.exit_code == 5
    assert outcome.ended_mono_s >= last.ended_mono_s


async def test_stdin_is_that_of_the_first_and_stdout_that_of_the_last_stage() -> None:
    """C-9: the handle has both ends; each stage has a stderr."""
    first, second = pf.shell("cat; echo 1 >&2"), pf.shell("cat; echo 2 >&2")

    async with pf.spawn(first | second, stdin=pf.PIPE) as child:
        await child.stdin.send(b"hello\n")
        assert (await child.stdout.wait_for_line("hello")).text == "hello"
        await child.stdin.aclose()
        for stage, text in zip(child.stages, "12", strict=True):
            async with stage.stderr.lines() as lines:
                assert [line async for line in lines] == [text]
        with pytest.raises(pf.UsageError, match="child.stages"):
            _ = child.stderr


async def test_not_ready_tells_of_the_stage_whose_output_it_was() -> None:
    """C-9, C-45: the outcome in ``NotReadyError`` is that of the stage that ended, not of one that still runs."""
    async with pf.spawn(pf.Command("sleep", "60") | pf.shell("exit 6"), shutdown=NOW) as child:
        with pytest.raises(pf.NotReadyError) as info, anyio.fail_after(10):
            await child.stdout.wait_for_line("never")

    assert info.value.outcome is not None
    assert info.value.outcome.exit_code == 6


async def test_merged_errors_of_all_stages_are_in_the_one_output() -> None:
    """C-9, C-8: ``merge_stderr`` sends the errors of every stage where the output of the last one goes."""
    pipeline = (
        pf.shell("echo 1 >&2; echo x") | pf.shell("read x; echo 2 >&2; echo y") | pf.shell("read y; echo 3 >&2; echo z")
    )

    done = await pf.run(pipeline, merge_stderr=True)

    assert done.stdout.text == "1\n2\n3\nz\n"


async def test_a_file_for_the_errors_is_shared(tmp_path: Path) -> None:
    """C-9, C-8: it is opened once, so no stage cuts what another wrote."""
    target = tmp_path / "errors"
    pipeline = pf.shell("echo 1 >&2; echo x") | pf.shell("read x; echo 2 >&2; echo y") | pf.shell("read y; echo 3 >&2")

    await pf.run(pipeline, stderr=target)

    assert sorted(target.read_text().split()) == ["1", "2", "3"]


async def test_each_stage_has_its_own_surroundings(tmp_path: Path) -> None:
    """C-9, C-1: working directory and environment belong to the command."""
    pipeline = pf.Command("pwd", cwd=tmp_path) | pf.shell('read line; echo "$line $X"', env={"X": "2"})

    done = await pf.run(pipeline)

    assert done.stdout.text == f"{tmp_path.resolve()} 2\n"


async def test_children_have_no_descriptors_of_their_neighbours() -> None:
    """C-9, C-69: each stage sees 0 to 2 only; an end too many would keep a neighbour from ever seeing the end."""
    names = "import os; names = os.listdir('/proc/self/fd'); print(sorted(map(int, names))[:-1], flush=True)"
    relay = names + "; import sys; sys.stdout.write(sys.stdin.read())"

    done = await pf.run(python(names) | python(relay) | python(relay))

    assert done.stdout.lines == ["[0, 1, 2]"] * 3


async def test_a_timeout_ends_the_whole_and_keeps_what_was_read() -> None:
    """C-9, C-63: the deadline is one for the pipeline."""
    timeout = Growing(0.3)
    while True:
        with pytest.raises(pf.TimedOut, match=r"stage 2 of 2: cat was ended by SIGTERM \(timeout\)") as info:
            await pf.run(pf.shell("echo so far; sleep 60") | pf.Command("cat"), timeout_s=timeout.seconds)
        if info.value.stdout.text or not timeout.grow():  # else they had no time to say anything
            break

    assert info.value.stdout is not None
    assert info.value.stdout.text == "so far\n"
    assert [stage.ended_by for stage in info.value.outcome.stages] == [pf.EndedBy.TIMEOUT] * 2


async def test_orphans_of_the_group_are_swept() -> None:
    """C-9, C-61: what a stage has left behind in the group is ended, before the group's number is given up."""
    events: list[pf.ProcessEvent] = []
    with pf.observe(events.append):
        done = await pf.run(pf.shell("sleep 60 >/dev/null & exit 0") | pf.shell("sleep 60 & cat"), drain_s=0.05)

    group = done.outcome.pid
    assert group_is_gone(group)
    assert not done.outcome.output_complete
    # C-66: the first stage is reaped last, and nothing is signalled after it.
    last = [event for event in events if isinstance(event, pf.Signalled | pf.Reaped)][-1]
    assert (type(last), last.pid) == (pf.Reaped, group)
    assert sum(isinstance(event, pf.Reaped) for event in events) == 2


async def test_a_signal_goes_to_every_stage_that_runs() -> None:
    """C-9: ``send_signal()`` and leader phases mean the stages themselves."""
    told = "trap 'echo got it >&2; exit 0' USR1; echo up >&2; while :; do sleep 0.01; done"
    async with pf.spawn(pf.shell(told) | pf.Command("true") | pf.shell(told), shutdown=NOW) as child:
        for stage in (child.stages[0], child.stages[2]):
            await stage.stderr.wait_for_line("up")
        await child.stages[1].wait()

        assert child.send_signal(signal.SIGUSR1)
        for stage in (child.stages[0], child.stages[2]):
            await stage.stderr.wait_for_line("got it")
        await child.wait()
        assert not child.send_signal(signal.SIGUSR1)


async def test_a_single_command_is_its_only_stage() -> None:
    """C-9: the handle of a command has one stage, with the same outcome."""
    async with pf.spawn(pf.shell("exit 3")) as child:
        outcome = await child.stages[0].wait()

    assert outcome.exit_code == 3
    assert outcome.stages == ()
    assert child.stages[0].outcome == child.outcome
    assert (child.stages[0].pid, child.stages[0].name) == (child.pid, child.name)


async def test_a_detached_pipeline_lives_on(tmp_path: Path) -> None:
    """C-9, C-68: ``detach()`` means all stages."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    pipeline = pf.shell(f"read x < {fifo}; echo $x") | pf.shell("cat > /dev/null")
    async with pf.spawn(pipeline, stdout=pf.NULL, stderr=pf.NULL) as child:
        await child.detach()

    assert all(is_alive(stage.pid) for stage in child.stages)
    await anyio.to_thread.run_sync(fifo.write_text, "go\n")
    with anyio.fail_after(10):
        while any(is_alive(stage.pid) for stage in child.stages):
            await anyio.sleep(0.005)
    await pf.run(pf.Command("true"))  # a later start reaps what was let go


async def test_lost_statuses_are_unknown(sigchld_ignored: None) -> None:
    """C-9, C-62: with SIGCHLD ignored no stage has a status, so the pipeline has none."""
    done = await pf.run(pf.Command("true") | pf.Command("true"), check=False)

    assert done.outcome.is_unknown
    assert not done.outcome.ok


async def test_a_stage_that_left_the_group_is_ended_too() -> None:
    """C-9, C-65: a stage is our child, whatever session it made for itself."""
    stray = python("import os, signal; os.setsid(); print('away', flush=True); signal.pause()")

    async with pf.spawn(pf.Command("sleep", "60") | stray) as child:
        await child.stdout.wait_for_line("away")
        outcome = await child.terminate()

    assert [stage.signal for stage in outcome.stages] == [signal.SIGTERM] * 2
    assert not is_alive(child.stages[1].pid)


async def test_a_first_stage_that_somebody_else_reaped(sigchld_ignored: None) -> None:
    """C-9: without its zombie the group is gone; the next stage leads a new one, and that is the one that is stopped."""

    class Patient(PopenSpawner):
        def spawn(self, request: SpawnRequest) -> Leader:
            leader = super().spawn(request)
            while request.program == "true" and process_state(leader.pid) is not None:
                os.sched_yield()
            return leader

    pipeline = pf.Command("true") | pf.Command("sleep", "60") | pf.Command("cat")
    plan = plan_stdio(pf.NULL, None, None, merge_stderr=False, default=pf.StreamConfig())
    with anyio.fail_after(10):
        async with SpawnScope(pipeline, SpawnOptions(stdio=plan, spawner=Patient())) as child:
            assert os.getpgid(child.stages[2].pid) == child.stages[1].pid == child.pid
            await child.terminate()

    assert not any(is_alive(stage.pid) for stage in child.stages)


async def test_many_pipelines_at_once() -> None:
    """C-9, C-69: a hundred pipelines, twenty at a time; the fixture counts what is left."""
    limiter = anyio.CapacityLimiter(20)

    async def one(number: int) -> None:
        async with limiter:
            done = await pf.run(
                pf.Command("cat") | pf.Command("head", "-c", "2") | pf.Command("cat"), stdin=f"{number:02}" * 9
            )
            assert done.stdout.text == f"{number:02}"

    async with anyio.create_task_group() as tasks:
        for number in range(100):
            tasks.start_soon(one, number)


async def test_a_dropped_pipeline_is_killed(patient_last_resort: None) -> None:
    """C-68: a block that is thrown away takes all stages with it."""
    scope = pf.spawn(pf.Command("sleep", "60") | pf.Command("sleep", "60"))
    child = await scope.__aenter__()
    pids = [stage.pid for stage in child.stages]

    with pytest.warns(ResourceWarning, match="group was killed"):
        del scope
    await child.wait()

    assert not any(is_alive(pid) for pid in pids)
