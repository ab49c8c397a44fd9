"""Outputs that no byte of passes through Python, and two outputs that are one."""

from __future__ import annotations

import gzip
import io
import os
import stat
import tempfile
from pathlib import Path
from typing import Any

import pytest

import procflow as pf

from .conftest import python

pytestmark = pytest.mark.anyio

BOTH = "echo out; echo err >&2"


class TestFiles:
    """Paths, files, descriptors."""

    async def test_each_output_has_its_own_file(self, tmp_path: Path) -> None:
        """C-8: a path is created, or truncated, for the child; nothing of it is kept here, and the result says so."""
        out, err = tmp_path / "out", tmp_path / "err"
        out.write_text("something older and longer")

        done = await pf.run(pf.shell(BOTH), stdout=out, stderr=err)

        assert (out.read_text(), err.read_text()) == ("out\n", "err\n")
        for captured in (done.stdout, done.stderr):
            assert not captured.is_streamed
            assert (captured.bytes, captured.lost_bytes) == (b"", 0)
        assert (done.outcome.stdout_tail, done.outcome.stderr_tail) == (b"", b"")
        assert done.outcome.output_complete

    async def test_mode_of_a_created_file(self, tmp_path: Path) -> None:
        """C-8: a file is created with 0666 less the umask of the host."""
        previous = os.umask(0o027)
        try:
            await pf.run(pf.shell(BOTH), stdout=tmp_path / "out", stderr=pf.NULL)
        finally:
            os.umask(previous)
        assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o640

    async def test_bytes_do_not_pass_through_python(self, tmp_path: Path) -> None:
        """C-8: the descriptors of the child are the files themselves."""
        script = "import os; print(os.readlink('/proc/self/fd/1'), os.readlink('/proc/self/fd/2'))"
        out, err = tmp_path / "out", tmp_path / "err"

        await pf.run(python(script), stdout=out, stderr=err)

        assert out.read_text() == f"{out} {err}\n"

    @pytest.mark.parametrize("kind", ["rb+", "a", "number", "temporary", "raw"])
    async def test_open_files(self, tmp_path: Path, kind: str) -> None:
        """C-8: what the host wrote before comes before what the child writes, and the file stays open."""
        file: Any  # of bytes, of text, wrapped: whatever a caller has
        if kind == "temporary":
            file = tempfile.NamedTemporaryFile("w+", dir=tmp_path)
        elif kind == "raw":
            file = (tmp_path / "log").open("wb", buffering=0)
        else:
            file = (tmp_path / "log").open("wb+" if kind == "rb+" else "a")
        with file:
            line = "before\n"
            file.write(line.encode() if kind in ("rb+", "raw") else line)
            if kind == "number":
                file.flush()

            await pf.run(pf.shell("echo child"), stdout=file.fileno() if kind == "number" else file)

            assert not file.closed
            file.write(b"after\n" if kind in ("rb+", "raw") else "after\n")
            file.flush()
            assert Path(file.name).read_text() == "before\nchild\nafter\n"

    async def test_one_file_for_both(self, tmp_path: Path) -> None:
        """C-8: one open file may take both outputs; nothing is overwritten."""
        with (tmp_path / "log").open("wb") as file:
            await pf.run(pf.shell(BOTH), stdout=file, stderr=file)
        assert (tmp_path / "log").read_text() == "out\nerr\n"

    @pytest.mark.parametrize("stages", [1, 2])
    async def test_one_path_for_both(self, tmp_path: Path, stages: int) -> None:
        """C-8: outputs that are given the same file, by whatever path, do not overwrite each other."""
        path, link = tmp_path / "log", tmp_path / "link"
        link.symlink_to(path)
        command = pf.shell("echo first; echo second >&2; echo third")

        await pf.run(command if stages == 1 else pf.Command("true") | command, stdout=path, stderr=link)

        assert path.read_text() == "first\nsecond\nthird\n"

    async def test_file_that_cannot_be_written(self, tmp_path: Path) -> None:
        """C-8: a file that is open for reading only is refused, before anything is started."""
        (tmp_path / "file").touch()
        with (tmp_path / "file").open("rb") as file, pytest.raises(ValueError, match="open for reading only"):
            pf.spawn(pf.Command("true"), stdout=file)

    async def test_one_output_to_a_file_and_one_streamed(self, tmp_path: Path) -> None:
        """C-8: each output has a choice of its own; tails and notes hold what is streamed."""
        with pytest.raises(pf.ExitError) as caught:
            await pf.run(pf.shell(f"{BOTH}; exit 3"), stdout=tmp_path / "out")
        error = caught.value
        assert error.outcome.stderr_tail == b"err\n"
        assert (error.stdout.is_streamed, error.stderr.text) == (False, "err\n")

    @pytest.mark.parametrize("what", ["stdout", "stderr"])
    async def test_path_that_cannot_be_opened(self, tmp_path: Path, what: str) -> None:
        """C-8: the error names the path, the output and the reason; nothing is started."""
        path = tmp_path / "missing" / "out"
        with pytest.raises(pf.SpawnError, match="No such file") as caught:
            await pf.run(pf.shell(f"touch {tmp_path}/started"), **{what: path})  # type: ignore[arg-type]  # one of two
        assert repr(str(path)) in str(caught.value)
        assert what in str(caught.value)
        assert not (tmp_path / "started").exists()

    async def test_opened_files_are_closed_when_the_start_fails(self, tmp_path: Path) -> None:
        """C-8, C-3: what was opened before the failure is closed; the leak check of this suite looks."""
        with pytest.raises(pf.SpawnError):
            await pf.run(pf.shell(BOTH), stdin=Path("/dev/null"), stdout=tmp_path / "out", stderr=tmp_path / "a" / "b")
        with pytest.raises(pf.SpawnError):
            await pf.run(pf.Command("/nonexistent/program"), stdin=Path("/dev/null"), stdout=tmp_path / "out")

    @pytest.mark.parametrize("what", ["stdout", "stderr"])
    async def test_objects_whose_bytes_pass_through_python(self, tmp_path: Path, what: str) -> None:
        """C-8: an object that changes or keeps bytes cannot be given to a child; the error says what can."""
        with gzip.open(tmp_path / "packed", "wb") as packed:
            for choice in (io.BytesIO(), io.StringIO(), packed):
                with pytest.raises(TypeError, match="let it be a stream"):
                    pf.spawn(pf.Command("true"), **{what: choice})  # type: ignore[arg-type]  # one of two, wrong on purpose

    @pytest.mark.parametrize("choice", ["log.txt", b"log.txt", True, None, 5.5, ["x"]])
    async def test_what_is_no_output(self, choice: object) -> None:
        """C-8: a str is no path here either, so that it means the same everywhere."""
        if choice is None:
            pf.spawn(pf.Command("true"), stdout=None)
            return
        with pytest.raises(TypeError, match="stdout must"):
            pf.spawn(pf.Command("true"), stdout=choice)  # type: ignore[arg-type]  # wrong on purpose

    async def test_flush_that_fails(self) -> None:
        """C-8: what the host had buffered and could not write is an error of the start."""
        file = open("/dev/full", "wb")
        file.write(b"buffered")
        with pytest.raises(pf.SpawnError, match="No space left"):
            await pf.run(pf.Command("true"), stdout=file)
        with pytest.raises(OSError, match="No space left"):
            file.close()

    async def test_handle_says_where_an_output_went(self, tmp_path: Path) -> None:
        """C-8: asking for an output that is no stream tells where it goes and how to get a stream."""
        async with pf.spawn(pf.Command("true"), stdout=tmp_path / "out", stderr=pf.NULL) as child:
            with pytest.raises(pf.UsageError, match=r"stdout goes to a file.*StreamConfig"):
                _ = child.stdout
            with pytest.raises(pf.UsageError, match=r"stderr goes to the null device.*StreamConfig"):
                _ = child.stderr

    async def test_idle_timeout_needs_a_stream(self, tmp_path: Path) -> None:
        """C-8: silence of a file cannot be seen, so it is refused."""
        with pytest.raises(ValueError, match="idle_timeout_s"):
            await pf.run(pf.Command("true"), stdout=tmp_path / "out", merge_stderr=True, idle_timeout_s=1)


