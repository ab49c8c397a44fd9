"""Where the standard descriptors of a child lead, and what is fed to it."""

from __future__ import annotations
