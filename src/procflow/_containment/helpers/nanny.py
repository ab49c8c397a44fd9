"""The nanny: the parent of one tree of processes, from which nothing in the tree can get away.

This file is a program: ``python -I -S nanny.py HOST CONTROL CGROUP``.  HOST is a descriptor of the host's pidfd, CONTROL one of a
SEQPACKET socket, CGROUP the path of a cgroup v2 directory to make our own below, or nothing.  Standard library only.

Three kinds of process run it:

* the *template*, one for each host.  It forks spares, one at a time, and waits.
* a *spare*, forked in advance: it reads CONTROL.  The one message that comes there holds a socket, its *channel*; from then on
  the spare is
* a *nanny*: a child subreaper (``prctl(2)``), so every orphan below it becomes its child.  It starts what the host asks for,
  tells how it ended, and kills all of its children when it is told to, or when the host is gone.

Messages on the channel, one packet each; ``marshal`` on both sides, which is the same interpreter:

=========  ================================================================================================================
to nanny   ("spawn", fields) with descriptors: the working directory, the writing end of a report pipe, then what the child
           gets, in the order of ``numbers``.  ``fields`` are marshalled by themselves; where they are too long for a packet,
           ``None``, and a file in memory with them is the first descriptor.  Answer: ("started", pid) or
           ("failed", errno, step)
           ("kill",): SIGKILL to every child until only leaders that were not reaped are left.  No answer
           ("reap", pid): give up the zombie of a leader.  No answer
           ("let go",): from now on kill nothing, also when the host is gone.  Answer: ("gone",)
           ("rest",): the tree has ended.  If so, and if nothing of it is left on the nanny, she is there for the next one, and
           says "hello" again; otherwise it means "close"
           ("close",): the host wants nothing more: end what is left, then yourself.  So does the end of the channel, which
           does not come while a forked copy of the host lives.  No answer
to host    ("hello", pid, cgroup): first of all; the cgroup's path, or nothing
report     (code, number, core, user_s, system_s, max_rss_bytes) of a leader, once, when it has exited; then the end of the pipe
=========  ================================================================================================================

A leader that has exited stays a zombie until "reap" comes, so its number, and that of its group, can be signalled safely.
Everything else that ends is reaped at once.

It is one file, longer than a module should be, because a helper is started by its path and imports nothing of the package.

When a nanny is killed its children become the template's, which is a subreaper too, and kills them.
A template whose control socket has ended was given up by its host: it forks no more, and ends with the last nanny.
Known holes: a nanny that is killed after, or with, the template; programs that others start on request (systemd, docker, cron);
a process that changed its user, if the nanny is not root; a cgroup that is frozen before she has left it, right after a start.
"""

from __future__ import annotations

import array
import ctypes
import errno
import fcntl
import marshal
import os
import resource
import select
import signal
import socket
import sys
import time
from contextlib import contextmanager, suppress

TYPE_CHECKING = False  # as ``typing`` has it, whose import costs more than all others here
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

PR_SET_CHILD_SUBREAPER = 36
WAITID_NUMBERS = {"x86_64": 247, "aarch64": 95, "riscv64": 95}
FIRST_TICK_S = 0.0005
LAST_TICK_S = 0.02
MAX_FDS = 250
CONTROLLERS = "+memory +cpu"
RESTORED_SIGNALS = (signal.SIGPIPE, signal.SIGXFSZ)
"""What an interpreter ignores, and a child must not find ignored."""

LIMITS = sorted({getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")})

libc = ctypes.CDLL(None, use_errno=True)


# --- small things ------------------------------------------------------------------------------------------------------


def become_subreaper() -> None:
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def receive(sock: socket.socket) -> tuple[bytes, list[int]]:
    """Return the next packet and its descriptors; an empty packet is the end."""
    room = socket.CMSG_SPACE(MAX_FDS * array.array("i").itemsize)
    data, ancillary, _flags, _address = sock.recvmsg(65536, room, socket.MSG_CMSG_CLOEXEC)
    fds = array.array("i")
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
    return data, list(fds)


def read_whole(fd: int) -> bytes:
    with open(fd, "rb") as file:
        file.seek(0)
        return file.read()


def children() -> list[int]:
    """Return the children of this process, zombies included."""
    me = os.getpid()
    try:
        with open(f"/proc/{me}/task/{me}/children", "rb") as file:
            return [int(pid) for pid in file.read().split()]
    except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN
        return [int(name) for name in os.listdir("/proc") if name.isdigit() and parent_of(int(name)) == me]


def parent_of(pid: int) -> int:
    with suppress(OSError), open(f"/proc/{pid}/stat", "rb") as file:
        return int(file.read().rpartition(b")")[2].split()[1])
    return 0


class Alarm:
    """A descriptor that becomes readable when a child has ended."""

    def __init__(self) -> None:
        self.fd, self.write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self.write_end, warn_on_full_buffer=False)
        # A handler of Python's, not SIG_IGN: handlers are reset when a child executes its program, ignored signals are not.
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if number == signal.SIGCHLD or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, lambda *_: None)

    def clear(self) -> None:
        with suppress(BlockingIOError):
            while os.read(self.fd, 4096):
                pass