class TestMerged:
    """merge_stderr=True."""

    async def test_order_is_the_kernels(self) -> None:
        """C-8: both outputs arrive in one stream, in exactly the order of the writes."""
        script = "import os\nfor i in range(500): os.write(1 + i % 2, b'%d\\n' % i)"

        done = await pf.run(python(script), merge_stderr=True)

        assert done.stdout.lines == [str(i) for i in range(500)]
        assert not done.stderr.is_streamed
        assert done.outcome.stdout_tail.endswith(b"499\n")
        assert done.outcome.output_complete

    async def test_handle_has_one_stream(self) -> None:
        """C-8: child.stderr says where it went, and what would help: no other configuration of stderr does."""
        async with pf.spawn(pf.shell(BOTH), merge_stderr=True) as child:
            with pytest.raises(pf.UsageError, match="; read stdout, or start it without merge_stderr=True$"):
                _ = child.stderr
            async with child.stdout.lines() as lines:
                assert [line async for line in lines] == ["out", "err"]

    async def test_failure_shows_the_merged_tail(self) -> None:
        """C-8: notes of errors come from the one stream."""
        with pytest.raises(pf.ExitError) as caught:
            await pf.run(pf.shell("echo reason >&2; exit 3"), merge_stderr=True)
        assert any("reason" in note for note in caught.value.__notes__)

    async def test_where_stdout_goes(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        """C-8: standard error follows standard output to a file, to the null device and to the host's own."""
        script = pf.shell(BOTH)
        await pf.run(script, stdout=tmp_path / "out", merge_stderr=True)
        assert (tmp_path / "out").read_text() == "out\nerr\n"
        await pf.run(script, stdout=pf.NULL, merge_stderr=True)
        assert capfd.readouterr() == ("", "")
        await pf.run(script, stdout=pf.INHERIT, merge_stderr=True)
        assert capfd.readouterr() == ("out\nerr\n", "")

    async def test_two_answers_are_one_too_many(self) -> None:
        """C-8: stderr= and merge_stderr=True contradict each other."""
        with pytest.raises(ValueError, match="leave out stderr="):
            pf.spawn(pf.Command("true"), stderr=pf.NULL, merge_stderr=True)

    async def test_config_of_the_one_stream(self) -> None:
        """C-8: the configuration of stdout holds for what both write."""
        config = pf.StreamConfig(replay=pf.Replay.last_bytes(4))
        done = await pf.run(pf.shell(BOTH), stdout=config, merge_stderr=True)
        assert (done.stdout.bytes, done.stdout.lost_bytes) == (b"err\n", 4)


async def test_each_stream_has_its_own_config() -> None:
    """C-8: one output may be kept whole while the other keeps next to nothing."""
    done = await pf.run(
        pf.shell("seq 1000; seq 1000 >&2"),
        stdout=pf.StreamConfig(replay=pf.Replay.all()),
        stderr=pf.StreamConfig(replay=pf.Replay.last_bytes(5)),
    )
    assert len(done.stdout.lines) == 1000
    assert done.stderr.bytes == b"1000\n"
