"""Record a build of this repository, and draw it: `./run example record-build`.

Three jobs of shell calls, each waiting for the one before: a clone is compiled, a part of its tests is run, a wheel is made.  The record
of that is shown as a text, and written as a picture and as a trace for Perfetto, beside it.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio

import procflow as pf
from procflow.record import Job, JobsFailedError, JobSpec, open_run

ROOT = Path(__file__).resolve().parents[1]


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="./run example record-build", description=__doc__)
    parser.add_argument("--root", type=Path, default=Path("runs"), help="where the record goes")
    options = parser.parse_args(argv)
    with TemporaryDirectory(prefix="procflow-example-") as scratch:
        try:
            return anyio.run(build, options.root, Path(scratch) / "clone")
        except KeyboardInterrupt:
            print("record-build: interrupted; the record says what was running", file=sys.stderr)
            return 130


async def build(root: Path, clone: Path) -> int:
    """Build in ``clone``, recorded below ``root``; return the exit code for the shell."""
    ours = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
    python = pf.Command("python3", cwd=clone, env={"PATH": ours, "PYTHONPATH": "src", "PYTHONDONTWRITEBYTECODE": None})

    async def compile_clone(job: Job) -> None:
        await job.sh("git", "clone", "--quiet", ".", clone, cwd=ROOT)
        async with anyio.create_task_group() as both:
            for package in ("procflow", "procflow_export"):
                both.start_soon(job.sh, python.with_(arguments=["-m", "compileall", "-q", f"src/{package}"]))

    async def test_clone(job: Job) -> None:
        async with anyio.create_task_group() as all_three:
            for name in ("ids", "secret", "log_paths"):
                arguments = ["-m", "pytest", "-q", "-p", "no:cacheprovider", f"tests/core/record/test_{name}.py"]
                all_three.start_soon(job.sh, python.with_(arguments=arguments, name=f"test {name}"))

    async def package_clone(job: Job) -> None:
        await job.sh(python.with_(arguments=["-m", "hatchling", "build", "-t", "wheel", "-d", "dist"]))
        [wheel] = (clone / "dist").iterdir()
        listing = python.with_(arguments=["-m", "zipfile", "-l", wheel])
        counted = await job.sh(listing | pf.Command("grep", "-c", r"\.py "))
        job.note("package.modules", int(counted.stdout.text))

    jobs = [
        JobSpec(job_id="build", work=compile_clone),
        JobSpec(job_id="test", work=test_clone, after=["build"], attempts=2),
        JobSpec(job_id="package", work=package_clone, after=["test"]),
    ]
    async with open_run("build procflow", record=root, meta={"from": "examples/record_build.py"}) as run:
        try:
            await run.run_jobs(jobs)
        except JobsFailedError as exc:
            print(f"record-build: {exc}", file=sys.stderr)
    await show(run.directory)
    return 0 if run.outcome == "succeeded" else 1


async def show(directory: Path) -> None:
    """Print the run as a text, and write it as a picture and as a trace."""
    record = pf.Command(sys.executable, "-m", "procflow", "record", "timeline", directory)
    picture, trace = directory / "run.svg", directory / "trace.json"
    await pf.run(record.with_(arguments=[*record.arguments, "--svg", picture, "--chrome", trace]))
    sys.stdout.flush()
    width = os.environ.get("COLUMNS", "100")
    await pf.run(record.with_(arguments=[*record.arguments, "--width", width]), stdout=pf.INHERIT)
    print(f"\nthe record:  {directory}\na picture:   {picture}\na trace:     {trace} (open it at ui.perfetto.dev)")