# --- cgroups -----------------------------------------------------------------------------------------------------------


class Cgroups:
    """Our directory below a delegated one: ``helpers`` for ourselves, and a leaf for each tree."""

    def __init__(self, base: str, host_pid: int) -> None:
        self.came_from = own_cgroup(base)
        self.root = f"{base}/procflow-{host_pid}-{os.getpid()}"
        self.helpers = f"{self.root}/helpers"
        sweep_stale(base)
        os.mkdir(self.root)
        try:
            # Held by the template and its nannies, in whatever namespace a later host meets the directory.
            self.lock = os.open(self.root, os.O_RDONLY | os.O_CLOEXEC)
            fcntl.flock(self.lock, fcntl.LOCK_SH)
            os.mkdir(self.helpers)
            for path in (base, self.root):
                with suppress(OSError):  # not given to us; who asks for a limit is told
                    write(f"{path}/cgroup.subtree_control", CONTROLLERS)
            self.enter(self.helpers)
        except OSError:
            self.remove()
            raise

    def enter(self, path: str) -> None:
        write(f"{path}/cgroup.procs", "0")

    def leaf_of(self, pid: int) -> str:
        return f"{self.root}/{pid}"

    def remove(self) -> None:
        """Remove our directories, as far as they are empty; what is left is removed by a later host."""
        with suppress(OSError):
            self.enter(self.came_from)
        for path in (self.helpers, self.root):
            with suppress(OSError):
                os.rmdir(path)


def own_cgroup(base: str) -> str:
    """Return the directory of the cgroup that we are in now, below the mount that ``base`` is below."""
    with open("/proc/self/cgroup") as file:
        mine = next(line.rstrip("\n")[3:] for line in file if line.startswith("0::"))
    with open("/proc/self/mountinfo") as file:
        mounts = [line.split()[4] for line in file if " - cgroup2 " in line]
    mount = max((path for path in mounts if f"{base}/".startswith(f"{path}/")), key=len)
    return mount + mine.rstrip("/")


def sweep_stale(base: str) -> None:
    """Remove the empty directories of hosts that are gone: nobody holds a lock on theirs."""
    for name in os.listdir(base):
        if name.startswith("procflow-"):
            with suppress(OSError):
                fd = os.open(f"{base}/{name}", os.O_RDONLY | os.O_CLOEXEC)
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    for folder, _names, _files in os.walk(f"{base}/{name}", topdown=False):
                        with suppress(OSError):
                            os.rmdir(folder)
                finally:
                    os.close(fd)


def write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


# --- the template ------------------------------------------------------------------------------------------------------


