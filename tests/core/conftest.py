"""Every core test runs on asyncio, asyncio with uvloop, and trio."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.patience import FairClock

HERE: Final = Path(__file__).parent

BACKENDS = [
    pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
    pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"),
    pytest.param(("trio", {}), id="trio"),
]


@pytest.fixture(params=BACKENDS)
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return request.param


@pytest.fixture
def backend(anyio_backend: tuple[str, dict[str, bool]]) -> str:
    """The name of the test's own back end, for hosts that it starts: once on each, not each on each."""
    name, options = anyio_backend
    return "uvloop" if options.get("use_uvloop") else name


@pytest.fixture
def clock() -> Iterator[FairClock]:
    """For the bounds of promises: what the machine did meanwhile for others does not count."""
    with FairClock() as made:
        yield made


HANG_S: Final = 120


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """End the worker of a test that hangs: pytest-xdist names the test and goes on with another worker.

    An exception that a signal throws into an event loop ends the loop, not the test: its task, and with it the next fixture,
    would wait for ever.  To see where it waits, run it alone, without ``-n``: then every stack is shown.
    """
    for item in items:
        if item.path.is_relative_to(HERE) and item.get_closest_marker("anyio") is not None:
            item.add_marker(pytest.mark.timeout(HANG_S, method="thread"))
