"""A program that embeds the library and logs everything that is said, at the lowest level: run by the canary tests.

``host.py CONFIG ENGINE LOG [NAME=VALUE ...]``; events, values and whatever is raised go to standard output.
"""

from __future__ import annotations

import logging
import sys
import traceback
import warnings

import anyio

import procflow_export as pe


async def main(config: str, engine_name: str, params: dict[str, str]) -> None:
    engine = pe.ProcessEngine(max_units=2) if engine_name == "processes" else None
    async with pe.Exporter(config, engine=engine, params=params) as exporter:
        print(repr(exporter.config), repr(exporter.targets), repr(exporter))
        async for event in exporter.run():
            print(repr(event))
            if isinstance(event, pe.Finished) and event.failure is not None:
                print(event.failure.message, event.failure.notes, event.failure.stderr_tail)
    print(repr(exporter.result), repr(engine))
    if isinstance(engine, pe.ProcessEngine):
        print(engine.remarks)


if __name__ == "__main__":
    logging.basicConfig(level=logging.DEBUG, filename=sys.argv[3], format="%(name)s %(message)s %(args)s %(exc_info)s")
    logging.captureWarnings(capture=True)
    warnings.simplefilter("always")
    for name in ("asyncio", "asyncpg", "aiomysql", "pymysql", "procflow", "procflow_export"):
        logging.getLogger(name).setLevel(logging.DEBUG)
    try:
        anyio.run(main, sys.argv[1], sys.argv[2], dict(pair.split("=", 1) for pair in sys.argv[4:]))
    except Exception:
        traceback.print_exc(file=sys.stdout)
