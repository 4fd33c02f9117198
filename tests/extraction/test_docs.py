"""docs/EXTRACTION.md: its commands have the flags that there are, and its code runs."""

import re
import shlex
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import viq
from viq.cli.main import main
from viq.extraction.local import LocalEngine
from viq.extraction.summary import ERRORS

DOC = Path(viq.__file__).parents[2] / "docs" / "EXTRACTION.md"

pytestmark = pytest.mark.skipif(not DOC.is_file(), reason="an installed package has no docs")


def test_the_layout_is_what_is_written_and_the_code_runs(
    job_of_four, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    with job_of_four(tmp_path / "codes") as job:
        list(job.run(LocalEngine(1)))
        assert list(Path("codes/.viq").glob("run-*"))
        job.finish()
    text = DOC.read_text("utf-8")
    (layout,) = re.findall(r"```text\ncodes/\n(.*?)```", text, re.DOTALL)
    told = {re.sub(r"\d{5}", "N", line.split()[0]) for line in layout.splitlines()}
    files = [path.relative_to("codes").as_posix() for path in Path("codes").rglob("*.*")]
    there = {re.sub(r"\d{5}", "N", name) for name in files} - {".viq"}
    assert told == there | {".viq/lock", ".viq/run-*/"}
    assert Path("codes/.viq/lock").is_file()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(code, {})
    (row,) = pq.read_table("codes/errors.parquet").to_pylist()
    assert capsys.readouterr().out.startswith(f"7 007.png {row['where']} the file is empty")
    assert all(f"`{name}`" in text for name in ERRORS.names)


def test_all_flags_are_those_of_the_command(capsys):
    with pytest.raises(SystemExit):
        main(["extract", "--help"])
    help = capsys.readouterr().out
    commands = re.findall(r"^\$ viq extract (.*)$", DOC.read_text("utf-8"), re.MULTILINE)
    flags = {word for line in commands for word in shlex.split(line) if word.startswith("--")}
    assert len(commands) >= 5
    assert [flag for flag in sorted(flags) if flag not in help] == []
