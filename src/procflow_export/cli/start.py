"""The first moments of the program: standard streams that are open, signals that are heeded, memory that is kept small.

Must stay cheap to import: until this has run, a signal ends the process the way the operating system does.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from typing import NoReturn

from procflow_export.cli.interrupts import STATUS_OF, Interrupts
from procflow_export.engines import own_process
from procflow_export.engines.standard_streams import open_missing_streams


def take_over_process() -> Interrupts:
    """Open missing standard streams and heed signals; a signal ends the process at once until somebody holds them."""
    interrupts = Interrupts(_end_at_once)
    interrupts.install()
    open_missing_streams()
    own_process.settle()
    return interrupts


def _end_at_once(number: signal.Signals) -> NoReturn:
    """End before anything has begun: one line for people, one document for programs, no clean-up because there is nothing to clean.

    Called from a signal handler in the middle of anything, so it writes to descriptors and touches no stream.
    """
    status = STATUS_OF[number]
    options = sys.argv[1:]
    is_worker = options[:1] == ["worker"]
    if not is_worker and not {"-q", "--quiet"} & {*options}:
        _write(2, f"stopped by {number.name}\n")
    if not is_worker and "--json" in options:
        _write(1, f'{{\n  "status": "cancelled",\n  "exit_status": {status},\n  "exports": []\n}}\n')
    os._exit(status)


def _write(descriptor: int, text: str) -> None:
    with suppress(OSError):
        os.write(descriptor, text.encode())
