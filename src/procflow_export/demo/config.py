"""The configuration of the demo's export, as a file that people can read, change and run."""

from __future__ import annotations

from typing import Final

_TEMPLATE: Final = """\
# Written by `procflow-export demo`.  Run it yourself:  {program} run {path}
source:
  type: sqlite
  path: shop.sqlite

destination:
  type: local
  path: data          # every export gets a folder of its own in here

exports:
  - name: customers
    table: customers
    mode: full
    format: parquet

  - name: products
    table: products
    mode: full
    format: parquet

  - name: orders
    table: orders
    mode: chunked     # ranges of the table's own key, found by itself
    chunk_count: 2
    parallel: 2
    format: parquet

  - name: order_items
    table: order_items
    mode: chunked
    chunk_count: {chunk_count}
    parallel: {chunk_count}
    format: parquet
"""


def demo_config(*, program: str, path: str, chunk_count: int) -> str:
    """Return the text of the configuration; paths in it start at its own folder."""
    return _TEMPLATE.format(program=program, path=path, chunk_count=chunk_count)
