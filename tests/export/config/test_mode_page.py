"""The page about modes shows configurations that are valid, and says what the program says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from procflow_export.config.loading import read_config
from procflow_export.config.structs import ExportConfig

PAGE = (Path(__file__).parents[3] / "docs" / "how-to" / "choose-a-mode.md").read_text()
BLOCKS = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: yaml.safe_load(block)["exports"][0]["name"])
def test_every_example_of_the_page_is_valid(block: str) -> None:
    """E-62: what a reader copies has no findings."""
    around: dict[str, Any] = {
        "source": {"type": "postgres", "url_env": "DATABASE_URL"},
        "destination": {"type": "local", "path": "out"},
    }

    loaded = read_config(around | yaml.safe_load(block), environ={"DATABASE_URL": "postgresql://u@h/d"})

    assert loaded.warnings == ()


def test_the_page_names_keys_that_exist() -> None:
    """E-62: no key of the page is one that the program does not know."""
    named = set(re.findall(r"`((?:chunk|cursor|time|days|keyset|incremental)_\w+|settle\b)", PAGE))

    assert named - {"time_window"} <= set(ExportConfig.__struct_fields__)
