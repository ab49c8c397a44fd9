"""A directory of the local file system as a destination.

Owns how a file becomes visible whole or not at all, and durable before anyone is told.  Must not know formats, manifests
or the order of a commit.

Two ways to write, the same promise.  Where the file system can, a new file has *no name* while it is written
(``O_TMPFILE``) and is linked into place when it is complete and synced: a crash leaves nothing.  Elsewhere it has a hidden
name that carries export and run, and is renamed.  The writer holds a ``flock`` on the hidden file, so the next run of the
export can tell a dead writer's file (the kernel has dropped the lock) from one that is being written, in whatever process.
Rejected: telling by process id (ids are reused) or by age (a slow table writes for hours).

Order, each step on disk before the next (W1, W2): bytes, ``fsync`` of the file, link or rename, ``fsync`` of the directory.
A file is replaced under a condition by whoever holds a ``flock`` on its directory, so that nobody else looks between the look
and the rename.  A lock file would be one more thing to leave behind.

Known hole: file systems that lie about ``fsync``, and network file systems without ``flock``, where nothing stale is removed
and the condition is looked at, but not held.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from procflow_export.destinations.crash import crash_point
from procflow_export.destinations.keys import SMALL_OBJECT_MAX_BYTES, check_key, is_temporary_of, temporary_name
from procflow_export.destinations.port import ObjectInfo, Owner, StoredObject, StoredPart, Version
from procflow_export.model.codes import Code
from procflow_export.model.errors import DestinationError

_NO_TMPFILE: Final = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EISDIR, errno.EINVAL, errno.ENOENT, errno.EPERM})
"""What ``open(O_TMPFILE)`` and ``linkat`` say where nameless files are not to be had (open(2), link(2))."""
LOCK_WAIT_S: Final = 30.0
_LOCK_POLL_S: Final = 0.02
_CODES: Final = {
    errno.ENOSPC: Code.DESTINATION_FULL,
    errno.EDQUOT: Code.DESTINATION_FULL,
    errno.EFBIG: Code.DESTINATION_FULL,
    errno.EACCES: Code.DESTINATION_DENIED,
    errno.EPERM: Code.DESTINATION_DENIED,
    errno.EROFS: Code.DESTINATION_DENIED,
    errno.EEXIST: Code.DESTINATION_NOT_USABLE,
    errno.ENOTDIR: Code.DESTINATION_NOT_USABLE,
    errno.EISDIR: Code.DESTINATION_NOT_USABLE,
    errno.ENAMETOOLONG: Code.DESTINATION_NOT_USABLE,
    errno.ELOOP: Code.DESTINATION_NOT_USABLE,
    errno.ESTALE: Code.DESTINATION_UNAVAILABLE,
    errno.ETIMEDOUT: Code.DESTINATION_UNAVAILABLE,
}


class LocalDestination:
    """A ``Destination`` in one directory, which is created when the first object needs it.

    Args:
        root: Absolute directory.
        owner: Whose temporary files are written and may be removed; without one nothing stale is removed.
        nameless: Whether to try files without a name; False always writes hidden names.
    """

    keeps_objects: bool = True
    max_part_bytes: int | None = None

    def __init__(self, root: Path, *, owner: Owner | None = None, nameless: bool = True) -> None:
        self._root = root
        self._owner = owner
        self._is_nameless = nameless and hasattr(os, "O_TMPFILE")

    @property
    def location(self) -> str:
        return str(self._root)

    @contextmanager
    def open_part(self, key: str) -> Iterator[LocalPart]:
        with self._new_file(key) as file:
            part = LocalPart(key, file)
            crash_point("part.writing")
            yield part
            with _explained(f"store {key}"):
                crash_point("part.written")
                file.sync()
                crash_point("part.synced")
                file.show(replace=True)
                crash_point("part.stored")
            part.seal()

    def put(self, key: str, data: bytes) -> None:
        self._store(key, data, replace=True)

    def create(self, key: str, data: bytes) -> None:
        self._store(key, data, replace=False)

    def replace(self, key: str, data: bytes, *, expected: Version | None) -> bool:
        if expected is None:
            try:
                self.create(key, data)
            except FileExistsError:
                return False
            return True
        with _locked(self._path(key).parent):
            found = self.read(key)
            if found is None or found.version != expected:
                return False
            self.put(key, data)
        return True

    def read(self, key: str) -> StoredObject | None:
        data = self.get(key)
        if data is None:
            return None
        return StoredObject(data=data, version=Version(e_tag=hashlib.sha256(data).hexdigest()))

    def get(self, key: str) -> bytes | None:
        try:
            with self.open_object(key) as file:
                data = file.read(SMALL_OBJECT_MAX_BYTES + 1)
        except FileNotFoundError:
            return None
        if len(data) > SMALL_OBJECT_MAX_BYTES:
            raise DestinationError(Code.DESTINATION_NOT_USABLE, f"{key} is larger than {SMALL_OBJECT_MAX_BYTES} bytes")
        return data

    def head(self, key: str) -> ObjectInfo | None:
        path = self._path(key)
        with _explained(f"look at {key}"):
            try:
                status = path.stat()
            except (FileNotFoundError, NotADirectoryError):
                return None
        return ObjectInfo(key=key, size_bytes=status.st_size) if path.is_file() else None

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        found = []
        with _explained("list objects"):
            for path in self._files():
                key = path.relative_to(self._root).as_posix()
                if key.startswith(prefix) and not any(segment.startswith(".") for segment in key.split("/")):
                    with contextlib.suppress(FileNotFoundError):
                        found.append(ObjectInfo(key=key, size_bytes=path.stat().st_size))
        yield from sorted(found, key=lambda info: info.key)

    @contextmanager
    def open_object(self, key: str) -> Iterator[BinaryIO]:
        path = self._path(key)
        with _explained(f"read {key}", passing=(FileNotFoundError,)):
            try:
                file = path.open("rb")
            except NotADirectoryError as exc:
                raise FileNotFoundError(key) from exc
        with file:
            yield file

    def remove(self, key: str) -> None:
        path = self._path(key)
        with _explained(f"remove {key}"), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            path.unlink()

    def remove_stale(self, stems: Collection[str] = ()) -> tuple[str, ...]:  # noqa: ARG002 (a lock tells who is dead)
        if self._owner is None:
            return ()
        export = self._owner.export
        with _explained("look for unfinished files"):
            unfinished = [path for path in self._files() if is_temporary_of(path.name, export)]
            removed = [path.relative_to(self._root).as_posix() for path in unfinished if _unlink_unlocked(path)]
        return tuple(sorted(removed))

    def _files(self) -> Iterator[Path]:
        for directory, _, names in os.walk(self._root):
            for name in names:
                yield Path(directory, name)

    def _path(self, key: str) -> Path:
        return self._root / check_key(key)

    @contextmanager
    def _new_file(self, key: str) -> Iterator[_NewFile]:
        with _explained(f"create {key}"):
            file = _NewFile(self._path(key), self._owner, nameless=self._is_nameless)
        try:
            yield file
        finally:
            file.close()

    def _store(self, key: str, data: bytes, *, replace: bool) -> None:
        passing = () if replace else (FileExistsError,)
        with self._new_file(key) as file, _explained(f"store {key}", passing=passing):
            file.write(data)
            file.sync()
            crash_point("put.synced")
            file.show(replace=replace)


class LocalPart:
    """A ``PartSink`` over a file that nobody can see yet."""

    def __init__(self, key: str, file: _NewFile) -> None:
        self.key = key
        self.size_bytes = 0
        self._file = file
        self._hash = hashlib.sha256()
        self._stored: StoredPart | None = None

    @property
    def stored(self) -> StoredPart:
        if self._stored is None:
            raise RuntimeError(f"part {self.key} is not stored")
        return self._stored

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        view = memoryview(data).cast("B")
        with _explained(f"write {self.key}"):
            self._file.write(view)
        self._hash.update(view)
        self.size_bytes += len(view)
        return len(view)

    def seal(self) -> None:
        """Say what was stored; the file and its directory are on disk (W2)."""
        checksum = f"sha256:{self._hash.hexdigest()}"
        self._stored = StoredPart(key=self.key, size_bytes=self.size_bytes, checksum=checksum)


class _NewFile:
    """A file on its way: invisible until ``show()``, gone if that is never reached."""

    def __init__(self, path: Path, owner: Owner | None, *, nameless: bool) -> None:
        self._path = path
        self._owner = owner
        self._temporary: Path | None = None
        _make_directories(path.parent)
        self._fd = self._open_nameless() if nameless else -1
        while self._fd < 0:
            self._temporary = path.with_name(temporary_name(owner))
            self._fd = _open_locked(self._temporary)

    def write(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]

    def sync(self) -> None:
        os.fsync(self._fd)

    def show(self, *, replace: bool) -> None:
        """Give the file its name, in one step, and make the name durable.

        Raises:
            FileExistsError: Without ``replace``, when the name is taken.
        """
        if self._temporary is None:
            self._link_nameless(replace=replace)
        if self._temporary is not None:
            if replace:
                self._temporary.rename(self._path)
            else:
                os.link(self._temporary, self._path)
                self._temporary.unlink()
            self._temporary = None
        _sync_directory(self._path.parent)

    def close(self) -> None:
        """Forget the file if it was not shown.  Idempotent."""
        if self._temporary is not None:
            with contextlib.suppress(FileNotFoundError):
                self._temporary.unlink()
            self._temporary = None
        if self._fd >= 0:
            os.close(self._fd)  # the lock goes last, so nobody takes the file for a dead one's
            self._fd = -1

    def _open_nameless(self) -> int:
        try:
            fd = os.open(self._path.parent, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o666)
        except OSError as exc:
            if exc.errno in _NO_TMPFILE:
                return -1
            raise
        if not Path(f"/proc/self/fd/{fd}").exists():  # a name can only be given through /proc without privileges
            os.close(fd)
            return -1
        return fd

    def _link_nameless(self, *, replace: bool) -> None:
        """Link to the final name; if that is taken and may be replaced, to a hidden name that a rename then moves."""
        try:
            self._link_to(self._path)
        except FileExistsError:
            if not replace:
                raise
            with contextlib.suppress(OSError):  # before it has a name, so that no clean-up can take it for stale
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            temporary = self._path.with_name(temporary_name(self._owner))
            self._link_to(temporary)
            self._temporary = temporary

    def _link_to(self, path: Path) -> None:
        # A directory descriptor makes CPython call linkat(AT_SYMLINK_FOLLOW); plain link() would not follow /proc's link.
        directory_fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.link(f"/proc/self/fd/{self._fd}", path.name, dst_dir_fd=directory_fd, follow_symlinks=True)
        finally:
            os.close(directory_fd)


def _open_locked(path: Path) -> int:
    """Create a hidden file and lock it; -1 when a clean-up saw it between the two and took it for stale."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(fd).st_nlink:
            return fd
    except BlockingIOError:
        path.unlink(missing_ok=True)
    except OSError:
        return fd  # no locks here: nothing is ever taken for stale either
    os.close(fd)
    return -1


