"""What every test may ask for: databases on throw-away servers."""

from __future__ import annotations

pytest_plugins = ["tools.pytest_servers"]
