"""What fakes promise beyond what every process does."""

from __future__ import annotations

import signal

import anyio
import pytest

import procflow as pf
from procflow.testing import FakeSpawner, ScriptError, UnscriptedError

pytestmark = pytest.mark.anyio


@pytest.fixture
def fake() -> FakeSpawner:
    return FakeSpawner()


async def test_command_without_a_script(fake: FakeSpawner) -> None:
    """C-93: a command that nobody scripted fails the test; its program is named, its arguments are not."""
    fake.on("git", "fetch")
    async with fake.installed():
        with pytest.raises(UnscriptedError, match="no script is left for git; there is one for: git") as caught:
            await pf.run(pf.Command("git", "push", "--token=secret"))

    assert "secret" not in str(caught.value)
    assert caught.value.program == "git"


async def test_scripts_are_chosen_by_program_and_first_arguments(fake: FakeSpawner) -> None:
    """C-93: the oldest script that matches and is not used up is taken; a path matches by its last part too."""
    fake.on("git", "fetch", times=1).exits(128)
    fake.on("git", "fetch").prints("fetched")
    fake.on("git").prints("other")
    async with fake.installed():
        assert (await pf.run(pf.Command("git", "fetch", "-q"), check=False)).outcome.exit_code == 128
        assert (await pf.run(pf.Command("/usr/bin/git", "fetch"))).stdout.text == "fetched"
        assert (await pf.run(pf.Command("git", "-q", "fetch"))).stdout.text == "other"


async def test_calls_are_recorded_and_keep_secrets(fake: FakeSpawner) -> None:
    """C-93: what was started, with what input and which signals, can be asserted; a repr shows no arguments."""
    fake.on("login").reads()
    fake.on("server").stays()
    async with fake.installed():
        await pf.run(pf.Command("login", "--password=secret", env={"TOKEN": "secret"}, cwd="/"), stdin="secret")
        async with pf.spawn(pf.Command("server")):
            assert fake.calls[1].is_running

    login, server = fake.calls
    assert (login.program, login.arguments, login.cwd, login.exit_code) == ("login", ("--password=secret",), "/", 0)
    assert login.environment is not None
    assert login.environment["TOKEN"] == "secret"
    assert login.stdin == b"secret"
    assert (server.signal, server.signals[0], server.is_running) == (signal.SIGTERM, signal.SIGTERM, False)
    assert "secret" not in repr(fake.calls) + repr(fake)


async def test_expected_input(fake: FakeSpawner) -> None:
    """C-93: the input that was expected is read, and what comes after it is left to the next step."""
    fake.on("login").expects("name\n").prints("password?\n").expects("1234\n").exits(0)
    async with fake.installed():
        done = await pf.run(pf.Command("login"), stdin="name\n1234\n")

    assert done.stdout.text == "password?\n"


@pytest.mark.parametrize(
    ("given", "problem"), [("nope\n", "differs after 1 bytes of 5"), ("na", "ended after 2 bytes of 5")]
)
async def test_unexpected_input(fake: FakeSpawner, given: str, problem: str) -> None:
    """C-93: another input than expected ends the child with 1 and fails the block, without showing the input."""
    fake.on("login").expects("name\n")
    with pytest.raises(ScriptError, match=problem) as caught:
        async with fake.installed():
            assert (await pf.run(pf.Command("login"), stdin=given, check=False)).outcome.exit_code == 1

    assert given.strip() not in str(caught.value)


@pytest.mark.parametrize("ending", ["itself", "exits", "stopped"])
async def test_more_input_than_expected(fake: FakeSpawner, ending: str) -> None:
    """C-93: ``expects()`` means exactly that: more input that no step reads fails the block, however the child ends."""
    script = fake.on("cat").expects("ab").expects("c")
    if ending == "exits":
        script.prints("x").exits(0)
    elif ending == "stopped":
        script.prints("up\n").stays()
    with pytest.raises(ScriptError, match="^cat: its input goes on after the 3 bytes that were expected$"):
        async with fake.installed():
            if ending == "stopped":
                async with pf.spawn(pf.Command("cat"), stdin=pf.PIPE) as child:
                    await child.stdin.send(b"abcdef")
                    await child.stdout.wait_for_line("up")
            else:
                assert (await pf.run(pf.Command("cat"), stdin="abcdef")).outcome.exit_code == 0


