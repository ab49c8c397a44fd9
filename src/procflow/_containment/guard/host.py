"""What this host has to say to its guard, and the guard that it has.

Owns the truth about what is guarded, the guard's replacement, and what is told of it.  Must not know containers or loops.

Problem: a spawn must not wait for the guard nor fail because of it, but the guard can be slow, stopped, killed, or unable
to run at all.  So what is guarded is noted here first, and told when the channel takes it: a guard that cannot be told
catches up later, and a new one is told everything.  Telling costs a spawn two small packets.

A copy of this process (``fork(2)``) is a host of its own, with a variable, a guard and notes of its own: nothing here touches
what belongs to the process it was copied from.  Several threads may call everything; the lock may be taken again by a
finalizer that runs in the middle of anything.

Rejected: a thread that waits for the guard, a guard that is asked before every spawn, the start of a new guard without end
where none can run.
Known holes: the next try after a guard that failed at once belongs to the loop that saw it fail; if that loop ends before, it is
the next spawn of anybody that tries.  A copy of a copy that has the number of its reaped grandparent takes its notes for its own.
"""

from __future__ import annotations

import logging
import math
import os
import select
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import Final

import anyio
from anyio.lowlevel import checkpoint

from procflow._containment.guard.process import GuardProcess, boot_ticks
from procflow._containment.guard.token import new_variable
from procflow._containment.guard.watch import GuardWatch
from procflow._containment.helper import NoHelperError
from procflow._observers import emit
from procflow._streams.waking import PerLoop
from procflow.errors import ProcflowError
from procflow.observation import GuardReplaced, GuardStarted

ANSWER_WAIT_S: Final = 1.0
"""How long a guard may take to note that something is let go, before it is replaced."""

FIRST_POLL_S: Final = 0.0005
LAST_POLL_S: Final = 0.02

RETRY_DELAYS_S: Final = (0.0, 0.1, 0.3, 1.0, 3.0)
"""How long to wait with each new guard after one that lasted for less than ``LASTED_S``; then only a spawn tries, once a minute."""

LASTED_S: Final = 1.0
LAST_RETRY_S: Final = 60.0

WORDS_PER_PACKET: Final = 256

_log = logging.getLogger("procflow.termination")


def on_guarded(pid: int) -> None:
    """Tell that guard ``pid`` watches: the start-up window is over."""
    _log.debug("guard %d watches", pid)
    emit(GuardStarted, pid=pid)


def on_replaced(reason: str, old_pid: int, new_pid: int) -> None:
    """Tell that guard ``old_pid`` was lost, and ``new_pid`` was started and told everything."""
    _log.warning("guard %d was replaced by %d: %s", old_pid, new_pid, reason)
    emit(GuardReplaced, reason=reason, old_pid=old_pid, new_pid=new_pid)


def on_failed(reason: str) -> None:
    """Tell that a guard could not be started, for now or for good."""
    _log.warning("no guard can be started: %s", reason)


