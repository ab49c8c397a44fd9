"""What the servers need of Linux: another user than root, death signals, children, ports."""

from __future__ import annotations

import ctypes
import functools
import os
import pwd
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any, Final

PR_SET_PDEATHSIG: Final = 1
PR_SET_CHILD_SUBREAPER: Final = 36


@functools.cache
def unprivileged() -> tuple[tuple[str, ...], dict[str, Any]]:
    """Return an argv prefix and Popen arguments that make a child anyone but root."""
    if os.geteuid() != 0:
        return (), {}
    # 65534: initdb wants a passwd entry for its user. Files stay root's outside of the namespace.
    prefix = ("unshare", "--user", "--map-user=65534", "--map-group=65534")
    if shutil.which("unshare") and subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode == 0:
        return prefix, {}
    nobody = pwd.getpwnam("nobody")
    return (), {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def own_children() -> list[int]:
    return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


def libc_prctl(option: int, value: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
