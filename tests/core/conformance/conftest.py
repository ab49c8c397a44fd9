"""Every test here proves that it left nothing behind."""

from __future__ import annotations

from tests.core.process.conftest import _no_leaks, _no_task_leaks, immortal

__all__ = ["_no_leaks", "_no_task_leaks", "immortal"]
