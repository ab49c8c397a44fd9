"""``python -m procflow_export``."""

from __future__ import annotations

try:
    from procflow_export.cli.main import main
except KeyboardInterrupt:  # a very early Ctrl-C ends like a later one
    raise SystemExit(130) from None

if __name__ == "__main__":
    main()
