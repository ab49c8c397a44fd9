"""The host's terminal, lent to a child.

Each test runs a host of its own on a terminal of ours (``pty=``), and plays the person in front of it.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

import procflow as pf

pytestmark = pytest.mark.anyio

SOURCE = Path(pf.__file__).parent.parent

PROLOGUE = """
import os, signal, sys, termios
import anyio
import procflow as pf

def foreground():
    return os.tcgetpgrp(TTY) == os.getpgrp()

def echo():
    return bool(termios.tcgetattr(TTY)[3] & termios.ECHO)

TTY = os.open("/dev/tty", os.O_RDWR)
"""

ASKING = "stty -echo </dev/tty; printf 'password: ' >/dev/tty; read x </dev/tty; stty echo </dev/tty; echo got $x"


@asynccontextmanager
async def host(body: str, backend: str) -> AsyncIterator[pf.Process]:
    """Run ``body`` as the main coroutine of a host that leads the foreground of a terminal."""
    lines = textwrap.indent(textwrap.dedent(body), "    ")
    name, options = ("asyncio", {"use_uvloop": True}) if backend == "uvloop" else (backend, {})
    run = f"anyio.run(main, backend={name!r}, backend_options={options!r})"
    script = f"{PROLOGUE}\nasync def main():\n{lines}\n\n{run}\n"
    command = pf.Command(sys.executable, "-u", "-c", script, env={"PYTHONPATH": str(SOURCE)}, name="host")
    config = pf.StreamConfig(replay=pf.Replay.all())
    async with pf.spawn(command, pty=pf.Pty(), stdout=config, shutdown=pf.Shutdown.now()) as process:
        with anyio.fail_after(30):
            yield process


async def screen(process: pf.Process) -> list[str]:
    """Everything that was shown, once the host has ended."""
    outcome = await process.wait()
    async with process.stdout.lines(start="start") as lines:
        shown = [line async for line in lines]
    assert outcome.ok, "\n".join(shown)
    return shown


async def prompt(process: pf.Process, text: bytes) -> None:
    """Wait until ``text``, which no line end follows, is on the screen."""
    got = b""
    async with process.stdout.subscribe(start="start") as events:
        while text not in got:
            event = await events.receive()
            assert isinstance(event, pf.Chunk)
            got += event.data


async def test_a_password_prompt_works(backend: str) -> None:
    """C-10: the child asks on the terminal and reads the answer, while its outputs are streams of the host."""
    body = f"""
    done = await pf.run(pf.shell({ASKING!r}), terminal="shared")
    print("host has", done.stdout.text.strip(), foreground(), echo())
    """
    async with host(body, backend) as process:
        await prompt(process, b"password: ")
        await process.stdin.send(b"secret\n")
        shown = await screen(process)

    assert shown[-1] == "password: host has got secret True True"
    assert not any("secret" in line for line in shown[:-1])


async def test_the_child_has_a_group_of_its_own_in_the_foreground(backend: str) -> None:
    """C-10: a group of its own in the session of the host, in front while it lives and behind again afterwards."""
    body = """
    script = "import os; t = os.open('/dev/tty', os.O_RDWR); print(os.getpgrp() == os.getpid() == os.tcgetpgrp(t), os.getsid(0) == int(sys.argv[1]))"
    command = pf.Command(sys.executable, "-c", "import sys; " + script, str(os.getsid(0)))
    before = foreground()
    async with pf.spawn(command, terminal="shared") as child:
        outcome = await child.wait()
        after = foreground()
        print(before, after, await child.stdout.wait_for_line("."), any("session" in text for text in child.containment.missing))
    """
    async with host(body, backend) as process:
        shown = await screen(process)

    assert "True True LineMatch(text='True True'" in shown[-1]
    assert shown[-1].endswith("True")


async def test_a_pipeline_shares_the_terminal(backend: str) -> None:
    """C-10, C-9: all stages are in the foreground, so any of them may ask."""
    body = f"""
    done = await pf.run(pf.shell({ASKING!r}) | pf.shell("read y; printf 'sure? ' >/dev/tty; read z </dev/tty; echo $y $z"), terminal="shared")
    print("host has", done.stdout.text.strip(), foreground())
    """
    async with host(body, backend) as process:
        await prompt(process, b"password: ")
        await process.stdin.send(b"secret\n")
        await prompt(process, b"sure? ")
        await process.stdin.send(b"yes\n")
        shown = await screen(process)

    assert shown[-1] == "host has got secret yes True"


ENDINGS = {
    "kill": "await child.kill()",
    "terminate": "await child.terminate()",
    "leave": "pass",
    "raise": "raise KeyError",
    "cancel": "scope.cancel(); await anyio.sleep_forever()",
    "die": "os.kill(child.pid, signal.SIGKILL); await child.wait()",
}


@pytest.mark.parametrize("ending", ENDINGS)
async def test_the_terminal_comes_back_however_it_ends(ending: str, backend: str) -> None:
    """C-10: foreground and modes are those from before, also if the child could not clean up."""
    body = f"""
    import contextlib
    silent = "stty -echo </dev/tty; echo ready; sleep 60"
    with anyio.CancelScope() as scope, contextlib.suppress(KeyError):
        async with pf.spawn(pf.shell(silent), terminal="shared") as child:
            await child.stdout.wait_for_line("ready")
            print("lent", foreground(), echo())
            {ENDINGS[ending]}
    print("back", foreground(), echo())
    """
    async with host(body, backend) as process:
        shown = await screen(process)

    assert shown == ["lent False False", "back True True"]


async def test_what_exits_by_itself_leaves_the_modes_as_it_likes(backend: str) -> None:
    """C-10: ``stty`` is a child like any other."""
    body = """
    await pf.run(pf.Command("stty", "-echo"), terminal="shared")
    print("back", foreground(), echo())
    """
    async with host(body, backend) as process:
        assert await screen(process) == ["back True False"]


async def test_ctrl_c_is_for_the_child_alone(backend: str) -> None:
    """C-10: the host, whose group is in the background, does not get the signal."""
    body = """
    async with pf.spawn(pf.shell("echo ready; exec sleep 60"), terminal="shared") as child:
        await child.stdout.wait_for_line("ready")
        print("go")
        outcome = await child.wait()
    print(outcome, foreground())
    """
    async with host(body, backend) as process:
        await process.stdout.wait_for_line("go")
        await process.stdin.send(b"\x03")
        shown = await screen(process)

    assert shown[-1] == "^Csh was ended by SIGINT True"


async def test_ctrl_z_is_undone(backend: str) -> None:
    """C-10: nobody could continue the child, so it is continued; a SIGSTOP that somebody meant is left alone."""
    body = """
    told = "import signal; signal.signal(signal.SIGCONT, lambda *_: print('continued', flush=True)); print('ready', flush=True)\\nwhile True: signal.pause()"
    async with pf.spawn(pf.Command(sys.executable, "-c", told), terminal="shared", shutdown=pf.Shutdown.now()) as child:
        async with child.stdout.lines() as lines:
            while await anext(lines) != "ready": pass
            print("go")
            print(await anext(lines), foreground())
    """
    async with host(body, backend) as process:
        await process.stdout.wait_for_line("go")
        await process.stdin.send(b"\x1a")
        shown = await screen(process)

    assert shown[-1] == "^Zcontinued False"


async def test_who_reads_too_early_goes_on(backend: str) -> None:
    """C-10: a child that was stopped before it was in the foreground is continued: thirty times."""
    body = """
    for _ in range(30):
        await pf.run(pf.Command("stty", "-echo"), terminal="shared")
    print("done", foreground())
    """
    async with host(body, backend) as process:
        assert (await screen(process))[-1] == "done True"


async def test_one_child_at_a_time(backend: str) -> None:
    """C-10: a second one is refused, and the first one keeps the terminal; a failed start gives it back."""
    body = """
    async with pf.spawn(pf.Command("sleep", "60"), terminal="shared") as child:
        try:
            await pf.run(pf.Command("true"), terminal="shared")
        except pf.UsageError as exc:
            print(exc)
        print("first still has it", not foreground())
    try:
        await pf.run(pf.Command("no-such-program"), terminal="shared")
    except pf.SpawnError:
        print("refused", foreground())
    print((await pf.run(pf.Command("true"), terminal="shared")).outcome)
    """
    async with host(body, backend) as process:
        shown = await screen(process)

    assert "one at a time" in shown[0]
    assert shown[1:] == ["first still has it True", "refused True", "true exited with 0"]


async def test_a_dropped_block_gives_it_back(backend: str) -> None:
    """C-10, C-68: the last resort too."""
    if backend == "trio":
        pytest.skip("trio ends the host, because its main task lost a nursery; the same code runs there")
    body = """
    import warnings
    from procflow._process.stopping import last_resort
    last_resort.KILL_WAIT_S = 10.0  # a busy machine runs late what is to die
    warnings.simplefilter("ignore")
    scope = pf.spawn(pf.Command("sleep", "60"), terminal="shared")
    child = await scope.__aenter__()
    del scope
    await child.wait()
    print("back", foreground())
    """
    async with host(body, backend) as process:
        assert (await screen(process))[-1] == "back True"


async def test_a_host_in_the_background_has_nothing_to_lend(backend: str) -> None:
    """C-10: to take the foreground from somebody else would be rude; the error says why not."""
    body = """
    inner = "import anyio, os, procflow as pf\\nos.setpgid(0, 0)\\nasync def main():\\n    try: await pf.run(pf.Command('true'), terminal='shared')\\n    except pf.PlatformError as exc: print(exc)\\nanyio.run(main)"
    os.system(f"{sys.executable} -c \\"{inner}\\" | cat")
    """
    async with host(body, backend) as process:
        assert "background" in (await screen(process))[-1]


async def test_without_a_terminal_there_is_one_clear_error() -> None:
    """C-10: nothing is started."""
    script = (
        "import anyio, procflow as pf\n"
        "async def main():\n"
        "    try: await pf.run(pf.Command('true'), terminal='shared')\n"
        "    except pf.PlatformError as exc: print(exc)\n"
        "anyio.run(main)"
    )
    done = await pf.run(pf.Command(sys.executable, "-c", script, env={"PYTHONPATH": str(SOURCE)}))

    assert done.stdout.text == "terminal='shared' needs a terminal, and this process has none\n"
