"""Commands and outcomes: values."""

from __future__ import annotations

import copy
import dataclasses
import os
from pathlib import Path

import pytest

import procflow as pf
from procflow._process.start import host_environment
from procflow.command import child_environment
from procflow.outcome import Captured


def test_command_is_a_frozen_value() -> None:
    """C-1: equal by content, hashable, and no field can be assigned."""
    first = pf.Command("git", "-C", Path("/srv"), b"fetch", cwd=Path("/tmp"), env={"A": "1"}, umask=0o77, pass_fds=[5])
    second = pf.Command("git", "-C", "/srv", b"fetch", cwd="/tmp", env={"A": "1"}, umask=0o77, pass_fds=(5,))

    assert first == second
    assert hash(first) == hash(second)
    assert first.arguments == ("-C", "/srv", b"fetch")
    assert copy.copy(first) == first
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.cwd = "/"  # type: ignore[misc]  # the point of the test
    with pytest.raises(TypeError):
        first.env["B"] = "2"  # type: ignore[index]  # the point of the test


def test_with_returns_changed_copies() -> None:
    """C-1: with_() copies; env is laid over what is there; a derived name follows the program."""
    base = pf.Command("/usr/bin/git", "fetch", env={"A": "1", "B": "2"})

    changed = base.with_(program="hg", arguments=["pull"], env={"B": None}, cwd="/srv")

    assert (base.name, changed.name) == ("git", "hg")
    assert changed.arguments == ("pull",)
    assert dict(changed.env) == {"A": "1", "B": None}
    assert base.cwd is None
    assert base.with_(name="fetcher").with_(program="hg").name == "fetcher"


def test_environment_is_set_unset_or_replaced() -> None:
    """C-1: a text sets a variable, None removes it, inherit_env=False begins with nothing."""
    host = {b"HOME": b"/root", b"LANG": b"C"}

    assert child_environment(pf.Command("x", env={"LANG": None, "A": "1"}), host, {}) == {b"HOME": b"/root", b"A": b"1"}
    assert child_environment(pf.Command("x", env={"A": "1"}, inherit_env=False), host, {}) == {b"A": b"1"}
    assert child_environment(pf.Command("x", inherit_env=False), host, {"T": "1"}) == {b"T": b"1"}
    assert child_environment(pf.Command("x"), host, {"T": "1"}) == {**host, b"T": b"1"}
    assert child_environment(pf.Command("x"), host, {}) is None  # the host's, not copied
    assert host == {b"HOME": b"/root", b"LANG": b"C"}


def test_host_environment_is_read_as_it_is_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """C-1: the short way to the host's environment gives what the long way gives, changes of this moment included."""
    monkeypatch.setenv("PROCFLOW_TEST_NEW", "\udcff")
    monkeypatch.delenv("HOME", raising=False)

    assert dict(host_environment()) == dict(os.environb)
    assert host_environment()[b"PROCFLOW_TEST_NEW"] == b"\xff"
    assert b"HOME" not in host_environment()


@pytest.mark.parametrize(
    "make",
    [
        lambda: pf.Command("sleep", 5),  # type: ignore[arg-type]
        lambda: pf.Command("x", env={"A": 5}),  # type: ignore[dict-item]
        lambda: pf.Command(["ls"]),  # type: ignore[arg-type]
    ],
)
def test_wrong_types_are_refused_where_they_are_written(make: object) -> None:
    """C-1: nothing is converted behind the caller's back."""
    with pytest.raises(TypeError):
        make()  # type: ignore[operator]


@pytest.mark.parametrize(
    "make",
    [
        lambda: pf.Command(""),
        lambda: pf.Command("x", "secret\0"),
        lambda: pf.Command("x", env={"A=B": "1"}),
        lambda: pf.Command("x", umask=0o7777),
        lambda: pf.Command("x", pass_fds=[-1]),
    ],
)
def test_impossible_values_are_refused_without_being_shown(make: object) -> None:
    """C-1: what the kernel would refuse is refused at once, and an argument is not part of the message."""
    with pytest.raises(ValueError) as caught:
        make()  # type: ignore[operator]

    assert "secret" not in str(caught.value)


def test_only_shell_leads_to_a_shell() -> None:
    """C-1: shell() is /bin/sh -c; a Command never splits or expands its texts."""
    assert pf.shell("a | b").arguments == ("-c", "a | b")
    assert pf.Command("echo $HOME; ls").program == "echo $HOME; ls"


def test_repr_shows_no_argument() -> None:
    """C-1: a command in a log or traceback does not show its arguments or environment (TPT 19)."""
    text = repr(pf.Command("mysql", "--password=hunter2", env={"TOKEN": "hunter3"}))

    assert "hunter" not in text
    assert "mysql" in text


def test_captured_text_and_lines() -> None:
    """C-61: what was kept is given as bytes, text and lines, and says what is missing."""
    captured = Captured(bytes=b"a\r\nb\n\nlast\xff", lost_bytes=3)

    assert captured.text == "a\r\nb\n\nlast\ufffd"
    assert captured.lines == ["a", "b", "", "last\ufffd"]
    assert captured.truncated
    assert Captured(bytes=b"").lines == []
    assert not Captured(bytes=b"").truncated


def test_derived_names() -> None:
    """C-1: the name comes from the program only (TPT 19)."""
    assert pf.Command("/usr/bin/git", "x").name == "git"
    assert pf.Command(os.fsencode("/bin/ls")).name == "ls"
    assert pf.Command("ls", name="list").name == "list"
