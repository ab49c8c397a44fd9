"""Lock files, ./run and the README keep their word."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from tools import lock

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def tracked_files() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git work tree")
    return [ROOT / name for name in listed.stdout.split("\0") if name]


def verbs_of_run() -> set[str]:
    text = (ROOT / "run").read_text("utf-8")
    cases = text[text.index("case $verb in") :]
    return {
        verb.strip() for group in re.findall(r"^([a-z][a-z |-]*)\)$", cases, re.MULTILINE) for verb in group.split("|")
    }


# --- lock files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(lock.SETS))
def test_a_lock_file_names_no_host_and_pins_every_package(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text("utf-8")

    assert lock.hosts_in(text) == []
    packages = [line for line in text.splitlines() if re.match(r"[A-Za-z0-9]", line)]
    assert packages
    assert all("==" in line for line in packages)
    assert text.count("==") <= text.count("--hash=sha256:")


@pytest.mark.parametrize(
    "line",
    [
        "--index-url anything",
        "--extra-index-url x",
        "foo @ https" + "://example.org/foo.whl",
        "--find-links /wheels",
        "foo @ file:/x",
    ],
)
def test_a_line_that_names_a_place_is_noticed(line: str) -> None:
    assert lock.hosts_in(f"anyio==4.9\n{line}\n") == [line]


def test_files_that_name_hosts_are_not_tracked() -> None:
    names = {path.name for path in tracked_files()}

    assert not names & {"uv.lock", "pylock.toml", "package-lock.json"}


def test_what_is_locked_is_kept_unless_it_depends_on_where() -> None:
    """A package that has one version for old Pythons and one for new ones is uv's to decide."""
    one = "anyio==4.9.0 \\\n    --hash=sha256:00\nnumpy==2.4 ; python_full_version < '3.12' \\\n"
    other = "anyio==4.9.0 \\\nnumpy==2.5 ; python_full_version >= '3.12' \\\nuvloop==0.23.0\n"

    assert lock.pins_in([one, other]) == ["anyio==4.9.0", "uvloop==0.23.0"]


def test_lock_files_agree_on_versions() -> None:
    versions: dict[str, set[str]] = {}
    for name in lock.SETS:
        for package, version in re.findall(
            r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==(\S+)",
            (ROOT / "requirements" / f"{name}.txt").read_text("utf-8"),
            re.MULTILINE,
        ):
            versions.setdefault(package, set()).add(version)

    # Two versions of one package are for two Python versions, and then every set has both.
    for package, found in versions.items():
        assert len(found) <= 2, (package, found)


def test_every_dependency_of_the_project_is_locked() -> None:
    def names(requirements: list[str]) -> set[str]:
        return {re.split(r"[\[<>=~! ;]", requirement)[0].lower() for requirement in requirements}

    extras, groups = PROJECT["project"]["optional-dependencies"], PROJECT["dependency-groups"]
    wanted = {
        "tool": names(groups["tool"]),
        "demo": names(PROJECT["project"]["dependencies"] + extras["export"] + groups["demo"] + groups["build"]),
        "test": names(PROJECT["project"]["dependencies"] + extras["export"] + groups["test"] + groups["build"]),
        "check": names(extras["export"] + groups["test"] + groups["lint"] + groups["docs"] + groups["build"]),
    }
    for name, requirements in wanted.items():
        locked = {
            found.lower()
            for found in re.findall(
                r"^([A-Za-z0-9._-]+)", (ROOT / "requirements" / f"{name}.txt").read_text("utf-8"), re.MULTILINE
            )
        }
        assert requirements <= locked, (name, requirements - locked)


def test_the_core_depends_on_anyio_and_msgspec_only() -> None:
    assert [re.split(r"[<>=~!]", name)[0] for name in PROJECT["project"]["dependencies"]] == ["anyio", "msgspec"]


# --- ./run ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", ["run", ".ci/run"])
@pytest.mark.parametrize("shell", ["sh", "dash", "bash"])
def test_a_script_is_good_posix_shell(script: str, shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} here")

    done = subprocess.run([shell, "-n", script], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert (ROOT / script).stat().st_mode & 0o111


def test_run_explains_every_verb_from_any_folder(tmp_path: Path) -> None:
    done = subprocess.run([ROOT / "run", "help"], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 0
    explained = set(re.findall(r"^  ([a-z]+) ", done.stdout, re.MULTILINE))
    assert explained == verbs_of_run() - {"-h", "--help"}


def test_run_refuses_an_unknown_verb() -> None:
    done = subprocess.run([ROOT / "run", "nonsense"], capture_output=True, text=True, check=False)

    assert done.returncode == 64
    assert "there is no verb 'nonsense'" in done.stderr


def test_run_says_in_one_line_that_no_python_is_new_enough(tmp_path: Path) -> None:
    clone, tools = tmp_path / "clone", tmp_path / "bin"
    for folder in (clone / "requirements", tools):
        folder.mkdir(parents=True)
    shutil.copy(ROOT / "run", clone)
    for name in ("pyproject.toml", "requirements/tool.txt", "requirements/demo.txt"):
        (clone / name).touch()
    for tool in ("sh", "cat", "cksum", "dirname", "grep"):
        (tools / tool).symlink_to(shutil.which(tool) or tool)

    done = subprocess.run(
        [clone / "run", "demo"], env={"PATH": str(tools)}, capture_output=True, text=True, check=False
    )

    assert done.returncode == 1
    assert done.stderr == "run: no Python 3.11 or newer was found; install one, or name it in PROCFLOW_PYTHON\n"


# --- README ---------------------------------------------------------------------------------------------------------


def test_the_first_screen_of_the_readme_shows_the_picture_and_the_two_commands() -> None:
    first_screen = (ROOT / "README.md").read_text("utf-8").splitlines()[:45]
    text = "\n".join(first_screen)

    assert re.search(r"!\[[^]]+\]\(docs/assets/cards\.svg\)", text)
    assert re.search(r"^\./run demo\b", text, re.MULTILINE)
    assert re.search(r"^\./run test\b", text, re.MULTILINE)


@pytest.mark.parametrize("page", ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))])
def test_a_page_names_only_verbs_that_exist(page: str) -> None:
    named = set(re.findall(r"\./run ([a-z]+)", (ROOT / page).read_text("utf-8")))

    assert named <= verbs_of_run()


@pytest.mark.parametrize(
    "page", ["README.md", *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))]
)
def test_links_of_a_page_lead_to_files(page: str) -> None:
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text("utf-8"), flags=re.DOTALL)

    targets = [target for target in re.findall(r"\]\(([^)#\s]+)", text) if "://" not in target]
    missing = [target for target in targets if not (ROOT / page).parent.joinpath(target).exists()]
    assert not missing