class GuardedHost:
    """This process as its guard knows it.

    Attributes:
        variable: The name of the variable that marks what it has started.
    """

    def __init__(self) -> None:
        self.variable: Final = new_variable()
        self._pid: Final = os.getpid()
        self._lock: Final = threading.RLock()
        self._news: deque[Callable[[], None]] = (
            deque()
        )  # told once the lock is free: an observer may wait for a thread of its own
        self._values = 0
        self._groups: dict[int, int] = {}  # the latest moment at which the leader was started
        self._let_go: dict[str, None] = {}  # what was let go; some of it may live as long as the host
        self._unanswered: set[str] = set()
        self._untold: dict[str, str] = {}  # the newest word about each subject that the channel has not taken
        self._guard: GuardProcess | None = None
        self._started_mono_s = 0.0
        self._lost_pid = 0
        self._lost_reason = ""
        self._failures = 0
        self._retry_mono_s = -math.inf
        self._watches: weakref.WeakSet[GuardWatch] = weakref.WeakSet()
        self._watch_of_loop: Final = PerLoop(f"guard_watch_{self.variable}", self._make_watch)

    def __repr__(self) -> str:
        return f"<GuardedHost, {len(self._groups)} groups, {self._guard!r}>"

    @property
    def is_here(self) -> bool:
        """Whether this is the process that runs, and not the one that it was copied from."""
        return os.getpid() == self._pid

    # --- what is guarded --------------------------------------------------------------------------------------------

    def admit(self) -> str:
        """Return the value of the variable for the next spawn; starts the guard if there is none.  Never waits or fails."""
        with self._lock:
            self._values += 1
            value = str(self._values)
            if self._guard is None and time.monotonic() >= self._retry_mono_s:
                self._start()
        self._tell_news()
        return value

    def register(self, group: int) -> None:
        """Have ``group`` killed when this host is gone; its leader is a child of ours that was not reaped."""
        with self._lock:
            self._groups[group] = latest = boot_ticks()
            self._tell(f"+{group}:{latest}")

    def unregister(self, group: int) -> None:
        """Give up ``group``; call it before its leader is reaped."""
        with self._lock:
            if self.is_here and group in self._groups:
                del self._groups[group]
                self._tell(f"-{group}")

    async def let_go(self, value: str, groups: Iterable[int]) -> None:
        """Return when ``groups``, and whatever carries ``value``, would survive this host.

        Takes a second at most, in which it cannot be cancelled: then the guard, which does not answer, is replaced by one that
        never knew of them.
        """
        if not self.is_here:
            return
        with self._lock:
            for group in groups:
                self.unregister(group)
            self._let_go[value] = None
            self._unanswered.add(value)
            self._tell(f"!{value}")
            asked = self._guard
            if asked is not None:
                asked.ring()
        # Polled: the answer may be read by the watch of another loop, and comes at once.
        deadline_mono_s = time.monotonic() + ANSWER_WAIT_S
        pause_s = FIRST_POLL_S
        with anyio.CancelScope(shield=True):
            while not self._is_let_go(value, asked):
                if time.monotonic() >= deadline_mono_s:
                    with self._lock:
                        self._replace(asked, "it did not answer")
                    self._tell_news()
                    break
                await anyio.sleep(pause_s)
                pause_s = min(pause_s * 2, LAST_POLL_S)
            await checkpoint()

    def _is_let_go(self, value: str, asked: GuardProcess | None) -> bool:
        self.tend()
        with self._lock:
            return value not in self._unanswered or self._guard is not asked or asked is None

    def why_unguarded(self, groups: Iterable[int]) -> str | None:
        """Say why ``groups`` would survive this host if it were killed now; ``None`` if they would not."""
        with self._lock:
            if self._guard is None:
                return f"a guard: {self._lost_reason}"
            if not self._guard.is_ready:
                return "the guard is still starting"
            if any(str(group) in self._untold for group in groups):
                return "the guard is too slow, and has not been told yet"
            return None

    # --- the guard --------------------------------------------------------------------------------------------------

    def tend(self) -> float:
        """Read what the guard has answered and tell it the rest; return when to do so again, in seconds.

        A dead guard is replaced; where there is none, one is started if a try is due.
        """
        wait_s = self._tend()
        self._tell_news()
        return wait_s

    def _tend(self) -> float:
        with self._lock:
            if not self.is_here:
                return math.inf
            guard = self._guard
            if guard is not None:
                self._read_answers(guard)
                if guard.has_ended():
                    self._replace(guard, guard.complaint or "it has ended")
                else:
                    self._tell_rest()
            elif self._failures <= len(RETRY_DELAYS_S) and time.monotonic() >= self._retry_mono_s:
                self._start()
            if self._guard is not None or self._failures > len(RETRY_DELAYS_S):
                return math.inf
            return max(0.0, self._retry_mono_s - time.monotonic())

    def _tell_news(self) -> None:
        while self._news:
            try:
                tell = self._news.popleft()
            except IndexError:  # another thread was here first
                return
            tell()

    def _read_answers(self, guard: GuardProcess) -> None:
        for answer in guard.answers():
            if answer == b"ready":
                self._news.append(partial(on_guarded, guard.pid))
            elif answer.startswith(b"="):
                self._unanswered.difference_update(word[1:] for word in answer.decode().split())

    def _replace(self, old: GuardProcess | None, reason: str) -> None:
        if old is None or old is not self._guard:  # somebody else was here first
            return
        self._guard = None
        for watch in tuple(self._watches):
            watch.discard(old.channel, old.exit_fd)
        old.end()
        self._lost_pid, self._lost_reason = old.pid, reason
        now = time.monotonic()
        self._plan_retry(now, lasted=old.is_ready and now - self._started_mono_s >= LASTED_S)
        if now >= self._retry_mono_s:
            self._start()

    def _plan_retry(self, now: float, *, lasted: bool) -> None:
        self._failures = 1 if lasted else self._failures + 1
        delay_s = RETRY_DELAYS_S[self._failures - 1] if self._failures <= len(RETRY_DELAYS_S) else LAST_RETRY_S
        self._retry_mono_s = now + delay_s

    def _start(self) -> None:
        try:
            guard = GuardProcess(self.variable)
        except NoHelperError as exc:
            self._retry_mono_s, self._lost_reason = math.inf, str(exc)
            return
        except (ProcflowError, OSError) as exc:
            self._plan_retry(time.monotonic(), lasted=False)
            if self._lost_reason != str(exc):
                self._lost_reason = str(exc)
                self._news.append(partial(on_failed, self._lost_reason))
            return
        self._started_mono_s = time.monotonic()
        self._take(guard)
        for watch in tuple(self._watches):
            watch.add(guard.channel, guard.exit_fd)
        if self._lost_pid:
            self._news.append(partial(on_replaced, self._lost_reason, self._lost_pid, guard.pid))

    # --- telling it -------------------------------------------------------------------------------------------------

    def _tell(self, word: str) -> None:
        """Say ``word`` now, or note it for later: a newer one about the same subject takes its place."""
        guard = self._guard
        if guard is None or not self.is_here:
            return  # a new one is told everything
        if self._untold:
            self._untold.pop(_subject(word), None)
            self._untold[_subject(word)] = word
            self._tell_rest()
        elif not guard.send(word.encode()):
            self._untold[_subject(word)] = word

    def _tell_rest(self) -> None:
        while self._untold and self._guard is not None:
            words = list(islice(self._untold.values(), WORDS_PER_PACKET))
            if not self._guard.send(" ".join(words).encode()):
                return
            for word in words:
                if self._untold.get(_subject(word)) == word:  # a finalizer may have said something newer
                    del self._untold[_subject(word)]
            self._guard.ring()

    def _take(self, guard: GuardProcess) -> None:
        """Have ``guard``, and tell it everything."""
        # What is let go comes first: a guard that hears nothing more must not end it.
        words = [f"!{value}" for value in list(self._let_go)] + [
            f"+{group}:{latest}" for group, latest in list(self._groups.items())
        ]
        self._unanswered.clear()
        self._untold = {_subject(word): word for word in words}
        self._guard = guard
        # From here on a finalizer amends it; what one gave up since the lists were made is taken out.
        for subject, word in list(self._untold.items()):
            if word.startswith("+") and int(subject) not in self._groups:
                self._untold.pop(subject, None)
        self._tell_rest()

    # --- what belongs to it -----------------------------------------------------------------------------------------

    def watch(self) -> GuardWatch | None:
        """Return the watch of the running event loop; ``None`` where there can be no guard."""
        return self._watch_of_loop.get() if hasattr(select, "epoll") else None

    def _make_watch(self) -> GuardWatch:
        watch = GuardWatch(self.tend)
        with self._lock:
            self._watches.add(watch)
            if self._guard is not None:
                watch.add(self._guard.channel, self._guard.exit_fd)
        return watch

    def pids(self) -> Iterator[int]:
        """Yield the pid of the guard, if there is one."""
        with self._lock:
            if self._guard is not None:
                yield self._guard.pid

    def descriptors(self) -> Iterator[int]:
        """Yield what is open because of the guard."""
        with self._lock:
            if self._guard is not None:
                yield from self._guard.descriptors
            yield from (watch.fileno() for watch in tuple(self._watches))


def _subject(word: str) -> str:
    return word if word.startswith("!") else word[1:].partition(":")[0]


_hosts: dict[int, GuardedHost] = {}


def current_host() -> GuardedHost:
    """Return what this process is to its guard: another one in each copy of it."""
    pid = os.getpid()
    host = _hosts.get(pid)
    if host is None:
        # One step, so that of two threads both get the same; no lock, which a copy could inherit locked.
        host = _hosts.setdefault(pid, GuardedHost())
    return host


def belongings() -> tuple[frozenset[int], frozenset[int]]:
    """Return the pids and descriptors that are there because this host has a guard; they belong to no process of a user."""
    host = _hosts.get(os.getpid())
    if host is None:
        return frozenset(), frozenset()
    return frozenset(host.pids()), frozenset(host.descriptors())
