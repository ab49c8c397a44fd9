"""What every test may ask for: databases on throw-away servers."""

from __future__ import annotations

import os
import signal

from hypothesis import HealthCheck, settings

pytest_plugins = ["tools.pytest_servers"]

# A busy machine is no failed property.  CI draws the same examples every time, so that it is red only for a reason.
settings.register_profile(
    "procflow",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
    derandomize=bool(os.environ.get("CI")),
)
settings.load_profile("procflow")


def pytest_configure() -> None:
    """Undo what a shell does to its background jobs: they, and all whom they start, ignore Ctrl-C, which tests send."""
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGQUIT, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)
