"""What a command shows of itself: its program, and more only where it is asked for."""

from __future__ import annotations

import logging
import shlex
import time
import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import procflow as pf
from procflow._process.spawn import SpawnRequest

SECRET = "hunter2"
COMMAND = pf.Command(
    "git", "-C", "a b", "push", f"--token={SECRET}", cwd="/srv/my repo", env={"LANG": "C", "PAGER": None}
)


def test_default_name_is_the_program_alone() -> None:
    """C-2: neither the derived name nor the repr of a command has an argument in it (TPT 19)."""
    for command in (COMMAND, pf.Command("/usr/bin/git", SECRET), COMMAND.with_(arguments=[SECRET])):
        assert command.name == "git"
        assert SECRET not in repr(command)
    assert COMMAND.describe() == "git"
    assert pf.shell(f"echo {SECRET}").name == "sh"


def test_parts_that_are_asked_for() -> None:
    """C-2: program, arguments, environment and directory each appear as documented (TPT 20)."""
    assert COMMAND.describe() == "git"
    assert COMMAND.describe(arguments=True) == "git -C 'a b' push '--token=<redacted>'"
    assert COMMAND.describe(environment=True) == "env -u PAGER LANG=C git"
    assert (
        COMMAND.describe(arguments=True, environment=True, cwd=True)
        == "cd '/srv/my repo' && env -u PAGER LANG=C git -C 'a b' push '--token=<redacted>'"
    )
    assert COMMAND.with_(inherit_env=False).describe(environment=True) == "env -i -u PAGER LANG=C git"
    assert pf.Command("git", env={"LANG": "C"}).describe(environment=True) == "LANG=C git"


def test_everything_can_be_shown() -> None:
    """C-2: without redaction the line is the whole command, and a shell would read it back (TPT 21)."""
    text = COMMAND.describe(arguments=True, environment=True, cwd=True, redaction=None)
    assert text.endswith(f"push --token={SECRET}")
    assert shlex.split(text)[6:] == ["LANG=C", "git", "-C", "a b", "push", f"--token={SECRET}"]


def test_combination() -> None:
    """C-2: directory and arguments without environment (TPT 22)."""
    text = COMMAND.describe(arguments=True, cwd=True)
    assert text == "cd '/srv/my repo' && git -C 'a b' push '--token=<redacted>'"
    assert pf.Command("git").describe(cwd=True) == "git"


@pytest.mark.anyio
async def test_spawn_failure_hides_arguments() -> None:
    """C-2: the error of a failed start, its causes and its traceback have the program and no argument (TPT 23)."""
    with pytest.raises(pf.SpawnError) as caught:
        await pf.run(pf.Command("/nonexistent/program", SECRET, env={"DB_PASSWORD": SECRET}), stdin=SECRET)
    assert "/nonexistent/program" in str(caught.value)
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert SECRET not in str(vars(caught.value))


@pytest.mark.anyio
async def test_handle_has_the_name() -> None:
    """C-2: the handle and the outcome have the derived name, or the given one (TPT 24)."""
    for command, name in ((pf.Command("/bin/true"), "true"), (pf.Command("true", name="my job"), "my job")):
        async with pf.spawn(command) as child:
            assert child.name == name
            assert (await child.wait()).name == name
        assert name in repr(child)


@pytest.mark.anyio
async def test_nothing_shows_arguments_unasked(caplog: pytest.LogCaptureFixture) -> None:
    """C-2: arguments, environment and input are in no log record, error, note or repr."""
    caplog.set_level(logging.DEBUG)
    command = pf.Command("sh", "-c", "cat >/dev/null; exit 3", SECRET, env={"DB_PASSWORD": SECRET})
    block = pf.spawn(command, stdin=SECRET)
    shown = [repr(command), repr(block), repr(vars(block))]

    with pytest.raises(pf.ExitError) as failed:
        await pf.run(command, stdin=SECRET)
    with pytest.raises(pf.TimedOut) as late:
        await pf.run(pf.Command("sleep", "60", env={"DB_PASSWORD": SECRET}), timeout_s=0.05, shutdown=pf.Shutdown.now())
    for error in (failed.value, late.value):
        shown += [*traceback.format_exception(error), repr(error), repr(error.outcome)]

    source = Path(__file__).read_text("utf-8").splitlines()
    assert not [text for text in (*shown, caplog.text) if SECRET in text and text.strip() not in map(str.strip, source)]


