"""What a process of ours sets for itself, and a host's never."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from procflow_export.engines.own_process import MMAP_BYTES, SWITCH_S

LOOK = """
import ctypes, json, os, sys, threading
{settle}
import pyarrow as pa
class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in
                "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]
libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Info
libc.malloc.restype = ctypes.c_void_p
def mapped_by(count, size):
    before = libc.mallinfo2().hblks
    for _ in range(count):
        libc.malloc(ctypes.c_size_t(size))
    return libc.mallinfo2().hblks - before
def elsewhere():
    done = []
    thread = threading.Thread(target=lambda: done.append(libc.malloc(ctypes.c_size_t(1000))))
    thread.start()
    thread.join()
    return abs(done[0] - libc.malloc(ctypes.c_size_t(1000)))
print(json.dumps({{
    "switch_s": sys.getswitchinterval(), "pool": pa.default_memory_pool().backend_name,
    "openblas": os.environ.get("OPENBLAS_NUM_THREADS"),
    "above": mapped_by(2, {mmap} + 4096), "below": mapped_by(2, {mmap} - 4096), "apart": elsewhere(),
}}))
"""
SETTLE = "from procflow_export.engines import own_process; own_process.settle()"
HEAP_BYTES = 1 << 30
"""Memory that is further apart belongs to another arena."""


def seen_in(start: str, **environ: str) -> dict[str, object]:
    """Return what a new process sees that begins like this."""
    clean = {
        name: text
        for name, text in os.environ.items()
        if name not in ("ARROW_DEFAULT_MEMORY_POOL", "OPENBLAS_NUM_THREADS")
    }
    code = LOOK.format(settle=start, mmap=MMAP_BYTES)
    done = subprocess.run([sys.executable, "-c", code], env=clean | environ, capture_output=True, text=True, check=True)
    found: dict[str, object] = json.loads(done.stdout)
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="the C library's knobs")
def test_a_process_of_ours_keeps_little_beside_what_it_uses() -> None:
    """E-30: one arena for all threads, Arrow's memory in it, and large blocks that go back when they are freed."""
    seen = seen_in(SETTLE)

    assert (seen["switch_s"], seen["pool"], seen["openblas"]) == (pytest.approx(SWITCH_S), "system", "1")
    assert (seen["above"], seen["below"]) == (2, 0)
    assert isinstance(seen["apart"], int)
    assert seen["apart"] < HEAP_BYTES


def test_what_the_operator_has_chosen_stays() -> None:
    """E-30: settings of the environment go before ours."""
    seen = seen_in(SETTLE, ARROW_DEFAULT_MEMORY_POOL="mimalloc", OPENBLAS_NUM_THREADS="3")

    assert (seen["pool"], seen["openblas"]) == ("mimalloc", "3")


def test_a_host_that_imports_the_package_is_left_as_it_is() -> None:
    """E-30, E-65: what is set is set by the program, never by an import."""
    assert seen_in("import procflow_export.engines.own_process, procflow_export")["switch_s"] == seen_in("")["switch_s"]
    assert seen_in("import procflow_export")["openblas"] is None
