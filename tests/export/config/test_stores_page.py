"""The page about object stores shows destinations that are valid, and names what the program knows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from procflow_export.config.loading import read_config
from procflow_export.destinations.stores.credentials import CONVENTIONS
from procflow_export.model.codes import Code
from procflow_export.model.destination import DestinationConfig

PAGE = (Path(__file__).parents[3] / "docs" / "how-to" / "write-to-object-stores.md").read_text()
BLOCKS = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
ORDERS = {"name": "orders", "table": "orders", "mode": "full", "format": "parquet"}


@pytest.mark.parametrize("block", BLOCKS)
def test_every_example_of_the_page_is_valid(block: str, tmp_path: Path) -> None:
    """E-62: what a reader copies has no findings."""
    (tmp_path / "exporter.json").write_text("{}")
    around: dict[str, Any] = {"source": {"type": "sqlite", "path": "shop.db"}, "exports": [ORDERS]}

    environ = dict.fromkeys(re.findall(r"_env: (\w+)", block), "value")

    loaded = read_config(around | yaml.safe_load(block), base_dir=tmp_path, environ=environ)

    assert loaded.warnings == ()


def test_the_page_names_what_exists() -> None:
    """E-62: every variable, key and code of the page is one that the program knows."""
    known = {name for names in CONVENTIONS.values() for name in names} | {"AWS_ENDPOINT_URL", "AWS_PROFILE"}

    assert set(re.findall(r"\b(?:AWS|GOOGLE|AZURE)_[A-Z_]+", PAGE)) <= known
    assert set(re.findall(r"`(DESTINATION_[A-Z]+)`", PAGE)) <= {code.value for code in Code}
    keys = set(re.findall(r"`(\w+_(?:env|name|file|profile|http|anonymous))`", PAGE))
    assert keys <= set(DestinationConfig.__struct_fields__)
    assert keys >= {"access_key_env", "aws_profile", "credentials_file", "account_key_env", "sas_token_env"}
