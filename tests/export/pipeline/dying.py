"""Dying without dying: a crash point ends a run of this process as SIGKILL would, as far as one process can show it.

From then on every crash point that is reached raises, so that nothing of the run goes on behind it: threads that are still
storing end at their next step, as those of a killed process do.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from procflow_export.destinations import crash


class Died(BaseException):
    """What nothing catches."""


@contextmanager
def dying_at(point: str | None) -> Iterator[None]:
    """Let whatever reaches ``point`` in the block die there; the block swallows that, and nothing else."""
    crash._reached.clear()
    is_dead = threading.Event()

    def kill(*_: object) -> None:
        is_dead.set()
        raise Died

    class Environment(dict[str, str]):
        def get(self, key: str, default: str | None = None) -> str | None:  # type: ignore[override]
            if key == crash.CRASH_ENV and is_dead.is_set():
                raise Died
            return super().get(key, default)

    environ = Environment({} if point is None else {crash.CRASH_ENV: point})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(crash, "os", SimpleNamespace(environ=environ))
        patch.setattr(crash, "signal", SimpleNamespace(SIGKILL=None, SIGSTOP=None, raise_signal=kill))
        try:
            yield
        except BaseException as exc:
            if not _is_death(exc):
                raise


def _is_death(exc: BaseException) -> bool:
    if isinstance(exc, BaseExceptionGroup):
        return all(map(_is_death, exc.exceptions))
    return isinstance(exc, Died)
