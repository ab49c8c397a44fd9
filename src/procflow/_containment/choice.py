"""Which layers a process gets, and what has to be there before it can be started.

Owns the way from what is asked for to a spawner and a container.  Must not know how any level works.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from procflow._containment.guard.container import GuardedContainer
from procflow._containment.layer import Layer
from procflow._containment.nanny.cgroup import Delegated, find_delegated
from procflow._containment.nanny.channel import Nanny
from procflow._containment.nanny.child import NannySpawner
from procflow._containment.nanny.circumstances import Circumstances, read_circumstances
from procflow._containment.nanny.container import StrictContainer
from procflow._containment.nanny.template import hire_nanny
from procflow._containment.port import Container, Containment
from procflow._containment.requests import ContainmentRequest, Guarded, Strict, named_request
from procflow._process.spawn import Spawner
from procflow.errors import PlatformError, SpawnError


@dataclass(frozen=True, slots=True)
class Backing:
    """What is behind a process that is to be started.

    Attributes:
        nanny: Its parent, if it is not to be the host; whoever has this closes it, or gives it to a container.
        wanted: What the nanny is to give it.
        here: What it is to get from the host although the nanny is its parent.
        shortfall: Why there is no nanny, or no cgroup, although it was asked for.
    """

    nanny: Nanny | None = None
    wanted: Strict | None = None
    here: Circumstances | None = None
    shortfall: str = ""

    def close(self) -> None:
        """Give the nanny up, because nothing was started."""
        if self.nanny is not None:
            self.nanny.close()

    def spawner(self, plain: Spawner) -> Spawner:
        """Return what starts the process."""
        if self.nanny is None or self.wanted is None or self.here is None:
            return plain
        return NannySpawner(self.nanny, self.wanted, self.here)

    def contain(self, request: ContainmentRequest, base: Container) -> Container:
        """Return the container of the process, around what reaches its group."""
        _, wanted = named_request(request)
        if wanted is None:
            return base
        guarded = GuardedContainer(base, wanted if isinstance(wanted, Guarded) else Guarded())
        if self.nanny is not None:
            return StrictContainer(guarded, self.nanny, no_cgroup=self.shortfall)
        return _Short(guarded, self.shortfall) if self.shortfall else guarded


class _Short(Layer):
    """Says why there is not more."""

    def __init__(self, inner: Container, reason: str) -> None:
        super().__init__(inner)
        self._reason = reason

    @property
    def report(self) -> Containment:
        inner = self._inner.report
        return replace(inner, missing=(*inner.missing, f"a nanny: {self._reason}"))


NO_BACKING = Backing()


def needs_backing(request: ContainmentRequest) -> bool:
    """Whether anything has to be there before the start."""
    return request in ("strict", "best") or isinstance(request, Strict)


async def open_backing(request: ContainmentRequest, *, program: str, obstacle: str = "") -> Backing:
    """Return what a strict start needs.

    Args:
        request: What was asked for.
        program: What is to be started, for errors.
        obstacle: Why a nanny cannot be the parent of this process, if so.

    Raises:
        PlatformError: If a nanny or a cgroup that was asked for cannot be had; not for ``"best"``.
        SpawnError: If there is no descriptor or process left for one.
    """
    name, wanted = named_request(request)
    assert isinstance(wanted, Strict), "only strict needs one"
    try:
        if obstacle:
            raise PlatformError(obstacle)
        delegated = find_delegated(wanted.cgroup)
        needs_cgroup = wanted.cgroup is not None or wanted.memory_bytes is not None or wanted.cpus is not None
        if needs_cgroup and delegated.reason:
            raise PlatformError(f"the cgroup that was asked for cannot be had: {delegated.reason}")
        here = read_circumstances()
        nanny = await hire_nanny(delegated.path, here.inherited)
    except PlatformError as exc:
        if name == "best":
            return Backing(shortfall=str(exc))
        raise
    except OSError as exc:
        reason = f"no nanny can be had for it: {exc.strerror}"
        if name == "best":
            return Backing(shortfall=reason)
        raise SpawnError(program=program, reason=reason, errno=exc.errno) from exc
    if needs_cgroup and not nanny.cgroup:
        nanny.close()
        raise PlatformError(f"the cgroup that was asked for cannot be made in {delegated.path}")
    return Backing(nanny, wanted, here, _why_no_cgroup(nanny, delegated))


def _why_no_cgroup(nanny: Nanny, delegated: Delegated) -> str:
    if nanny.cgroup:
        return ""
    return delegated.reason or f"none can be made in {delegated.path}"