def _make_directories(directory: Path) -> None:
    """Create ``directory``, and make every new name on the way durable."""
    missing = []
    while not directory.is_dir():
        missing.append(directory)
        directory = directory.parent
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        _sync_directory(path.parent)


def _sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Hold a directory against other holders; where directories cannot be locked, nobody is.

    Raises:
        DestinationError: If somebody else does not let go of it.
    """
    with _explained("lock the directory"):
        try:
            fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            yield
            return
    try:
        _lock(fd)
        yield
    finally:
        os.close(fd)  # and the lock with it


def _lock(fd: int) -> None:
    deadline_s = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline_s:
                raise DestinationError(
                    Code.DESTINATION_UNAVAILABLE, "another process publishes here, and does not get on with it"
                ) from None
            time.sleep(_LOCK_POLL_S)
        except OSError:
            return  # no locks here, as on some network file systems
        else:
            return


def _unlink_unlocked(path: Path) -> bool:
    """Remove a temporary file unless its writer lives; say whether it was removed."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
    except (BlockingIOError, FileNotFoundError):
        return False
    except OSError as exc:
        if exc.errno in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
            return False
        raise
    else:
        return True
    finally:
        os.close(fd)


@contextmanager
def _explained(step: str, *, passing: tuple[type[OSError], ...] = ()) -> Iterator[None]:
    """Turn what the operating system said into one of our codes; what is ``passing`` is an answer, not a failure."""
    try:
        yield
    except passing:
        raise
    except OSError as exc:
        code = _CODES.get(exc.errno or 0, Code.DESTINATION_FAILED)
        raise DestinationError(code, f"cannot {step}: {exc.strerror or type(exc).__name__}") from exc
