"""Results on stdout, failures on stderr, exit codes, tables."""

import os

import pytest

from viq.cli.progress import FEW, Report, hushed, table
from viq.errors import ImageError


@pytest.mark.parametrize(("good", "bad", "status"), [(2, 0, 0), (1, 1, 1), (0, 2, 2), (0, 0, 0)])
def test_the_exit_code_says_whether_all_some_or_none_went_well(good, bad, status):
    with Report("encoded", good + bad) as report:
        for _ in range(good):
            report.success("a result")
        for _ in range(bad):
            report.failure("a file", ImageError("broken"))
    assert report.status == status


def test_results_and_failures_go_their_ways(capsys):
    with Report("encoded", 3) as report:
        report.success("a result")
        report.failure("first.png", ImageError("has no name yet"))
        report.failure("second.png", ImageError("has\none", "second.png"))
    report.summary()
    out, err = capsys.readouterr()
    assert out == "a result\n"
    assert err.splitlines()[:2] == [
        "viq: error: first.png: has no name yet",
        "viq: error: second.png: has one",
    ]
    assert err.splitlines()[2].startswith("encoded 1 file in ")
    assert err.endswith(" s, 2 failed\n")


@pytest.mark.parametrize(("count", "shown"), [(FEW, False), (FEW + 1, True)])
def test_only_many_files_get_a_progress_bar_and_only_on_a_terminal(
    count, shown, capsys, monkeypatch
):
    def errors() -> str:
        with Report("encoded", count) as report:
            for _ in range(count):
                report.success()
        return capsys.readouterr().err

    assert errors() == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert ("file/s" in errors()) == shown


def test_what_a_library_writes_to_stderr_is_not_seen(capfd):
    with hushed():
        os.write(2, b"tempfile.tif: some complaint\n")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"


def test_a_table_has_its_columns_under_each_other():
    assert table(["name", "bytes"], [["a", "1"], ["longer", "1,234"]]).splitlines() == [
        "name    bytes",
        "a           1",
        "longer  1,234",
    ]