def test_name_can_be_printed() -> None:
    """C-2: bytes of a program that are no text are spelled out in its name, which is for logs and errors."""
    command = pf.Command(b"/opt/caf\xe9")
    assert command.name == "caf\\xe9"
    assert command.with_(arguments=["x"]).name == command.name
    assert pf.Command("/opt/café").name == "café"


@pytest.mark.anyio
async def test_name_with_arguments_is_asked_for() -> None:
    """C-2: a description that is made the name appears in errors, after redaction."""
    command = pf.Command("sh", "-c", "exit 3", "--password", SECRET)
    command = command.with_(name=command.describe(arguments=True))
    with pytest.raises(pf.ExitError) as caught:
        await pf.run(command)
    assert "sh -c 'exit 3' --password '<redacted>' exited with 3" in str(caught.value)


def test_request_to_the_spawner_shows_nothing() -> None:
    """C-2: what goes to the spawner can be logged by one without showing arguments or environment."""
    request = SpawnRequest(
        name="git",
        program="git",
        arguments=(SECRET,),
        cwd=None,
        environment={b"DB_PASSWORD": SECRET.encode()},
        umask=None,
        pass_fds=(),
        stdin=None,
        stdout=None,
        stderr=None,
    )
    assert SECRET not in repr(request)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--password", SECRET),
        ("--DB-Password", SECRET),
        ("-pass", SECRET),
        (f"--api-key={SECRET}",),
        (f"API_KEY={SECRET}",),
        (f"token: {SECRET}",),
        ("-H", f"Authorization: Bearer {SECRET}"),
        ("-H", f'{{"client_secret": "{SECRET}"}}'),
        (f"postgresql://me:{SECRET}@host/db",),
        ("-c", f"export GITHUB_TOKEN={SECRET} && true"),
        ("-c", f"export GITHUB_TOKEN='{SECRET} {SECRET}' && true"),
        ("-c", f"tool --password {SECRET} --verbose"),
        ("-c", f"curl -H 'Cookie: id={SECRET}; b={SECRET}' http://host"),
        (f"--password=two words {SECRET}",),
        (f'--password=quote"{SECRET}"',),
        (f"PASSWORD='it's {SECRET}",),
        ("-H", f'Authorization: Digest username="me", response="{SECRET}"'),
        ("-H", f'Cookie: id="{SECRET}"; b="{SECRET}"'),
        ("-d", f'{{"password": "a\\"{SECRET}", "user": "me"}}'),
        ("-c", f"TOKEN=a'{SECRET}'\\ {SECRET} tool"),
        ("-c", f'TOKEN="{SECRET} and no other quote'),
        ("-c", f"PASS={SECRET} tool"),
        (f"postgresql://me:p@{SECRET}@host/db",),
        (f"postgresql://me:p/q@{SECRET}@host/db",),
        (f"https://{SECRET}@host/repo.git",),
        (f"http://{SECRET}@host/repo.git",),
        (f"--accessKey={SECRET}",),
        (f"SharedAccessKey={SECRET}",),
    ],
)
def test_where_secrets_are_found(arguments: tuple[str, ...]) -> None:
    """C-2: options, assignments, headers and URLs with a telling name or place are redacted unless that is switched off."""
    command = pf.Command("tool", *arguments)
    assert SECRET not in command.describe(arguments=True)
    assert "<redacted>" in command.describe(arguments=True)
    assert SECRET in command.describe(arguments=True, redaction=None)


