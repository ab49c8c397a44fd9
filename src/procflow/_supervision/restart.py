"""Whether, and when, a service is started again.

Owns the policy and the decision.  Time and chance are handed in.  Must not know processes, clocks or loops.

Two questions, kept apart: *how long to wait* counts the failures in a row and begins anew after a run that lasted, and *whether
at all* counts restarts in a sliding window.  Rejected: one counter for both, because a service that fails once an hour
would be given up, or one that fails for ever would be restarted without pause.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias

from procflow._kinds import require_duration, require_instance, require_int

MAX_S: Final = 30.0
"""The longest pause, unless a policy says otherwise."""


class RestartWhen(Enum):
    """After which endings a service is started again."""

    NEVER = "never"
    ON_FAILURE = "on_failure"
    ALWAYS = "always"


@dataclass(frozen=True, slots=True, kw_only=True)
class Restart:
    """When a service is started again, how long that waits, and when it is given up; made by its class methods.

    Before restart number *n* of a row passes ``initial_s * factor ** (n - 1)``, at most ``max_s``, shortened at random by up to
    the share ``jitter``.  A run that lasted ``within_s`` ends the row.
    """

    when: RestartWhen
    initial_s: float = 0.2
    max_s: float = MAX_S
    factor: float = 2.0
    jitter: float = 0.5
    max_restarts: int | None = 5
    """How many restarts there may be within ``within_s``; the next ending fails the service.  ``None``: any number."""
    within_s: float = 60.0

    def __post_init__(self) -> None:
        require_instance("when", self.when, RestartWhen)
        require_duration("initial_s", self.initial_s, allows_zero=False)
        require_duration("max_s", self.max_s, allows_zero=False)
        require_duration("within_s", self.within_s, allows_zero=False)
        if self.max_s < self.initial_s:
            raise ValueError(f"max_s must be at least initial_s ({self.initial_s}), not {self.max_s}")
        if not self.factor >= 1:
            raise ValueError(f"factor must be at least 1, not {self.factor}")
        if not 0 <= self.jitter <= 1:
            raise ValueError(f"jitter must be between 0 and 1, not {self.jitter}")
        if self.max_restarts is not None:
            require_int("max_restarts", self.max_restarts, lowest=0)

    @classmethod
    def never(cls) -> Restart:
        """Start it once.  If it fails, the service has failed."""
        return cls(when=RestartWhen.NEVER)

    @classmethod
    def on_failure(
        cls,
        *,
        initial_s: float = 0.2,
        max_s: float | None = None,
        factor: float = 2.0,
        jitter: float = 0.5,
        max_restarts: int | None = 5,
        within_s: float = 60.0,
    ) -> Restart:
        """Start it again if it did not exit with 0, was not ready in time, or could not be started (the default).

        ``max_s`` is 30 s by default, or ``initial_s`` if that is longer.
        """
        return cls(
            when=RestartWhen.ON_FAILURE,
            initial_s=initial_s,
            max_s=_longest_s(initial_s, max_s),
            factor=factor,
            jitter=jitter,
            max_restarts=max_restarts,
            within_s=within_s,
        )

    @classmethod
    def always(
        cls,
        *,
        initial_s: float = 0.2,
        max_s: float | None = None,
        factor: float = 2.0,
        jitter: float = 0.5,
        max_restarts: int | None = 5,
        within_s: float = 60.0,
    ) -> Restart:
        """Start it again however it ended, unless that was commanded.  ``max_s`` as for ``on_failure()``."""
        return cls(
            when=RestartWhen.ALWAYS,
            initial_s=initial_s,
            max_s=_longest_s(initial_s, max_s),
            factor=factor,
            jitter=jitter,
            max_restarts=max_restarts,
            within_s=within_s,
        )


def _longest_s(initial_s: float, max_s: float | None) -> float:
    if max_s is not None:
        return max_s
    require_duration("initial_s", initial_s, allows_zero=False)
    return max(MAX_S, initial_s)


@dataclass(frozen=True, slots=True)
class Again:
    """Start it again after ``delay_s``."""

    delay_s: float


@dataclass(frozen=True, slots=True)
class Over:
    """It has ended well, and that is all."""


@dataclass(frozen=True, slots=True)
class GivenUp:
    """It has failed, and is not started again after ``restarts`` restarts within the window."""

    restarts: int


Decision: TypeAlias = Again | Over | GivenUp


class RestartMachine:
    """Decides after every run that nobody has ended on purpose."""

    __slots__ = ("_in_a_row", "_policy", "_restarts")

    def __init__(self, policy: Restart) -> None:
        self._policy = policy
        self._in_a_row = 0
        # Older ones than the bound asks for are never looked at.
        self._restarts: deque[float] = deque(maxlen=max(policy.max_restarts or 0, 1))

    def __repr__(self) -> str:
        return f"<RestartMachine, {self._in_a_row} restarts in a row>"

    def after(self, *, has_failed: bool, lasted_s: float, now_s: float, chance: float) -> Decision:
        """Return what follows a run that lasted ``lasted_s`` and ended at ``now_s``; ``chance`` is in [0, 1).

        ``Again`` counts as a restart at the moment that it names.
        """
        policy = self._policy
        if policy.when is RestartWhen.NEVER or (policy.when is RestartWhen.ON_FAILURE and not has_failed):
            return GivenUp(0) if has_failed else Over()
        if lasted_s >= policy.within_s:
            self._in_a_row = 0
        if policy.max_restarts is not None:
            recent = sum(1 for at in self._restarts if at > now_s - policy.within_s)
            if recent >= policy.max_restarts:
                return GivenUp(recent)
        delay_s = self._backoff_s() * (1 - policy.jitter * chance)
        self._in_a_row += 1
        self._restarts.append(now_s + delay_s)
        return Again(delay_s)

    def commanded(self, *, now_s: float) -> None:
        """Note a restart that was asked for: it counts for nothing, and the next backoff begins anew.

        It takes the place of the one that a backoff was still waiting with.
        """
        self._in_a_row = 0
        while self._restarts and self._restarts[-1] > now_s:
            self._restarts.pop()

    def _backoff_s(self) -> float:
        policy = self._policy
        try:
            return min(policy.initial_s * policy.factor**self._in_a_row, policy.max_s)
        except OverflowError:
            return policy.max_s
