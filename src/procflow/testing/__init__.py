"""What tests of code that starts processes need: proof that nothing was left behind."""

from __future__ import annotations

from procflow.testing.leaks import LeakError, assert_no_leaks

__all__ = ("LeakError", "assert_no_leaks")
