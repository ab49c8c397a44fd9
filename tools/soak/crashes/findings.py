"""What readers of a published set find, and what else lies beside it: an independent reader, and plain listings."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import duckdb

from tools.soak.crashes.databases import Values
from tools.soak.crashes.tables import COLUMNS, MovingTable, State, row_order


class PublishedFolder:
    """A local destination as its readers see it: JSON, and DuckDB over the files that it names."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def manifest(self) -> dict[str, Any] | None:
        """Return what readers follow; None when nothing is published."""
        path = self.root / "manifest.json"
        if not path.exists():
            return None
        found: dict[str, Any] = json.loads(path.read_bytes())
        return found

    def is_marked(self) -> bool:
        """Whether the marker is that of the manifest beside it."""
        digest = hashlib.sha256((self.root / "manifest.json").read_bytes()).hexdigest()
        marker = self.root / "_SUCCESS"
        return marker.exists() and marker.read_text() == f"sha256:{digest}\n"

    def rows(self, kind: str) -> list[Values]:
        """Return the rows of the published set, in order."""
        manifest = self.manifest()
        files = [str(self.root / part["key"]) for part in (manifest or {"parts": []})["parts"]]
        if not files:
            return []
        columns = ", ".join(column.selected(kind, name) for name, column in COLUMNS.items())
        statement = f'select id, owner, "at", stamp, {columns} from read_parquet({files!r})'
        with duckdb.connect() as connection:
            found = connection.execute(statement).fetchall()
        return sorted(found, key=row_order)

    def names(self) -> set[str]:
        """Return everything that is there, hidden or not."""
        return {path.relative_to(self.root).as_posix() for path in self.root.rglob("*") if path.is_file()}

    def leftovers(self) -> list[str]:
        """Return what no manifest names."""
        names = self.names()
        manifests = [name for name in names if name.startswith("manifest") and name.endswith(".json")]
        named = {
            part["key"] for name in manifests for part in json.loads((self.root / name).read_bytes()).get("parts", ())
        }
        return sorted(names - named - {*manifests, "_SUCCESS"})


def wrong_state(table: MovingTable, found: list[Values], *, at_least: int) -> str | None:
    """Return what is wrong with rows that must be one state of a table, and no older one than the given; None if nothing."""
    stamp = max((row[3] for row in found), default=0)
    if stamp < at_least:
        return f"the set shows the table after transaction {stamp}, and {at_least} were committed before the run"
    return _difference(table.published(table.state_after(stamp)), found)


def wrong_versions(table: MovingTable, found: list[Values], *, at_least: int) -> str | None:
    """Return what is wrong with rows that must be each owner's, once, as it was at some time since; None if nothing."""
    shown: State = {}
    for row in found:
        if row[1] in shown:
            return f"owner {row[1]} is there twice"
        shown[row[1]] = (row[0], row[2], row[3])
    before = table.state_after(at_least)
    if shown.keys() != before.keys():
        return f"{len(before.keys() - shown.keys())} owners are missing, {len(shown.keys() - before.keys())} too many"
    for owner, (key, _, stamp) in shown.items():
        if stamp < before[owner][2] or table.state_after(stamp)[owner][2] != stamp:
            return f"owner {owner} (key {key}) never was as transaction {stamp} is said to have left it"
    return _difference(table.published(shown), found)


def _difference(wanted: list[Values], found: list[Values]) -> str | None:
    if wanted == found:
        return None
    if len(wanted) != len(found):
        return f"{len(found)} rows, not {len(wanted)}"
    first = next(pair for pair in zip(wanted, found, strict=True) if pair[0] != pair[1])
    return f"{first[1]} was published, and the row is {first[0]}"
