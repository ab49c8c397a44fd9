"""Who starts processes instead of the operating system, in one context.

Owns the context variable and what it changes about a start.  Must not know what stands in.

Why a context variable: the program under test calls ``run()`` and ``spawn()`` as ever, in tasks of its own, while another test in
another thread or task starts real processes.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import replace
from typing import Final, Protocol

from procflow._containment.port import Container
from procflow._containment.requests import ContainmentRequest
from procflow._process.spawn import Spawner
from procflow._process.start import SpawnOptions


class StandIn(Spawner, Protocol):
    """A spawner that brings along what reaches the processes that it starts."""

    def make_container(self, request: ContainmentRequest) -> Container:
        """Return the container of the next process."""
        ...


STAND_IN: Final[ContextVar[StandIn | None]] = ContextVar("procflow_stand_in", default=None)


def stood_in(options: SpawnOptions) -> SpawnOptions:
    """Return ``options`` as they are, or with what stands in here for the operating system."""
    stand_in = STAND_IN.get()
    if stand_in is None or options.container is not None:
        return options
    # At the level that needs nobody besides: no guard and no nanny can reach what is not real.
    container = stand_in.make_container(options.containment)
    return replace(options, spawner=stand_in, container=container, containment="group")
