"""Run an example by name: `./run example three-databases`; without a name, list them."""

from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parent


def main() -> int:
    """Every module and every package of this folder is an example, and has a ``main(argv)``."""
    files = {path.stem: path for path in EXAMPLES.glob("*.py") if path != Path(__file__).resolve()}
    files |= {path.parent.name: path for path in EXAMPLES.glob("*/__init__.py")}
    names = {module.replace("_", "-"): path for module, path in sorted(files.items())}
    if len(sys.argv) < 2:
        for name, path in names.items():
            print(f"{name:<18}{title(path)}")
        return 0
    if sys.argv[1] not in names:
        print(f"usage: ./run example NAME [ARGUMENTS]; the names: {', '.join(names)}", file=sys.stderr)
        return 64
    sys.path.insert(0, str(EXAMPLES.parent))
    module = importlib.import_module(f"examples.{sys.argv[1].replace('-', '_')}")
    result: int = module.main(sys.argv[2:])
    return result


def title(path: Path) -> str:
    """The first sentence of a module, up to its command."""
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    return docstring.splitlines()[0].partition(": `./run")[0]


if __name__ == "__main__":
    sys.exit(main())