async def test_more_input_that_is_read_or_allowed(fake: FakeSpawner) -> None:
    """C-93: no complaint about input that a later step reads, that the script allows, or that never came."""
    fake.on("reader").expects("abc").reads()
    fake.on("head").expects("abc", allows_more=True)
    fake.on("exact").expects("abc").stays()
    async with fake.installed():
        await pf.run(pf.Command("reader"), stdin="abcdef")
        await pf.run(pf.Command("head"), stdin="abcdef")
        async with pf.spawn(pf.Command("exact"), stdin=pf.PIPE) as child:
            await child.stdin.send(b"abc")

    assert [bytes(call.stdin) for call in fake.calls[:2]] == [b"abcdef", b"abc"]


async def test_exception_of_the_block_goes_on(fake: FakeSpawner) -> None:
    """C-93: what the block raises comes out as it is, in no group."""
    fake.on("fails").exits(2)
    with pytest.raises(pf.ExitError):
        async with fake.installed():
            await pf.run(pf.Command("fails"))


async def test_child_that_cannot_be_killed(fake: FakeSpawner) -> None:
    """C-93: a child that hangs in the kernel outlives SIGKILL: the error names its number."""
    fake.on("stuck").survives_everything()
    async with fake.installed():
        with pytest.raises(pf.TerminationError) as caught:
            async with pf.spawn(pf.Command("stuck"), shutdown=pf.Shutdown.sigterm(0.02, kill_wait_s=0.02)):
                pass
        assert str(fake.calls[0].pid) in caught.value.survivors[0]
        assert fake.calls[0].signals[:2] == [signal.SIGTERM, signal.SIGCONT]
        assert signal.SIGKILL in fake.calls[0].signals


async def test_straggler_that_ignores_the_stop(fake: FakeSpawner) -> None:
    """C-93: a member that was left behind and ignores SIGTERM takes the phase; SIGKILL ends it."""
    fake.on("leader").leaves_behind(ignores=[signal.SIGTERM])
    async with fake.installed():
        async with pf.spawn(pf.Command("leader"), shutdown=pf.Shutdown.sigterm(0.02)) as child:
            await child.wait()

    assert child.outcome is not None
    assert [(phase.signal, phase.ended) for phase in child.outcome.phases] == [
        (signal.SIGTERM, False),
        (signal.SIGKILL, True),
    ]


async def test_straggler_that_ends_by_itself(fake: FakeSpawner) -> None:
    """C-93: ``orphans="wait"`` waits for a member that was left behind, and gets its output whole."""
    fake.on("leader").leaves_behind(for_s=0.1).prints("out")
    async with fake.installed():
        done = await pf.run(pf.Command("leader"), orphans="wait")

    assert (done.stdout.text, done.outcome.output_complete) == ("out", True)


def test_uncatchable_signals_cannot_be_scripted(fake: FakeSpawner) -> None:
    """C-93: a script cannot ignore what no process can."""
    for number in (signal.SIGKILL, signal.SIGSTOP):
        with pytest.raises(ValueError, match="can neither be ignored nor answered"):
            fake.on("x").ignores(number)


async def test_writer_without_a_reader_dies_by_sigpipe(fake: FakeSpawner) -> None:
    """C-93: a stage whose reader is gone is ended by SIGPIPE, as a real one, and forgiven."""
    fake.on("yes").prints("y\n" * 200_000)
    fake.on("head").expects("y\n", allows_more=True).prints("y\n").exits(0)
    async with fake.installed():
        done = await pf.run(pf.Command("yes") | pf.Command("head"))

    assert done.stages[0].outcome.signal == signal.SIGPIPE
    assert done.outcome.ok


