"""The lines of docs/FORMAT.md for other libraries, run on a data set."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FORMAT = Path(__file__).parents[2] / "docs" / "FORMAT.md"
TEXT = FORMAT.read_text().split("# The code data set")[1]
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def block_with(name: str) -> str:
    (found,) = [block for block in BLOCKS if f"import {name}" in block or f"from {name}" in block]
    return found


def run(code: str, folder: Path) -> str:
    """What it prints, in a folder whose DIR is the data set."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={
            "HF_HOME": str(folder / "cache"),
            "SPARK_LOCAL_IP": "127.0.0.1",
            "PATH": "/usr/bin:/bin",
        },
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert not done.returncode, done.stderr
    return done.stdout


@pytest.fixture
def folder(write, tmp_path):
    write("DIR/data/train-00000-of-00001.parquet")
    (tmp_path / "DIR" / "errors.parquet").write_bytes(b"no codes")
    return tmp_path


def numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", re.sub(r"dtype=\w+", "", text))]


def test_there_is_a_block_for_each():
    assert len(BLOCKS) == 5
    for name in ("datasets", "pandas", "duckdb", "pyspark.sql", "json"):
        assert block_with(name).count("\n") >= 1


@pytest.mark.parametrize("name", ["datasets", "pandas", "duckdb"])
def test_three_lines_read_the_codes(name, folder, rows):
    pytest.importorskip(name)
    code = block_with(name)
    assert len([line for line in code.splitlines() if line]) == 3
    assert numbers(run(code, folder)) == [*rows[0][0].values.reshape(-1).tolist(), 2, 3]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_three_lines_of_spark_read_the_codes(folder, rows):
    pytest.importorskip("pyspark")
    if shutil.which("java") is None:
        pytest.skip("Spark needs Java")
    code = block_with("pyspark.sql")
    assert len([line for line in code.splitlines() if line]) == 3
    assert numbers(run(code, folder)) == [*rows[0][0].values.reshape(-1).tolist(), 2, 3]


def test_the_codes_of_a_row_without_this_package(folder, rows):
    code = block_with("json") + "print(about['levels'], codes.tolist())"
    expected = [*rows[0][0].levels, *rows[0][0].values.reshape(-1).tolist()]
    assert numbers(run(code, folder)) == expected


def test_datasets_loads_the_folder(folder, rows):
    datasets = pytest.importorskip("datasets")
    table = datasets.load_dataset(str(folder / "DIR"), cache_dir=str(folder / "cache"))
    assert list(table) == ["train"]
    assert table["train"]["grid_sizes"][1] == [[1, 1], [4, 2]]
    assert table["train"]["codes"][2] == []
