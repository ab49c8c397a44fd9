"""Run a command with throw-away servers beside it."""

from __future__ import annotations

import argparse
import functools
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import NoReturn

from tools.servers import KINDS, RECIPES, Kind, ServerStartError, ServerUnavailableError, new_bucket, running
from tools.servers.buckets import STORE_KINDS


def run_with_servers(kinds: Sequence[Kind], command: Sequence[str]) -> int:
    """Run ``command`` with the servers' URLs in its environment and return its exit code (128 + n for signal n)."""
    passed_on = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2}
    awaited = passed_on | {signal.SIGCHLD}
    with running(*kinds) as urls:
        environ = {**os.environ, **{RECIPES[kind].url_variable: url for kind, url in urls.items()}}
        for kind in STORE_KINDS:
            if kind in urls:
                environ |= new_bucket(kind, urls[kind], "procflow").environ
        before = signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
        restore = functools.partial(signal.pthread_sigmask, signal.SIG_SETMASK, before)
        child = subprocess.Popen(command, env=environ, preexec_fn=restore)  # noqa: PLW1509  # no threads
        while child.poll() is None:
            received = signal.sigwaitinfo(awaited)
            # A positive si_code is the kernel's: a terminal has signalled the whole foreground group, the child included.
            if received.si_signo != signal.SIGCHLD and received.si_code <= 0:
                child.send_signal(received.si_signo)
        restore()
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def main() -> NoReturn:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.servers", description="Run a command with throw-away servers on loopback ports."
    )
    parser.add_argument("kinds", nargs="+", metavar="SERVER", choices=KINDS, help=" or ".join(KINDS))
    arguments = sys.argv[1:]
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    kinds = parser.parse_args(arguments[:cut]).kinds
    command = arguments[cut + 1 :]
    if not command:
        parser.error("give the command after --")
    try:
        sys.exit(run_with_servers(kinds, command))
    except (ServerUnavailableError, ServerStartError, FileNotFoundError) as exc:
        sys.exit(f"servers: {exc}")


if __name__ == "__main__":
    main()
