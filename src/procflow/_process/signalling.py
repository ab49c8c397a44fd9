"""The one place where a signal leaves this process, so that nothing is signalled untold.

Owns the call and the event.  Must not know whether the number may be signalled: whoever calls holds it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from procflow._observers import emit, observers
from procflow._process.stopping.stop import describe_error
from procflow.observation import Signalled, SignalledTo

if TYPE_CHECKING:
    from procflow._process.leader import LeaderPort


def send(
    call: Callable[[int, int], object], handle: int, number: int, *, of: LeaderPort, to: SignalledTo, receiver: int
) -> None:
    """Send signal ``number`` with ``call(handle, number)``, and tell the observers whatever came of it.

    Args:
        call: ``os.kill``, ``os.killpg`` or ``signal.pidfd_send_signal``.
        handle: What it takes: a pid, the number of a group, a pidfd.
        number: The signal; 0 is no signal, and is not sent this way.
        of: Leader of the process that this is about.
        to: What ``receiver`` is.
        receiver: The pid or the number of the group.

    Raises:
        OSError: As ``call`` raises it.
    """
    after_exit = of.status is not None  # before the call, which may end it
    error: OSError | None = None
    try:
        call(handle, number)
    except OSError as exc:
        error = exc
        raise
    finally:
        if observers:
            emit(
                Signalled,
                name=of.name,
                pid=of.pid,
                signal=int(number),
                to=to,
                receiver=receiver,
                after_exit=after_exit,
                error=describe_error(error),
            )
