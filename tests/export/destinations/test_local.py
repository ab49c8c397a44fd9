"""What only a directory can get wrong: temporary names, dead writers, durability, errors of the system."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from procflow_export.destinations import local as local_module
from procflow_export.destinations import open_destination
from procflow_export.destinations.keys import is_temporary_of, temporary_name
from procflow_export.destinations.local import LocalDestination
from procflow_export.destinations.port import Owner
from procflow_export.model.codes import Code
from procflow_export.model.destination import DestinationConfig, DestinationType
from procflow_export.model.errors import DestinationError
from tests.export.destinations.conftest import OWNER

NAMELESS = pytest.mark.parametrize("nameless", [True, False], ids=["nameless", "named"])


def names(root: Path) -> list[str]:
    return sorted(path.name for path in root.rglob("*") if path.is_file())


def destination_in(root: Path, *, nameless: bool, owner: Owner | None = OWNER) -> LocalDestination:
    return LocalDestination(root, owner=owner, nameless=nameless)


def test_an_unfinished_file_has_no_name_where_that_can_be(tmp_path: Path) -> None:
    """E-34: while a part is written the directory shows no file at all."""
    try:
        os.close(os.open(tmp_path, os.O_TMPFILE | os.O_RDWR))
    except OSError:
        pytest.skip("this file system has no nameless files")

    with destination_in(tmp_path, nameless=True).open_part("a.csv") as part:
        part.write(b"x")
        assert names(tmp_path) == []
    assert names(tmp_path) == ["a.csv"]


def test_elsewhere_it_has_a_hidden_name_with_export_and_run(tmp_path: Path) -> None:
    """E-34: the hidden name tells whose file it is, and the listing does not show it."""
    destination = destination_in(tmp_path, nameless=False)

    with destination.open_part("a.csv"):
        (name,) = names(tmp_path)
        assert is_temporary_of(name, OWNER.export)
        assert OWNER.run_id in name
        assert list(destination.list()) == []
    assert names(tmp_path) == ["a.csv"]


def test_file_systems_without_nameless_files_get_hidden_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """E-34: when the file system refuses O_TMPFILE the same destination falls back by itself."""
    real_open = os.open

    def refusing_open(path: str, flags: int, *args: int, **kwargs: int) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "not supported")
        return real_open(path, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", refusing_open)

    with destination_in(tmp_path, nameless=True).open_part("a.csv") as part:
        part.write(b"x")
        assert is_temporary_of(names(tmp_path)[0], OWNER.export)
    assert names(tmp_path) == ["a.csv"]


@pytest.mark.parametrize("word", ["orders", "a~b", "ü/..", "=x", "", "%7E", "o" * 300, "ü" * 100])
def test_temporary_names_carry_any_export(word: str) -> None:
    """E-34: whatever an export is called, its temporary names are file names and say so."""
    name = temporary_name(Owner(export=word, run_id=f"run~{word}"))

    assert "/" not in name
    assert name.startswith(".procflow~")
    assert len(name.encode()) < 256
    assert is_temporary_of(name, word)
    assert not is_temporary_of(name, f"{word}_archive")
    assert not is_temporary_of(name, word[:-1] or "other")


def leave_behind(root: Path, owner: Owner, name: str | None = None) -> Path:
    """A temporary file whose writer is gone."""
    root.mkdir(parents=True, exist_ok=True)
    path = root / (name or temporary_name(owner))
    path.write_bytes(b"half")
    return path


def test_the_next_run_removes_what_dead_runs_left(tmp_path: Path) -> None:
    """E-34: unfinished files of dead runs of the same export go, sub-directories included; nothing else does."""
    stale = leave_behind(tmp_path, Owner(export="orders", run_id="run-0"))
    nested = leave_behind(tmp_path / "day=1", Owner(export="orders", run_id="run-0"))
    other = leave_behind(tmp_path, Owner(export="orders_archive", run_id="run-0"))
    part = leave_behind(tmp_path, OWNER, "orders-c00000-p000.csv")
    foreign = leave_behind(tmp_path, OWNER, ".something.tmp")

    removed = destination_in(tmp_path, nameless=True).remove_stale()

    assert sorted(removed) == sorted([stale.name, f"day=1/{nested.name}"])
    assert names(tmp_path) == sorted([other.name, part.name, foreign.name])
    assert destination_in(tmp_path, nameless=True).remove_stale() == ()


def test_files_that_are_being_written_are_left_alone(tmp_path: Path) -> None:
    """E-34: a live writer, of this process or another, keeps its file whatever run it belongs to."""
    writer = destination_in(tmp_path, nameless=False, owner=Owner(export="orders", run_id="run-0"))

    with writer.open_part("a.csv") as part:
        part.write(b"x")
        assert destination_in(tmp_path, nameless=True).remove_stale() == ()

    assert names(tmp_path) == ["a.csv"]


def test_without_an_owner_nothing_is_removed(tmp_path: Path) -> None:
    """E-34: a reader cleans nothing, and a place that does not exist has nothing to clean."""
    leave_behind(tmp_path, Owner(export="", run_id=""))

    assert destination_in(tmp_path, nameless=True, owner=None).remove_stale() == ()
    assert destination_in(tmp_path / "nowhere", nameless=True).remove_stale() == ()
    assert len(names(tmp_path)) == 1


@NAMELESS
def test_a_clean_up_between_creating_and_locking_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nameless: bool
) -> None:
    """E-34: a writer whose file was taken for stale in the moment before its lock takes another name."""
    real_flock = fcntl.flock
    victims: list[str] = []

    def flock_after_clean_up(fd: int, operation: int) -> None:
        if not victims:
            for path in tmp_path.glob(".procflow~*"):
                path.unlink()
                victims.append(path.name)
        real_flock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", flock_after_clean_up)

    with destination_in(tmp_path, nameless=nameless).open_part("a.csv") as part:
        part.write(b"whole")

    assert (tmp_path / "a.csv").read_bytes() == b"whole"
    assert names(tmp_path) == ["a.csv"]


@NAMELESS
def test_bytes_are_on_disk_before_the_name_and_the_name_before_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nameless: bool
) -> None:
    """E-42: W2: file synced, then named, then the directory synced, then the caller is told."""
    steps: list[str] = []
    real_fsync, real_link, real_rename = os.fsync, os.link, os.rename

    def fsync(fd: int) -> None:
        steps.append("sync directory" if Path(f"/proc/self/fd/{fd}").readlink() == tmp_path else "sync file")
        real_fsync(fd)

    def link(*args: object, **kwargs: object) -> None:
        steps.append("name")
        real_link(*args, **kwargs)  # type: ignore[arg-type]  # passed through

    def rename(source: Path, target: Path) -> None:
        steps.append("name")
        real_rename(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "link", link)
    monkeypatch.setattr(os, "rename", rename)

    with destination_in(tmp_path, nameless=nameless).open_part("a.csv") as part:
        part.write(b"x")
        steps.append("left")

    assert steps == ["left", "sync file", "name", "sync directory"]


def test_parts_obey_the_umask(tmp_path: Path) -> None:
    """E-40: parts are readable as the operator's umask says, not private as temporary files are."""
    old = os.umask(0o027)
    try:
        for nameless in (True, False):
            destination_in(tmp_path, nameless=nameless).put(f"{nameless}", b"")
            assert (tmp_path / f"{nameless}").stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(old)