async def test_tasks_that_the_block_starts_see_the_fake(fake: FakeSpawner) -> None:
    """C-93: it is installed for tasks started in the block, and only there."""
    fake.on("echo").prints("fake")
    texts: dict[str, str] = {}
    inside, outside_done = anyio.Event(), anyio.Event()

    async def echo(where: str) -> None:
        texts[where] = (await pf.run(pf.Command("echo", "real"))).stdout.text.strip()

    async def outside() -> None:
        await inside.wait()
        await echo("beside")
        outside_done.set()

    async with anyio.create_task_group() as outer:
        outer.start_soon(outside)
        async with fake.installed():
            async with anyio.create_task_group() as inner:
                inner.start_soon(echo, "inside")
            inside.set()
            await outside_done.wait()
        await echo("after")

    assert texts == {"inside": "fake", "beside": "real", "after": "real"}


async def test_containment_is_said_to_be_what_was_asked_for(fake: FakeSpawner) -> None:
    """C-93: no guard and no nanny is started for a fake; the program under test sees the level that it asked for."""
    fake.on("server").stays()
    async with fake.installed():
        for request, level in (("group", "group"), ("guarded", "guarded"), ("strict", "strict"), ("best", "strict")):
            async with pf.spawn(pf.Command("server"), containment=request) as child:  # type: ignore[arg-type]  # a loop
                assert (child.containment.requested, child.containment.level) == (request, level)


async def test_misuse(fake: FakeSpawner) -> None:
    """C-93: it is installed once at a time, and may be installed again after that."""
    async with fake.installed():
        with pytest.raises(pf.UsageError):
            async with fake.installed():
                pass
    async with fake.installed():
        pass


async def test_process_that_outlives_the_block_is_killed(fake: FakeSpawner) -> None:
    """C-93: whatever still runs when the fake is taken away is ended, so that nobody waits for it for ever."""
    fake.on("server").ignores(signal.SIGTERM).stays()
    installation = fake.installed()
    await installation.__aenter__()
    async with anyio.create_task_group() as tasks:

        async def serve() -> None:
            async with pf.spawn(pf.Command("server")) as child:
                outcome = await child.wait()
                assert outcome.signal == signal.SIGKILL

        tasks.start_soon(serve)
        while not fake.calls:
            await anyio.lowlevel.checkpoint()
        await anyio.lowlevel.checkpoint()
        fake._uninstall()
    await installation.__aexit__(None, None, None)


TERM, CONT, SWEEP = ("SIGTERM", False), ("SIGCONT", False), ("SIGKILL", True)
"""Signals of an obeyed stop, and whether the leader was known to have exited before."""


@pytest.mark.parametrize("way", ["obeys", "answers", "killed", "leader"])
async def test_events_of_fakes(fake: FakeSpawner, way: str) -> None:
    """C-93: observers are told of a fake what they are told of a real child, in the same order: what ends it comes before its end."""
    server = fake.on("server").prints("up\n")
    if way == "answers":
        server.on_signal(signal.SIGTERM, exits=0)
    server.stays()
    told: list[object] = []

    def note(event: pf.ProcessEvent) -> None:
        if isinstance(event, pf.Signalled):
            told.append((signal.Signals(event.signal).name, event.after_exit))
        else:
            told.append(type(event).__name__)

    async with fake.installed():
        with pf.observe(note):
            async with pf.spawn(pf.Command("server")) as child:
                await child.stdout.wait_for_line("up")
                if way == "killed":
                    await child.kill()
                elif way == "leader":
                    child.send_signal(signal.SIGTERM)
                    await child.wait()

    sent = {"killed": [("SIGKILL", False)], "leader": [TERM]}.get(way, [TERM, CONT])
    assert told == ["Spawned", *sent, "Exited", *([] if way == "killed" else [SWEEP]), "Reaped"]
