"""One trial: `python -m benchmarks.trial BENCHMARK VARIANT PARAMS-AS-JSON` prints its numbers as JSON.

What a program imports decides how fast others are: unmarshalling a large module raises the size from which glibc gives an object
pages of its own, and with it goes most of what asyncio's reads cost.  So a trial imports what its variant is named after
and nothing else; the modules of the benchmarks that compare with peers import the rest where they use it.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
from typing import Final

WORDS: Final = ("procflow", "anyio", "trio", "uvloop", "shellous", "sh", "plumbum")


def import_for(variant: str) -> None:
    """Import what the variant is named after, so that the time of that is not measured."""
    for word in re.findall(r"\w+", variant):
        if word in WORDS:
            importlib.import_module(word)


def main() -> None:
    name, variant, params = sys.argv[1:4]
    import_for(variant)
    module = importlib.import_module(f"benchmarks.{name}")
    numbers = module.BENCHMARK.variants[variant](json.loads(params))
    print(json.dumps(numbers), flush=True)


if __name__ == "__main__":
    main()
