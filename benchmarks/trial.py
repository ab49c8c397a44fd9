"""One trial: `python -m benchmarks.trial BENCHMARK VARIANT PARAMS-AS-JSON` prints its numbers as JSON."""

from __future__ import annotations

import importlib
import json
import sys


def main() -> None:
    name, variant, params = sys.argv[1:4]
    module = importlib.import_module(f"benchmarks.{name}")
    numbers = module.BENCHMARK.variants[variant](json.loads(params))
    print(json.dumps(numbers), flush=True)


if __name__ == "__main__":
    main()
