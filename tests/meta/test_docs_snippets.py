"""The code of the README and of the documentation works as it stands there."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from procflow_export import load_config
from procflow_export.demo.shop import ShopSize, create_shop

from .snippets import ROOT, Snippet, all_snippets, snippets_of

PROGRAM_TIMEOUT_S = 60
PYTHON = [pytest.param(snippet, id=snippet.id) for snippet in all_snippets("python", "py")]
CONFIGURATIONS = [
    pytest.param(snippet, id=snippet.id)
    for snippet in all_snippets("yaml")
    if "exports:" in snippet.code and "fragment" not in snippet.marks
]


def make_shop(folder: Path) -> None:
    """Put the sample shop and the first configuration of the tutorial into a folder."""
    create_shop(folder / "shop.db", ShopSize(order_items=1000))
    tutorial = ROOT / "docs" / "quickstart-export.md"
    configuration = next(s for s in snippets_of(tutorial, tutorial.read_text("utf-8")) if s.language == "yaml")
    (folder / "shop.yaml").write_text(configuration.code, "utf-8")


def export_shop(folder: Path) -> None:
    """Do what the tutorial says: run that configuration."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-m", "procflow_export", "run", "shop.yaml"]
    subprocess.run(command, cwd=folder, env=environ, stdin=subprocess.DEVNULL, timeout=PROGRAM_TIMEOUT_S, check=True)


@pytest.mark.parametrize("snippet", PYTHON)
def test_a_python_block_runs(snippet: Snippet, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """What the documentation shows is so (TPT D12)."""
    compile(snippet.code, snippet.id, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if "fragment" in snippet.marks:
        return
    # A block that only defines things is right once it compiles and its imports exist.
    environ = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONWARNINGS": "error", "PYTHONASYNCIODEBUG": "0"}
    if "needs postgres" in snippet.marks:
        environ["DATABASE_URL"] = request.getfixturevalue("postgres_url")
    if "needs mariadb" in snippet.marks:
        environ["DATABASE_URL"] = request.getfixturevalue("mariadb_url")
    if "needs shop" in snippet.marks:
        make_shop(tmp_path)
    if "needs export" in snippet.marks:
        make_shop(tmp_path)
        export_shop(tmp_path)
    program = tmp_path / "snippet.py"
    program.write_text(snippet.code, "utf-8")

    done = subprocess.run(
        [sys.executable, program],
        cwd=tmp_path,
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PROGRAM_TIMEOUT_S,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("snippet", CONFIGURATIONS)
def test_a_configuration_is_understood(snippet: Snippet, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(snippet.code, "utf-8")

    # Whatever variables the block refers to are set: it is the configuration that is on trial.
    names = re.findall(r"_env:\s*(\w+)|\$\{(\w+)", snippet.code)
    kind = "mysql" if "mysql" in snippet.code else "postgresql"
    environ = {first or second: f"{kind}://user:secret@localhost/shop" for first, second in names}
    loaded = load_config(path, params={}, environ=environ)

    assert loaded.config.exports


# --- the finder itself ------------------------------------------------------------------------------------------------

PAGE = """\
text
```python
a = 1
```
<!-- snippet: continues -->
```python
b = a
```
1. in a list:
   ```sh
   ls
   ```
<!-- snippet: fragment -->

```python
await child.wait()
```
"""


def test_blocks_are_found_with_their_marks() -> None:
    first, second, shell, fragment = snippets_of(ROOT / "README.md", PAGE)

    assert (first.code, first.line) == ("a = 1\n", 2)
    assert second.code == "a = 1\nb = a\n"
    assert (shell.language, shell.code) == ("sh", "ls\n")
    assert fragment.marks == ("fragment",)


def test_an_unknown_mark_is_an_error() -> None:
    with pytest.raises(ValueError, match="unknown mark 'sometimes'"):
        snippets_of(ROOT / "README.md", "<!-- snippet: sometimes -->\n```python\n```\n")
