import json
import re

import pytest
import table
from results import read, write
from rows import DEFAULT, GROUPS

from viq.errors import InputError


@pytest.fixture
def page(tmp_path):
    path = tmp_path / "PAGE.md"
    path.write_text(f"# Before\n\n{table.BEGIN}\n\nold\n\n{table.END}\n\nAfter.\n")
    return path


def lines_of(text, group, title):
    """The rows of both tables of a group that begin with a title."""
    part = text.split(f"### {GROUPS[group].title}\n")[1].split("\n### ")[0]
    return [line for line in part.splitlines() if line.startswith(f"| {title} |")]


def test_means_ranges_and_paired_differences(folder, result, page, capsys):
    for seed, score in enumerate((47.0, 48.5, 49.0)):
        write(folder, result("l2", seed, score, psnr=19.0))
    assert table.main([str(folder), "--out", str(page)]) == 0
    text = page.read_text()
    assert text.startswith("# Before\n\n" + table.BEGIN)
    assert text.endswith(table.END + "\n\nAfter.\n")
    assert "old" not in text
    values, apart = lines_of(text, "proximal", "+ l2 limit")
    assert values.startswith("| + l2 limit | 3 | 48.2 [47.0, 49.0] | 3.518 [3.510, 3.530] |")
    # Of -3, -2.5 and -3: mean -2.83, half the t interval 4.303 * 0.2887 / sqrt(3).
    assert apart.startswith("| + l2 limit | **-2.8 ± 0.7** | **+0.028 ± 0.007** |")
    assert apart.endswith("| -0.8 | as the paper |")
    assert values.endswith("| 19.00 [19.00, 19.00] | 10.00 [10.00, 10.00] | 8.0 [8.0, 8.0] |")
    assert "6 runs of 2 rows" in capsys.readouterr().out
    plot = page.parent / "RESULTS" / "ablations.png"
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert "](RESULTS/ablations.png)" in text


def test_rows_that_were_not_run_or_too_seldom_say_so(folder, result, page):
    write(folder, result("learned-position", 1, 40.0))
    table.main([str(folder), "--out", str(page)])
    text = page.read_text()
    assert "| none | not run |" in text
    values, apart, _ = lines_of(text, "position", "learned grid")
    assert "| 1 of 3 | 40.0 |" in values
    assert apart.startswith("| learned grid | -11.0 |")  # of seed 1, without an interval
    assert "| -3.0 | one seed |" in apart
    assert "| **" not in apart


def test_a_result_against_the_papers_is_called_that(folder, result, page):
    for seed in range(3):
        write(folder, result("text", seed, 60.0 + seed))
    table.main([str(folder), "--out", str(page)])
    _, apart = lines_of(page.read_text(), "losses", "text")
    assert apart.endswith("| -7.4 | **contradicts** |")


def test_noise_is_no_difference(folder, result, page):
    for seed, score in enumerate((45.0, 60.0, 50.0)):
        write(folder, result("text", seed, score))
    table.main([str(folder), "--out", str(page)])
    _, apart = lines_of(page.read_text(), "losses", "text")
    assert apart.endswith("| -7.4 | not told apart |")


def test_a_measure_that_a_row_has_not_is_a_dash(folder, result, page):
    for seed in range(3):
        write(folder, result("text", seed, 50.0 + seed, psnr=None))
    table.main([str(folder), "--out", str(page)])
    values, apart = lines_of(page.read_text(), "losses", "text")
    assert values.endswith("| – | 10.00 [10.00, 10.00] | 8.0 [8.0, 8.0] |")
    assert "| – | +0.00 ± 0.00 |" in apart


def test_positions_are_shown_at_all_sizes(folder, page):
    table.main([str(folder), "--out", str(page)])
    text = page.read_text()
    assert re.search(r"Text loss, drawn, 96² \(nats\) .* PSNR, 320² \(dB\)", text)
    *_, sizes = lines_of(text, "position", "rotary")
    assert sizes.count("3.490 [3.480, 3.500]") == 3


def test_the_page_says_what_was_run(folder, result, page):
    write(folder, result("l2", 0, 40.0, unseen=1))
    table.main([str(folder), "--out", str(page)])
    text = page.read_text()
    assert "4 runs of 510 steps (170 of them stage proximal) of 512 tokens" in text
    assert "8.0 to 8.0 CPU minutes each" in text
    assert "CPU times of 1 runs that were cut off are lower bounds." in text


def test_without_results_nothing_is_claimed(tmp_path, page):
    assert table.main([str(tmp_path / "none"), "--out", str(page)]) == 0
    text = page.read_text()
    assert "Nothing has been run yet." in text
    assert "not run" in text
    assert not (page.parent / "RESULTS").exists()


def test_the_projects_own_page_can_be_made(request):
    root = request.config.rootpath
    text = table.page_part(read(root / "benchmarks" / "results" / "ablations"), None)
    page = root / "docs" / "ABLATIONS.md"
    assert text in table.put(page.read_text("utf-8"), text, page)


def test_a_page_without_marks_is_left_as_it_is(folder, page, capsys):
    page.write_text("# Other\n")
    assert table.main([str(folder), "--out", str(page)]) == 2
    assert "PAGE.md: lacks the lines <!-- generated: ablations -->" in capsys.readouterr().err
    assert page.read_text() == "# Other\n"


def test_results_of_other_settings_do_not_go_together(folder, result):
    settings = {**result("default", 0, 1.0)["settings"], "steps": 100}
    write(folder, result("l2", 0, 50.0, settings=settings))
    with pytest.raises(InputError, match=r"l2-seed0.json: .*default-seed0.json: steps 510 and 100"):
        read(folder)


def test_damaged_results_are_named(folder, result):
    path = folder / "l2-seed0.json"
    path.write_text("{")
    with pytest.raises(InputError, match=r"l2-seed0.json: is no result"):
        read(folder)
    path.write_text(json.dumps(result(DEFAULT, 0, 50.0)))
    with pytest.raises(InputError, match="says it is row 'default', seed 0; remove or rename it"):
        read(folder)
    write(folder, {**result("l2", 0, 50.0), "changed": "--limit tanh"})
    with pytest.raises(
        InputError, match="'--limit tanh' changed, but the row changes '--limit l2'"
    ):
        read(folder)
