"""``python -m procflow_export``."""

from __future__ import annotations

from procflow_export.cli.main import main

if __name__ == "__main__":
    main()