@NAMELESS
def test_no_descriptor_is_left_open(tmp_path: Path, nameless: bool) -> None:
    """E-42: W1: neither success nor failure leaves a descriptor behind."""
    destination = destination_in(tmp_path, nameless=nameless)
    destination.put("first", b"")
    before = len(list(Path("/proc/self/fd").iterdir()))

    for _ in range(3):
        with destination.open_part("a.csv") as part:
            part.write(b"x")
        with pytest.raises(RuntimeError), destination.open_part("b.csv"):
            raise RuntimeError
        destination.put("c", b"")
        with pytest.raises(FileExistsError):
            destination.create("c", b"")
    destination.remove_stale()

    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert names(tmp_path) == ["a.csv", "c", "first"]


@contextmanager
def file_size_limit(max_bytes: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (max_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


@NAMELESS
def test_no_room_is_one_clear_error(tmp_path: Path, nameless: bool) -> None:
    """E-42: W1: a write that the system refuses half-way is DESTINATION_FULL, names the part, and leaves nothing."""
    destination = destination_in(tmp_path, nameless=nameless)

    with (
        file_size_limit(1000),
        pytest.raises(DestinationError, match=r"cannot write a\.csv") as caught,
        destination.open_part("a.csv") as part,
    ):
        part.write(b"x" * 5000)

    assert caught.value.code is Code.DESTINATION_FULL
    assert names(tmp_path) == []


@pytest.mark.root
def test_a_full_disk_is_one_clear_error(tmp_path: Path) -> None:
    """E-42: W1: a file system that is really full gives DESTINATION_FULL, and the part is not there."""
    script = """
import subprocess, sys, pathlib
root = pathlib.Path(sys.argv[1])
if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(root)], capture_output=True).returncode:
    sys.exit(77)
from procflow_export.destinations.local import LocalDestination
from procflow_export.model.errors import DestinationError
for nameless in (True, False):
    try:
        with LocalDestination(root, nameless=nameless).open_part("a.csv") as part:
            part.write(b"x" * 1_000_000)
    except DestinationError as exc:
        print(exc.code.value, [path.name for path in root.iterdir()])
"""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        ["unshare", "--mount", sys.executable, "-c", script, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment,
    )
    if done.returncode == 77 or "unshare failed" in done.stderr:
        pytest.skip("no mount namespaces here")

    assert done.stdout.splitlines() == ["DESTINATION_FULL []"] * 2, done.stderr


def test_no_permission_is_one_clear_error(tmp_path: Path) -> None:
    """E-40: a directory that may not be written is DESTINATION_DENIED."""
    if os.geteuid() == 0:
        root = Path("/proc/self/nowhere")  # even root creates nothing there
        expected = {Code.DESTINATION_DENIED, Code.DESTINATION_FAILED}
    else:
        root = tmp_path
        tmp_path.chmod(0o500)
        expected = {Code.DESTINATION_DENIED}
    try:
        with pytest.raises(DestinationError, match=r"cannot create a\.csv") as caught:
            destination_in(root, nameless=True).put("a.csv", b"")
    finally:
        tmp_path.chmod(0o700)
    assert caught.value.code in expected


@pytest.mark.parametrize(
    ("number", "code", "is_transient"),
    [
        (errno.ENOSPC, Code.DESTINATION_FULL, False),
        (errno.EDQUOT, Code.DESTINATION_FULL, False),
        (errno.EACCES, Code.DESTINATION_DENIED, False),
        (errno.EROFS, Code.DESTINATION_DENIED, False),
        (errno.ESTALE, Code.DESTINATION_UNAVAILABLE, True),
        (errno.EIO, Code.DESTINATION_FAILED, False),
        (errno.ENOENT, Code.DESTINATION_FAILED, False),
    ],
)
def test_errors_of_the_system_become_codes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: Code, is_transient: bool
) -> None:
    """E-61: what the system said decides code and retry, at whatever step it happens, and nothing becomes visible."""

    def fail(fd: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)

    with pytest.raises(DestinationError) as caught, destination_in(tmp_path, nameless=True).open_part("a.csv") as part:
        part.write(b"x")
    assert (caught.value.code, caught.value.is_transient) == (code, is_transient)
    assert isinstance(caught.value.__cause__, OSError)
    assert names(tmp_path) == []


def test_a_file_in_the_way_is_one_clear_error(tmp_path: Path) -> None:
    """E-40: a file where a directory is needed, or a directory where an object goes, is DESTINATION_NOT_USABLE."""
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "out" / "a.csv").mkdir(parents=True)

    for root, key in ((tmp_path / "file" / "deep", "a.csv"), (tmp_path / "out", "a.csv")):
        with pytest.raises(DestinationError) as caught:
            destination_in(root, nameless=False).put(key, b"")
        assert caught.value.code is Code.DESTINATION_NOT_USABLE
    assert destination_in(tmp_path / "out", nameless=True).head("a.csv") is None


