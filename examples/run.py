"""Run an example by name: `./run example three-databases`."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    runnable = sorted(path.stem.replace("_", "-") for path in (ROOT / "examples").glob("*.py") if path.name != "run.py")
    names = [name for name in runnable if (ROOT / "examples" / f"{name}.yaml").exists()]
    if len(sys.argv) < 2 or sys.argv[1] not in names:
        print(f"usage: ./run example NAME [ARGUMENTS]; the names: {', '.join(names)}", file=sys.stderr)
        return 64
    sys.path.insert(0, str(ROOT))
    module = importlib.import_module(f"examples.{sys.argv[1].replace('-', '_')}")
    result: int = module.main(sys.argv[2:])
    return result


if __name__ == "__main__":
    sys.exit(main())
