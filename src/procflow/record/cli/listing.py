"""``list``: the runs of a directory."""

from __future__ import annotations

import argparse

from procflow.record.cli.face import Face
from procflow.record.cli.statuses import Status


def list_command(parsed: argparse.Namespace, face: Face) -> Status:
    """List the runs below the root, the latest first."""
    raise NotImplementedError