@pytest.mark.anyio
@pytest.mark.parametrize("path", [None, "", "relative/out", "/srv/../etc"])
async def test_the_path_is_absolute_and_plain(path: str | None) -> None:
    """E-41: a destination opens only at an absolute path without `..`."""
    config = DestinationConfig(type=DestinationType.LOCAL, path=path)

    with pytest.raises(DestinationError, match="absolute") as caught:
        async with open_destination(config):
            pass
    assert caught.value.code is Code.DESTINATION_NOT_USABLE


@pytest.mark.anyio
async def test_a_destination_opens_where_nothing_is(tmp_path: Path) -> None:
    """E-40: opening creates nothing; the first object creates its directories."""
    root = tmp_path / "a" / "b"
    async with open_destination(
        DestinationConfig(type=DestinationType.LOCAL, path=str(root)), owner=OWNER
    ) as destination:
        assert destination.location == str(root)
        assert list(destination.list()) == []
        assert not root.exists()
        destination.put("x", b"1")
    assert names(tmp_path) == ["x"]


def test_who_holds_the_directory_is_waited_for_and_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """E-43: while another process looks and replaces, nobody else does; one that hangs is told, and nothing was changed."""
    destination = destination_in(tmp_path, nameless=True)
    destination.put("manifest.json", b"1")
    seen = destination.read("manifest.json")
    assert seen is not None
    monkeypatch.setattr(local_module, "LOCK_WAIT_S", 0.0)
    holder = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(holder, fcntl.LOCK_EX)

    with pytest.raises(DestinationError, match="does not get on") as caught:
        destination.replace("manifest.json", b"2", expected=seen.version)
    assert caught.value.code is Code.DESTINATION_UNAVAILABLE
    assert destination.get("manifest.json") == b"1"

    os.close(holder)
    assert destination.replace("manifest.json", b"2", expected=seen.version)


def test_a_directory_that_cannot_be_locked_is_looked_at_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E-43: on a file system without locks the condition holds up to an instant, as the page says."""

    def refuse(fd: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    destination = destination_in(tmp_path, nameless=True)
    destination.put("manifest.json", b"1")
    seen = destination.read("manifest.json")
    assert seen is not None
    monkeypatch.setattr(fcntl, "flock", refuse)

    assert destination.replace("manifest.json", b"2", expected=seen.version)
    assert not destination.replace("manifest.json", b"3", expected=seen.version)