class Template:
    """Forks spares; ends with the last nanny after the host."""

    def __init__(self, host: int, control: socket.socket, base: str) -> None:
        self.host, self.control = host, control
        self.alarm = Alarm()
        self.poller = select.poll()
        self.poller.register(host, select.POLLIN)
        self.poller.register(self.alarm.fd, select.POLLIN)
        self.nannies: dict[int, int] = {}  # pid to the pipe on which it tells what it is
        self.let_go: set[int] = set()
        self.foreign: set[int] = set()  # children that are to be reaped only
        self.spare = 0
        self.is_needed = True
        self.cgroups: Cgroups | None = None
        if base:
            with suppress(OSError, StopIteration, ValueError):
                self.cgroups = Cgroups(base, os.getppid())

    def run(self) -> None:
        become_subreaper()
        while self.is_needed or self.nannies.keys() - self.let_go:
            if not self.spare and self.is_needed:
                self.fork_spare()
            is_busy = self.end_orphans() or (self.is_needed and not self.spare)
            for fd, _event in self.poller.poll(LAST_TICK_S * 1000 if is_busy else None):
                if fd == self.host:
                    self.is_needed = False
                    self.poller.unregister(fd)
                elif fd == self.alarm.fd:
                    self.alarm.clear()
                else:
                    self.hear(fd)
            self.reap_nannies()
        if self.cgroups is not None:
            self.cgroups.remove()

    def fork_spare(self) -> None:
        mine, theirs = os.pipe()
        try:
            pid = os.fork()
        except OSError:  # no process left for now: asked again soon
            os.close(mine)
            os.close(theirs)
            return
        if pid == 0:
            os.close(mine)
            try:
                for fd in (*self.nannies.values(), self.alarm.fd, self.alarm.write_end):
                    os.close(fd)
                run_spare(self.host, self.control, theirs, self.cgroups)
            finally:
                os._exit(0)  # if it failed, its children are the template's now, which kills them
        os.close(theirs)
        self.spare = pid
        self.nannies[pid] = mine
        self.poller.register(mine, select.POLLIN)

    def hear(self, fd: int) -> None:
        pid = next(pid for pid, pipe in self.nannies.items() if pipe == fd)
        words = os.read(fd, 16)
        if b"t" in words and pid == self.spare:  # taken
            self.spare = 0
        if b"d" in words:  # its tree lives on
            self.let_go.add(pid)
        if b"e" in words:  # nobody will ask any more
            self.is_needed = False
        if not words:
            self.poller.unregister(fd)  # it has ended, or is about to

    def reap_nannies(self) -> None:
        for pid in [pid for pid in self.nannies if has_ended(pid)]:
            if pid in self.let_go:
                self.foreign.update(set(children()) - self.nannies.keys())
            with suppress(KeyError):
                self.poller.unregister(self.nannies[pid])
            os.close(self.nannies.pop(pid))
            self.let_go.discard(pid)
            if pid == self.spare:  # it could not even wait: the next one may fail as well
                self.spare = 0
                time.sleep(LAST_TICK_S)
            if self.cgroups is not None:
                with suppress(OSError):  # already gone, or its orphans are not yet
                    os.rmdir(self.cgroups.leaf_of(pid))

    def end_orphans(self) -> bool:
        """Kill the children of nannies that were killed, who are ours now; return whether some are left."""
        left = set(children()) - self.nannies.keys()
        self.foreign &= left
        for pid in left:
            if not has_ended(pid) and pid not in self.foreign:
                try:
                    os.kill(pid, signal.SIGKILL)
                except PermissionError:  # it has become somebody else
                    self.foreign.add(pid)
        return bool(left - self.foreign)


