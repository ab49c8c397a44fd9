"""What is done with a stream in the background, by tasks of its scope."""

from __future__ import annotations