@pytest.mark.parametrize(
    "name", ["DB_PASSWORD", "github_token", "MYSQL_PWD", "AWS_SECRET_ACCESS_KEY", "DB_PASS", "PASS"]
)
def test_secret_variables(name: str) -> None:
    """C-2: a variable whose name promises a secret is redacted."""
    assert pf.Command("tool", env={name: SECRET}).describe(environment=True) == f"{name}='<redacted>' tool"


def test_what_is_no_secret_stays() -> None:
    """C-2: ordinary text is shown as it is."""
    arguments: tuple[str, ...] = (
        "-v",
        "--author",
        "me",
        "https://host/path?q=1",
        "key=value",
        "a: b",
        "bypass=1",
        "PWD=/srv",
        "OLDPWD=/",
    )
    arguments += ("ssh://git@host/repo.git", "git@host:repo.git", "--compass", "north")
    assert shlex.split(pf.Command("tool", *arguments).describe(arguments=True)) == ["tool", *arguments]
    assert pf.Command("tool", env={"PWD": "/srv"}).describe(environment=True) == "PWD=/srv tool"


@pytest.mark.parametrize("text", ["a", "token", "token=", 'token: "', "://a:", '"', " -token", "x@", "\\"])
def test_long_text_takes_linear_time(text: str) -> None:
    """C-2: an argument of 400 KB, whatever it holds, is described at once."""
    text = text * (400_000 // len(text))
    begun_s = time.process_time()
    pf.Command("tool", text, f"y {text}").describe(arguments=True)
    assert time.process_time() - begun_s < 10


def test_own_rules() -> None:
    """C-2: words, known values and the mark can be chosen."""
    redaction = pf.Redaction(words=("pin",), values=("4711", "4711-long"), mark="***")
    command = pf.Command("tool", "--pin", "12", "x4711-longx", "--token", "t")
    assert command.describe(arguments=True, redaction=redaction) == "tool --pin '***' 'x***x' --token t"
    assert "4711" not in repr(redaction)


def test_known_values_in_every_part() -> None:
    """C-2: a value that is named shows in no part of a description, and a mark is not taken for one."""
    command = pf.Command(
        f"/opt/{SECRET}/tool", "reds", cwd=f"/srv/{SECRET}", env={f"X{SECRET}": "1", f"Y{SECRET}": None}
    )
    redaction = pf.Redaction(values=("red", SECRET))
    text = command.describe(arguments=True, environment=True, cwd=True, redaction=redaction)
    assert SECRET not in text
    assert text.endswith(" '<redacted>s'")


def test_values_that_overlap_leave_no_fragment() -> None:
    """C-2: where known values overlap, all of them is taken out, and one mark stands there."""
    redaction = pf.Redaction(values=("user:hunter2", "hunter2-tail"))

    assert redaction.clean_values("user:hunter2-tail, hunter2") == "<redacted>, hunter2"


@pytest.mark.parametrize("wrong", [{"words": "token"}, {"values": "secret"}, {"values": ("",)}])
def test_rules_that_mean_something_else(wrong: dict[str, object]) -> None:
    """C-2: one text in place of several is refused, and so is an empty one, which is everywhere."""
    with pytest.raises((TypeError, ValueError)):
        pf.Redaction(**wrong)  # type: ignore[arg-type]  # wrong on purpose


@given(st.lists(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0"))), st.text("abc123", min_size=3))
def test_known_values_never_show(arguments: list[str], value: str) -> None:
    """C-2: a value that is named is in no description, whatever stands around it."""
    command = pf.Command("x", *[f"{argument}{value}{argument}" for argument in arguments], env={"KEY": value})
    text = command.describe(
        arguments=True, environment=True, redaction=pf.Redaction(words=(), values=(value,), mark="*")
    )
    assert value not in text