def has_ended(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True


# --- spares and nannies ------------------------------------------------------------------------------------------------


def run_spare(host: int, control: socket.socket, template: int, cgroups: Cgroups | None) -> None:
    """Wait for a channel; then be a nanny until nothing is left to do."""
    os.setsid()
    become_subreaper()
    leaf = make_leaf(cgroups) if cgroups is not None else ""
    poller = select.poll()
    poller.register(host, select.POLLIN)
    poller.register(control, select.POLLIN)
    fds: list[int] = []
    while not fds:
        if host in dict(poller.poll()):
            break
        data, fds = receive(control)
        if not data:
            os.write(template, b"e")
            break
    if fds:
        control.close()
        os.write(template, b"t")
        nanny = Nanny(socket.socket(fileno=fds[0]), host, template, cgroups, leaf)
        nanny.run()
    if cgroups is not None and leaf:
        with suppress(OSError):
            cgroups.enter(cgroups.helpers)
        remove_leaf(leaf)


def make_leaf(cgroups: Cgroups) -> str:
    leaf = cgroups.leaf_of(os.getpid())
    try:
        os.mkdir(leaf)
        cgroups.enter(leaf)  # whoever is forked here is born there
    except OSError:
        return ""
    return leaf


def remove_leaf(leaf: str) -> None:
    for _ in range(50):  # the last one may still be leaving it
        try:
            os.rmdir(leaf)
            return
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(LAST_TICK_S)


class Nanny:
    """The parent of one tree."""

    def __init__(self, channel: socket.socket, host: int, template: int, cgroups: Cgroups | None, leaf: str) -> None:
        self.channel, self.host, self.template = channel, host, template
        self.cgroups, self.leaf = cgroups, leaf
        self.is_inside = bool(leaf)
        self.alarm = Alarm()
        self.poller = select.poll()
        for fd in (channel.fileno(), host, self.alarm.fd):
            self.poller.register(fd, select.POLLIN)
        self.held: dict[int, int] = {}  # leaders that were not reaped, to their report pipes
        self.is_killing = False
        self.is_alone = False  # nobody listens any more
        self.has_let_go = False
        self.has_limits = False
        self.standing = standing()

    def run(self) -> None:
        self.answer("hello", os.getpid(), self.leaf)
        tick_s = FIRST_TICK_S
        while not self.is_alone or children():
            found = dict(self.poller.poll(tick_s * 1000 if self.is_killing else None))
            if self.alarm.fd in found:
                self.alarm.clear()
            if self.channel.fileno() in found:
                self.listen()
            if self.host in found:
                self.be_alone()
            left = self.look()
            if self.is_killing:
                self.is_killing = bool(left)
                self.kill(left)
                tick_s = min(tick_s * 2, LAST_TICK_S) if left else FIRST_TICK_S

    def answer(self, *words: Any) -> None:
        with suppress(OSError):
            self.channel.send(marshal.dumps(words))

    def listen(self) -> None:
        try:
            data, fds = receive(self.channel)
        except OSError:
            data, fds = b"", []
        if not data:
            self.be_alone()
            return
        kind, *rest = marshal.loads(data)
        if kind == "spawn":
            self.spawn(rest[0], fds)
        elif kind == "kill":
            self.is_killing = True
            self.kill_cgroup()
        elif kind == "reap":
            self.reap(rest[0])
        elif kind == "let go":
            self.has_let_go = True
            os.write(self.template, b"d")
            self.answer("gone")
        elif kind == "rest":
            self.rest()
        elif kind == "close":
            self.be_alone()

    def rest(self) -> None:
        is_used = self.held or self.has_let_go or self.has_limits or self.look()
        if is_used or standing() != self.standing or not self.renew_leaf():
            self.be_alone()
        else:
            self.answer("hello", os.getpid(), self.leaf)

    def be_alone(self) -> None:
        """The host is gone, or wants nothing more: end everything, unless it was let go."""
        for fd in (self.channel.fileno(), self.host):
            with suppress(KeyError):
                self.poller.unregister(fd)
        self.is_alone = True
        self.is_killing = not self.has_let_go
        if self.is_killing:
            self.kill_cgroup()
        for pid in list(self.held):
            self.report(pid)
            self.reap(pid)

    # --- endings ---

    def look(self) -> list[int]:
        """Report the leaders that have exited and reap everybody else who has; return who is left to be killed.

        Nobody left means nobody below either: a process that lives has a parent that lives, up to us.  But what was reaped
        since the list was read may have left children to us: then the list is read again.
        """
        while True:
            left: list[int] = []
            has_reaped = False
            for pid in children():
                if pid not in self.held and has_ended(pid):
                    has_reaped = True
                elif pid not in self.held or not self.report(pid):
                    left.append(pid)
            if left or not has_reaped:
                return left

    def report(self, pid: int) -> bool:
        """Tell how a leader ended, if it has; return whether it has."""
        found = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)
        if found is None:
            return False
        pipe = self.held[pid]
        if pipe >= 0:
            self.held[pid] = -1
            code = found.si_status if found.si_code == os.CLD_EXITED else None
            number = None if found.si_code == os.CLD_EXITED else found.si_status
            with suppress(OSError):
                os.write(pipe, marshal.dumps((code, number, found.si_code == os.CLD_DUMPED, *usage_of(pid))))
            os.close(pipe)
        return True

    def reap(self, pid: int) -> None:
        if pid not in self.held:
            return
        pipe = self.held.pop(pid)
        if pipe >= 0:
            os.close(pipe)
        has_ended(pid)

    def kill(self, pids: list[int]) -> None:
        # Only children: a child's number is ours until we reap it.  Whoever is below becomes a child when its parent has died.
        for pid in pids:
            with suppress(PermissionError, ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def kill_cgroup(self) -> None:
        if self.leaf:
            self.leave_leaf()
            with suppress(OSError):  # Linux before 5.14
                write(f"{self.leaf}/cgroup.kill", "1")

    def renew_leaf(self) -> bool:
        """Make the cgroup anew: limits, a freeze, and cgroups in it would be the next tree's; return whether that was done."""
        if self.leaf:
            try:
                self.leave_leaf()
                os.rmdir(self.leaf)
                os.mkdir(self.leaf)
            except OSError:
                return False
        return True

    def leave_leaf(self) -> None:
        if self.is_inside and self.cgroups is not None:
            self.cgroups.enter(self.cgroups.helpers)
            self.is_inside = False

    # --- beginnings ---

    def spawn(self, fields: bytes | None, fds: list[int]) -> None:
        if fields is None:
            fields = read_whole(fds.pop(0))
        cwd, report, *given = fds
        try:
            with step("be started"):
                start = Start(**marshal.loads(fields))
                given = aside(given, start.numbers)
                pid = self.start(start, cwd, given)
        except StepError as exc:
            os.close(report)
            self.answer("failed", exc.errno, exc.step)
        else:
            self.held[pid] = report
            self.answer("started", pid)
        finally:
            for fd in (cwd, *given):
                with suppress(OSError):
                    os.close(fd)
            os.chdir("/")
            self.leave_leaf()

    def start(self, start: Start, cwd: int, given: list[int]) -> int:
        with step("enter its cgroup"):
            if self.leaf and not self.is_inside and self.cgroups is not None:
                self.cgroups.enter(self.leaf)
                self.is_inside = True
        for name, text in start.cgroup:
            self.has_limits = True
            with step(f"be limited by {name}"):
                write(f"{self.leaf}/{name}", text)
        with step("enter its working directory"):
            os.fchdir(cwd)
            if start.cwd is not None:
                os.chdir(start.cwd)
        os.umask(start.umask)
        fds = dict(zip(start.numbers, given, strict=True))
        with step("be started"):
            return start_plainly(start, fds) if start.attributes is None else start_with(start.attributes, start, fds)


class Start:
    """What the host asks for."""

    def __init__(
        self,
        *,
        program: bytes,
        arguments: list[bytes],
        environment: dict[bytes, bytes],
        cwd: bytes | None,
        umask: int,
        group: int | None,
        terminal: str | None,
        numbers: list[int],
        attributes: dict[str, Any] | None,
        cgroup: list[tuple[str, str]],
        mask: list[int],
    ) -> None:
        self.argv = [program, *arguments]
        self.environment = environment
        self.cwd, self.umask = cwd, umask
        self.group = group  # the group to join, 0 to lead one, or None to lead a session
        self.terminal = terminal
        self.numbers = numbers
        self.attributes = attributes
        self.cgroup = cgroup
        self.mask = mask  # the signals that are blocked where the host asks

    def find(self) -> list[bytes]:
        """Return what to execute, in order, as ``execvp(3)`` would: each try costs a fork, so what is not there is left out."""
        program = self.argv[0]
        if b"/" in program:
            return [program]
        folders = self.environment.get(b"PATH", os.fsencode(os.defpath)).split(b":")
        found = [os.path.join(folder or b".", program) for folder in folders]
        return [path for path in found if os.path.exists(path)] or found[-1:]


class StepError(OSError):
    """Something could not be done on the way to a child."""

    def __init__(self, number: int, step: str) -> None:
        super().__init__(number, os.strerror(number))
        self.step = step


@contextmanager
def step(name: str) -> Iterator[None]:
    """Say of an error at what it happened, as it follows on "it cannot"."""
    try:
        yield
    except StepError:
        raise
    except Exception as exc:  # noqa: BLE001 (whatever it is, the host is told)
        # Of a limit Python says no more than that it is not to be had, where the kernel has said EPERM.
        number = errno.ENOMEM if isinstance(exc, MemoryError) else errno.EINVAL
        raise StepError(getattr(exc, "errno", None) or number, name) from None


def aside(fds: list[int], numbers: list[int]) -> list[int]:
    """Move each descriptor out of the way of the numbers that the child gets; ``fds``, which is returned, has the open ones."""
    for place, given in enumerate(fds):
        fd, lowest = given, 3
        while fd < 3 or fd in numbers:
            copy = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, lowest)
            os.close(fd)
            fds[place] = fd = copy
            lowest = copy + 1
    return fds


