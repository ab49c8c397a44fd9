"""What is read in many threads at once is prepared before the first of them."""

from __future__ import annotations

import os
import subprocess
import sys

from procflow_export.model.manifest import Manifest, ManifestSource, encode_manifest
from procflow_export.model.plan import PartRecord

CODE = """if True:
    import sys, threading
    sys.setswitchinterval(1e-6)
    from procflow_export.model.manifest import decode_manifest
    from procflow_export.state.leases import _DECODER

    data, lease = sys.stdin.buffer.read(), b'{"run_id":"1","pid":1,"host":"h","since":""}'
    start = threading.Barrier(8)

    def read():
        start.wait()
        decode_manifest(data)
        _DECODER.decode(lease)

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""


def test_many_threads_may_read_their_first_manifest_at_once() -> None:
    """E-42: exports are planned in threads; the first manifests that they read must not crash the process."""
    part = PartRecord(key="p", row_count=1, size_bytes=1, checksum="sha256:00", chunk=0)
    manifest = Manifest(
        run_id="1", export="t", status="success", source=ManifestSource(engine="sqlite", selection="table"),
        format="parquet", compression="zstd", schema_fingerprint="f", row_count=1, parts=(part,), consistency="chunk",
        started_at="", finished_at="",
    )  # fmt: skip
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for _ in range(8):
        done = subprocess.run(
            [sys.executable, "-c", CODE], input=encode_manifest(manifest), env=environ, check=False, capture_output=True
        )
        assert done.returncode == 0, done.stderr
