"""Every test here proves that it left nothing behind, no claim on descriptors either."""

from __future__ import annotations

from collections.abc import Iterator

import anyio
import pytest

from procflow._supervision.descriptors import ACCOUNT
from procflow.testing import assert_no_leaks
from tests.core.process.conftest import _no_task_leaks

__all__ = ["_no_task_leaks"]


@pytest.fixture
async def _first_stream(anyio_backend: object) -> None:
    """Have libuv open what it keeps for as long as its loop lives: /dev/null, at the first stream of the loop."""
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        async with await anyio.connect_tcp("127.0.0.1", port):
            pass


@pytest.fixture(autouse=True)
def _no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    if "anyio_backend" in request.fixturenames:
        request.getfixturevalue("_first_stream")
        request.getfixturevalue("_no_task_leaks")
    with assert_no_leaks():
        yield
    assert (ACCOUNT.claims, ACCOUNT._pending, ACCOUNT._waiting) == (0, 0, {})