def first_that_runs(paths: list[bytes], run: Callable[[bytes], int]) -> int:
    refusal: OSError | None = None
    for path in paths:
        try:
            return run(path)
        except OSError as exc:
            if refusal is None or exc.errno not in (errno.ENOENT, errno.ENOTDIR):
                refusal = exc
    assert refusal is not None, "there is at least one path"
    raise refusal


def start_plainly(start: Start, fds: dict[int, int]) -> int:
    """Start the child by ``posix_spawn(3)``, which does not copy this process."""
    actions: list[tuple[Any, ...]] = []
    if start.terminal is not None:  # opened by the leader of a session: its controlling terminal
        actions = [(os.POSIX_SPAWN_OPEN, 0, start.terminal, os.O_RDWR, 0)]
        actions += [(os.POSIX_SPAWN_DUP2, 0, number) for number in (1, 2)]
    actions += [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in fds.items()]
    place: dict[str, Any] = {"setsid": True} if start.group is None else {"setpgroup": start.group}

    def run(path: bytes) -> int:
        return os.posix_spawn(
            path,
            start.argv,
            start.environment,
            file_actions=actions,
            setsigdef=RESTORED_SIGNALS,
            setsigmask=start.mask,
            **place,
        )

    return first_that_runs(start.find(), run)


