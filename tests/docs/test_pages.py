"""Every block of the documentation is run, here or elsewhere, or says visibly that it is not.

docs/index.md tells the reader the same three rules.
"""

import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

import viq
from viq.cli.main import main, make_parser

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
MARK = re.compile(r"^\*Not run by the tests[^*]*\*$", re.MULTILINE)


class Block(NamedTuple):
    """A block of code, and whether a line in italics says that it is not run."""

    language: str
    code: str
    marked: bool

    @property
    def commands(self) -> list[str]:
        """Each command of a console, without what follows on lines of its own."""
        joined = self.code.replace("\\\n", " ")
        return re.findall(r"^\$ (.*)$", joined, re.MULTILINE)


def blocks(page: Path) -> list[Block]:
    """All of a page. A mark stands right above its block, or before the first heading for all."""
    text = page.read_text("utf-8")
    first_heading = text.find("\n## ")
    head = text[: first_heading if first_heading >= 0 else len(text)]
    of_all = any("this page" in " ".join(mark.split()) for mark in MARK.findall(head))
    found = []
    for match in re.finditer(r"^```(\w*).*?\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        above = text[: match.start()].rstrip().rpartition("\n\n")[2]
        marked = of_all and match[1] == "console"
        found.append(Block(match[1], match[2], marked or bool(MARK.fullmatch(above.strip()))))
    return found


def is_ones_own(command: str) -> bool:
    """Whether a command names something of the reader's: in capitals, or in a network's store."""
    words = shlex.split(command, comments=True)
    return any(re.match(r"(?:\w+=)?[A-Z][A-Z0-9-]+(?:/|$)", w) or "://" in w for w in words)


@pytest.fixture
def world(tmp_path, monkeypatch) -> Path:
    """The folder that the pages speak of: some photographs, a scan, and the examples."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for number, (width, height) in enumerate([(96, 64), (64, 80), (70, 70)]):
        picture(width, height, number).save(tmp_path / "photos" / f"{number}.png")
    picture(72, 48, 3).save(tmp_path / "photo.jpg")
    picture(48, 72, 4).save(tmp_path / "scan.png")
    for name in ("examples", "src"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path


def picture(width: int, height: int, seed: int) -> Image.Image:
    y, x = np.mgrid[:height, :width]
    values = np.stack([(2 + seed) * x, 3 * y, x + (1 + seed) * y], -1) % 256
    return Image.fromarray(values.astype(np.uint8))


@pytest.fixture
def run_page(world, monkeypatch):
    """Runs all blocks of a page that say nothing else, in order; returns how many."""

    def run(page: Path) -> int:
        scope: dict = {"__name__": "page"}
        count = 0
        for block in blocks(page):
            if block.marked or block.language == "text":
                continue
            if block.language == "python":
                exec(compile(block.code, str(page), "exec"), scope)
                count += 1
            for command in block.commands if block.language == "console" else ():
                count += run_command(command, monkeypatch)
        return count

    return run


def run_command(command: str, monkeypatch) -> int:
    """Runs a command in this process, as a new one would only load torch once more."""
    if is_ones_own(command):
        return 0
    words = shlex.split(command, comments=True)
    if words[0] == "viq":
        assert main(words[1:]) == 0, command
    else:
        assert words[0] == "python", command
        with monkeypatch.context() as patch:
            patch.setattr("sys.argv", words[1:])
            runpy.run_path(words[1], run_name="__main__")
    return 1


def commands_of(page: Path) -> Iterator[str]:
    """All commands of ours in a page's consoles, marked or not."""
    for block in blocks(page):
        if block.language == "console":
            yield from (c for c in block.commands if c.startswith("viq ") and "..." not in c)


PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
# Their code in Python is run by these tests.
ELSEWHERE = {
    "EXTRACTION.md": "tests/extraction/test_docs.py",
    "FORMAT.md": "tests/store/test_other_readers.py",
    "LANGUAGE_MODELS.md": "tests/mllm/test_docs.py",
}
# Their commands are those of `make`, of which CI is made, or run as a whole by hand.
BY_MAKE = re.compile(r"^make |^pip install ")
RUN = [
    "quick-start.md",
    *(f"concepts/{name}.md" for name in ("codes", "heads", "proximal", "faster")),
    *(f"how-to/{name}.md" for name in ("encode-a-data-set", "evaluate", "official-weights")),
    *(f"how-to/{name}.md" for name in ("publish", "train-a-tokenizer")),
    "how-to/train-your-language-model.md",
]


def name_of(page: Path) -> str:
    return page.relative_to(DOCS if page.is_relative_to(DOCS) else ROOT).as_posix()


@pytest.mark.parametrize("name", RUN)
def test_the_page_runs(name, run_page):
    page = DOCS / name
    ran = run_page(page)
    assert ran or all(b.marked or all(map(is_ones_own, b.commands)) for b in blocks(page))


def test_the_readmes_code_runs(world, monkeypatch):
    flags = ["--max-pixels", "4096", "--workers", "1"]
    assert main(["extract", "photos", "--out", "codes", *flags]) == 0
    scope: dict = {"__name__": "page"}
    ran = [block for block in blocks(ROOT / "README.md") if block.language == "python"]
    for block in ran:
        exec(compile(block.code, "README.md", "exec"), scope)
    assert len(ran) == 2
    assert scope["picture"].size == scope["codes"].original_size[::-1]
    assert len(scope["row"]["codes"]) > 0


def test_a_viq_file_is_read_without_this_package(world):
    viq.load("nano").encode("photo.jpg").save("photo.viq")
    first = next(block for block in blocks(DOCS / "FORMAT.md") if block.language == "python")
    scope: dict = {}
    exec(first.code, scope)
    assert scope["codes"].shape == (4 * 6, 4)
    assert scope["about"]["original_size"] == [48, 72]


def test_every_page_is_run_here_or_elsewhere_or_marked():
    rest = {name_of(page) for page in PAGES} - set(RUN)
    for name in sorted(rest):
        page = next(page for page in PAGES if name_of(page) == name)
        python = [b for b in blocks(page) if b.language == "python" and not b.marked]
        assert not python or name in ELSEWHERE or name == "README.md", name
        open_ones = [
            command
            for block in blocks(page)
            if block.language == "console" and not block.marked
            for command in block.commands
            if not BY_MAKE.match(command) and not is_ones_own(command)
        ]
        assert not open_ones, (name, open_ones)


@pytest.mark.parametrize("name", ELSEWHERE)
def test_code_that_is_run_elsewhere_is_run_there(name):
    assert name in (ROOT / ELSEWHERE[name]).read_text("utf-8")
    assert any(block.language == "python" for block in blocks(DOCS / name))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_all_blocks_are_of_a_kind_that_is_looked_at(page):
    assert {block.language for block in blocks(page)} <= {"console", "python", "text"}
    fences = re.findall(r"^ *```", page.read_text("utf-8"), re.MULTILINE)
    assert len(fences) == 2 * len(blocks(page))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_have_options_that_there_are(page):
    for command in commands_of(page):
        words = shlex.split(re.split(r" [|>] ", command)[0], comments=True)
        _, rest = make_parser().parse_known_args(words[1:])
        assert rest == [] or words[1] == "train", command  # whose recipes take more


def test_the_commands_that_are_checked_are_many():
    assert sum(1 for page in PAGES for _ in commands_of(page)) > 80


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The documentation, built as `make docs` does."""
    pytest.importorskip("mkdocs")
    folder = tmp_path_factory.mktemp("site")
    process = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        capture_output=True,
        check=False,
        cwd=ROOT,
        text=True,
        timeout=110,
    )
    assert process.returncode == 0, process.stderr
    return folder


def test_the_site_is_built_without_a_warning(site):
    for page in DOCS.rglob("*.md"):
        assert (site / page.relative_to(DOCS).with_suffix(".html")).is_file()
    reference = (site / "reference" / "viq.html").read_text("utf-8")
    for name in ("viq.tokenizer.Tokenizer.encode", "viq.codes.Codes.save", "viq.tokenizer.load"):
        assert f'id="{name}"' in reference


def test_the_site_works_from_disk_and_loads_nothing_from_elsewhere(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        text = page.read_text("utf-8")
        assert re.findall(r'<(?:script|img|iframe)[^>]* src="?(?:https?:)?//', text) == []
        assert (
            re.findall(r'<link[^>]* rel="?(?:stylesheet|preconnect)"?[^>]*href="?https?:', text)
            == []
        )
        if page.name != "404.html":
            links = re.findall(r'<a href="([^"#:]+)[#"]', text)
            assert [link for link in links if not (page.parent / link).exists()] == []
    assert (site / "search" / "search_index.js").is_file()
    assert (site / "assets" / "iframe-worker.js").is_file()


def test_the_pictures_of_the_concepts_are_drawn(tiny_tokenizer_folder, tmp_path, monkeypatch):
    arguments = ["draw.py", "--model", str(tiny_tokenizer_folder), "--out", str(tmp_path)]
    monkeypatch.setattr("sys.argv", arguments)
    runpy.run_path(str(DOCS / "concepts" / "draw.py"), run_name="__main__")
    drawn = sorted(path.name for path in tmp_path.glob("*.png"))
    assert drawn == sorted(path.name for path in (DOCS / "concepts").glob("*.png"))
    for name in drawn:
        with Image.open(tmp_path / name) as image:
            assert image.width == 900
        assert (DOCS / "concepts" / name).stat().st_size < 300_000
