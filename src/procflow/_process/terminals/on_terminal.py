"""Starting a process on a terminal of its own, which becomes the controlling terminal of its session.

Owns one call of ``posix_spawn(3)``.  Must not know who reads or writes the terminal.

Problem: a terminal becomes the controlling one when the leader of a session without one opens it (``open(2)``, no
``O_NOCTTY``), so this has to happen in the child after ``setsid()``, and ``Popen`` runs nothing there but a
``preexec_fn``, for which it gives up ``vfork``.  ``posix_spawn`` opens files after ``setsid()``, and the C libraries
have actions for the rest, which Python's own ``os.posix_spawn`` lacks: ``addchdir_np`` (glibc 2.29, musl 1.1.24) and
``addclosefrom_np`` (glibc 2.34; elsewhere descriptors are closed by number).  There is no action for a umask.
Rejected: ``/bin/sh -c 'exec "$@" <tty'`` in between (a shell drops variables whose names it cannot spell, and adds its
own, and what it cannot execute is an exit code instead of an error), ``setsid --ctty`` (the same; and while it starts
there is no group to signal), an interpreter in between (10 ms), ``preexec_fn`` (forks the host).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Final, TypeAlias

from procflow.errors import PlatformError

SETSIGDEF: Final = 0x04
SETSID: Final = 0x80
"""Flags of ``spawn.h``; the same in glibc and musl."""

OPAQUE_BYTES: Final = 1024
"""More than any C library needs for attributes (336), actions (80) or a set of signals (128)."""

FIRST_OTHER_FD: Final = 3

RESTORED_SIGNALS: Final = (signal.SIGPIPE, signal.SIGXFSZ)
"""What the interpreter ignores, and a child must not find ignored."""

_Opaque: TypeAlias = "ctypes.Array[ctypes.c_char]"


def start_on_terminal(
    terminal: str,
    argv: Sequence[str | bytes],
    *,
    cwd: str | bytes | None,
    environment: Mapping[bytes, bytes] | None,
    pass_fds: Iterable[int],
) -> int:
    """Start a program in a session of its own, with ``terminal`` as 0, 1 and 2 and as its controlling terminal.

    ``None`` means the host's, for the directory and the environment.  Returns the pid.

    Raises:
        OSError: If it cannot be started.
        PlatformError: If the C library of this system lacks something.
    """
    library = _library()
    variables = os.environb if environment is None else environment
    arguments = _strings([os.fsencode(text) for text in argv])
    texts = _strings([name + b"=" + text for name, text in variables.items()])
    pid = ctypes.c_int(0)
    refusal = 0
    with _file_actions(library, terminal, cwd, sorted(set(pass_fds))) as actions, _attributes(library) as attributes:
        for path in _candidates(os.fsencode(argv[0]), cwd, variables):
            error = library.posix_spawn(ctypes.byref(pid), path, actions, attributes, arguments, texts)
            if error == 0:
                return pid.value
            # As execvp(3): another directory of PATH may have it, and a refusal is remembered.
            if error not in (errno.ENOENT, errno.ENOTDIR) and refusal == 0:
                refusal = error
    number = refusal or errno.ENOENT
    raise OSError(number, os.strerror(number))


def _candidates(program: bytes, cwd: str | bytes | None, variables: Mapping[bytes, bytes]) -> list[bytes]:
    """Return the paths to try, in order: each try is a fork, so what is not there is left out."""
    if b"/" in program:
        return [program]
    folders = variables.get(b"PATH", os.fsencode(os.defpath)).split(os.fsencode(os.pathsep))
    base = os.fsencode(cwd) if cwd is not None else b""
    paths = [os.path.join(folder or b".", program) for folder in folders]
    return [path for path in paths if os.path.exists(os.path.join(base, path))]


@contextlib.contextmanager
def _file_actions(
    library: ctypes.CDLL, terminal: str, cwd: str | bytes | None, pass_fds: Sequence[int]
) -> Iterator[_Opaque]:
    actions = ctypes.create_string_buffer(OPAQUE_BYTES)
    _check(library.posix_spawn_file_actions_init(actions))
    try:
        if cwd is not None:
            _check(library.posix_spawn_file_actions_addchdir_np(actions, os.fsencode(cwd)))
        # After setsid(), without O_NOCTTY: the controlling terminal from here on.
        _check(library.posix_spawn_file_actions_addopen(actions, 0, os.fsencode(terminal), os.O_RDWR, 0))
        for fd in (1, 2):
            _check(library.posix_spawn_file_actions_adddup2(actions, 0, fd))
        for fd in pass_fds:  # onto itself: this clears its close-on-exec flag
            _check(library.posix_spawn_file_actions_adddup2(actions, fd, fd))
        closes_rest = hasattr(library, "posix_spawn_file_actions_addclosefrom_np")
        rest = max(pass_fds, default=FIRST_OTHER_FD - 1) + 1
        for fd in _inheritable_fds():
            if fd >= FIRST_OTHER_FD and fd not in pass_fds and not (closes_rest and fd >= rest):
                _check(library.posix_spawn_file_actions_addclose(actions, fd))
        if closes_rest:
            _check(library.posix_spawn_file_actions_addclosefrom_np(actions, rest))
        yield actions
    finally:
        library.posix_spawn_file_actions_destroy(actions)


@contextlib.contextmanager
def _attributes(library: ctypes.CDLL) -> Iterator[_Opaque]:
    attributes, signals = (ctypes.create_string_buffer(OPAQUE_BYTES) for _ in range(2))
    _check(library.posix_spawnattr_init(attributes))
    try:
        library.sigemptyset(signals)
        for number in RESTORED_SIGNALS:
            library.sigaddset(signals, int(number))
        _check(library.posix_spawnattr_setsigdefault(attributes, signals))
        _check(library.posix_spawnattr_setflags(attributes, ctypes.c_short(SETSID | SETSIGDEF)))
        yield attributes
    finally:
        library.posix_spawnattr_destroy(attributes)


def _inheritable_fds() -> list[int]:
    """Return the descriptors that an ``exec`` would not close: few, since Python's own are all closed by it."""
    found: list[int] = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the one of the listing itself is closed by now
            if os.get_inheritable(int(name)):
                found.append(int(name))
    return found


def _strings(texts: Sequence[bytes]) -> ctypes.Array[ctypes.c_char_p]:
    return (ctypes.c_char_p * (len(texts) + 1))(*texts, None)


def _check(error: int) -> None:
    if error:
        raise OSError(error, os.strerror(error))


@cache
def _library() -> ctypes.CDLL:
    """Return the C library of this process.

    Its calls give up the interpreter lock, so nothing else in the host waits for the kernel.
    """
    try:
        library = ctypes.CDLL(None)
        library.posix_spawn_file_actions_addchdir_np  # noqa: B018 (is it there?)
    except (OSError, AttributeError) as exc:
        raise PlatformError(
            "a process can be started on a pty only where the C library has "
            "posix_spawn_file_actions_addchdir_np: glibc 2.29 or musl 1.1.24"
        ) from exc
    return library