def start_with(attributes: dict[str, Any], start: Start, fds: dict[int, int]) -> int:
    """Start the child by a fork of this small process, because something has to be done in between."""
    errors, *ends = os.pipe()
    pid = 0
    try:
        (write_end,) = aside(ends, list(fds))
        paths = start.find()  # before the child becomes somebody who may not look
        last_words = marshal.dumps((errno.ENOMEM, "be started"))  # for one that has no memory left to say more
        pid = os.fork()
        if pid == 0:
            try:
                become_child(attributes, start, fds, paths)
            except StepError as exc:
                os.write(write_end, marshal.dumps((exc.errno, exc.step)))
            except BaseException:  # noqa: BLE001 (nothing of ours may go on in the child)
                os.write(write_end, last_words)
            finally:
                os._exit(127)  # never reached by a child that has executed its program
    finally:
        os.close(*ends)
        if not pid:  # nobody was started
            os.close(errors)
    with open(errors, "rb", buffering=0) as file:
        said = file.read(4096)
    if said:
        os.waitpid(pid, 0)
        raise StepError(*marshal.loads(said))
    return pid


def become_child(attributes: dict[str, Any], start: Start, fds: dict[int, int], paths: list[bytes]) -> None:
    """In the child: take on everything that was asked for, then execute the program; returns only by a ``StepError``."""
    signal.set_wakeup_fd(-1)
    with step("be started"):
        if start.group is None:
            os.setsid()
        else:
            os.setpgid(0, start.group)
        if start.terminal is not None:
            terminal = os.open(start.terminal, os.O_RDWR)
            for number in (0, 1, 2):
                os.dup2(terminal, number)
        for number, fd in fds.items():
            os.dup2(fd, number)
    with step("change its niceness"):
        os.nice(attributes["nice"])
    for name, (number, limits) in attributes["limits"].items():
        with step(f"set the limit {name}"):
            resource.setrlimit(number, limits)
    if attributes["groups"] is not None:
        with step("change its groups"):
            os.setgroups(attributes["groups"])
    if attributes["gid"] is not None:
        with step("change its group"):
            os.setresgid(attributes["gid"], attributes["gid"], attributes["gid"])
    if attributes["uid"] is not None:
        with step("change its user"):
            os.setresuid(attributes["uid"], attributes["uid"], attributes["uid"])
            if set(os.getresuid()) != {attributes["uid"]}:
                raise PermissionError(errno.EPERM, "not changed")
    with step("be started"):
        for number in RESTORED_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, start.mask)
        first_that_runs(paths, lambda path: os.execve(path, start.argv, start.environment))


def standing() -> tuple[object, ...]:
    """Return what whoever is below may have changed of this process, and the next child would inherit."""
    try:
        with open("/proc/self/oom_score_adj", "rb", buffering=0) as file:
            badness = file.read(32)
    except OSError:
        badness = b""
    limits = [resource.getrlimit(number) for number in LIMITS]
    return limits, badness, os.getpriority(os.PRIO_PROCESS, 0), os.sched_getscheduler(0), os.sched_getaffinity(0)


def usage_of(pid: int) -> tuple[float | None, float | None, int | None]:
    """Return what a zombie has used, without reaping it; Python's ``waitid`` does not ask the kernel for that."""
    number = WAITID_NUMBERS.get(os.uname().machine)
    usage = (ctypes.c_long * 18)()  # struct rusage: two times of two longs each, the largest resident size, and more
    if number is None or libc.syscall(number, os.P_PID, pid, None, os.WEXITED | os.WNOWAIT | os.WNOHANG, usage) != 0:
        return None, None, None
    return usage[0] + usage[1] / 1e6, usage[2] + usage[3] / 1e6, usage[4] * 1024


def main() -> None:
    host, control, base = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    # Whoever started the host may have had signals blocked; we live by SIGCHLD.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for fd in (host, control):
        os.set_inheritable(fd, False)  # noqa: FBT003 (its only argument)
    Template(host, socket.socket(fileno=control), base).run()


if __name__ == "__main__":
    main()
