"""Throw-away servers for tests, examples and benchmarks: databases and object stores, on loopback.

Owns finding the programs, starting one server of a kind for a whole run, and making sure that nothing is left of it.
Knows nothing of pytest, drivers or procflow, and needs the standard library only.

The problem is the last point: a test run may be killed by a signal that it cannot handle, and a server is itself a tree
of processes in sessions of their own.  So each server belongs to a *watcher* (``watcher``), and the processes of one run
(the workers of pytest-xdist, say) share it through a directory (``sharing``).  A test that kills a server and starts it
again on the same data has one of its own instead: ``own_server()``.

Databases never run as root: as root they run in a user namespace that maps it to `nobody`, and where that is not allowed
as `nobody` itself.

As a command: `python -m tools.servers postgres s3 -- CMD...` runs CMD with PROCFLOW_PG_URL, PROCFLOW_S3_URL and what a client
of that store takes from its environment.
"""

from __future__ import annotations

from tools.servers.buckets import ObjectStore, StoreKind, new_bucket
from tools.servers.kinds import KINDS, RECIPES, Kind, ServerUnavailableError, binaries
from tools.servers.owner import Owner
from tools.servers.server import Server, ServerStartError, own_server
from tools.servers.sharing import ensure, running, stop
from tools.servers.system import PR_SET_CHILD_SUBREAPER, free_port, libc_prctl, unprivileged

__all__ = (
    "KINDS",
    "PR_SET_CHILD_SUBREAPER",
    "RECIPES",
    "Kind",
    "ObjectStore",
    "Owner",
    "Server",
    "ServerStartError",
    "ServerUnavailableError",
    "StoreKind",
    "binaries",
    "ensure",
    "free_port",
    "libc_prctl",
    "new_bucket",
    "own_server",
    "running",
    "stop",
    "unprivileged",
)
