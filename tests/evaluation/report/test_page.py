"""The page: complete in itself, accessible, and safe whatever names are in it."""

import base64
import hashlib
import math
import re
import shutil
import subprocess
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from viq.evaluation.document import Column, Score, Table
from viq.evaluation.report.collect import collect, load_document
from viq.evaluation.report.page import inline, page, text
from viq.evaluation.report.pictures import for_page

VOID = {"meta", "img", "line", "circle"}  # of those that the page has


class Page(HTMLParser):
    """Elements with their attributes and texts; all are closed in order."""

    def __init__(self, content):
        super().__init__()
        self.elements = []  # (tag, attributes, texts)
        self.open = []
        self.feed(content)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs)
        self.elements.append((tag, dict(attrs), []))
        if tag not in VOID:
            self.open.append(self.elements[-1])

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), []))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        for element in self.open:
            element[2].append(data)

    def all(self, tag, **attributes):
        return [
            (found, "".join(texts))
            for name, found, texts in self.elements
            if name == tag and all(found.get(key) == value for key, value in attributes.items())
        ]

    def texts(self, tag, **attributes):
        return [" ".join(content.split()) for _, content in self.all(tag, **attributes)]


@pytest.fixture
def make():
    """The page of the documents in folders."""

    def write(*folders, title="Evaluation", foot="Made by `viq report`."):
        documents = [(folder, load_document(folder)) for folder in folders]
        pictures = {
            folder / figure.file: for_page(folder / figure.file)
            for folder, document in documents
            for figure in document.figures
            if (folder / figure.file).exists()
        }
        return page(title, collect(documents), pictures, foot)

    return write


@pytest.fixture
def content(save, make):
    return make(
        save("nano", notes=("Protocol.", "LPIPS: no `weights`.")),
        save("runs/giant", psnr=30.0, notes=("Protocol.",)),
        save("nano", "cost"),
    )


def test_nothing_comes_from_elsewhere(content):
    found = Page(content)
    for tag, attributes, _ in found.elements:
        assert tag not in {"link", "iframe", "object", "embed", "base", "form"}
        assert not {"srcset", "action", "style"} & attributes.keys()
        assert attributes.get("href", "#").startswith("#")
        assert attributes.get("src", "data:image/webp;base64,").startswith(
            "data:image/webp;base64,"
        )
    assert "@import" not in content
    assert "url(" not in content
    assert "://" not in content
    assert len(found.all("img")) == 3


def test_the_policy_admits_the_pages_own_style_and_script_alone(content):
    found = Page(content)
    ((meta, _),) = found.all("meta", **{"http-equiv": "Content-Security-Policy"})
    (style,), (script,) = found.all("style"), found.all("script")

    def digest(text):
        return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

    assert meta["content"].split("; ") == [
        "default-src 'none'",
        "img-src data:",
        f"style-src 'sha256-{digest(style[1])}'",
        f"script-src 'sha256-{digest(script[1])}'",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    assert content.index("Content-Security-Policy") < content.index("<style>")


def test_landmarks_headings_and_anchors_are_in_order(content):
    found = Page(content)
    assert [len(found.all(tag)) for tag in ("header", "nav", "main", "footer", "h1")] == [1] * 5
    levels = [int(tag[1]) for tag, *_ in found.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    ids = [attributes["id"] for _, attributes, _ in found.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    named = [a.get("aria-labelledby") for _, a, _ in found.elements if "aria-labelledby" in a]
    links = [attributes["href"][1:] for attributes, _ in found.all("a")]
    assert {*named, *links} <= set(ids)
    contents = [link for link in links if link != "main"]
    assert contents == [
        *("reconstruction", "quality", "curve"),
        *("cost", "quality-2", "curve-2"),
    ]


def test_tables_have_captions_and_scopes_and_scroll_in_their_own_box(content):
    found = Page(content)
    assert found.texts("caption") == ["Quality", "Quality"]
    assert found.texts("th", scope="col")[:3] == [
        "subject",
        "PSNR (dB) ↑, higher is better",
        "error (%) ↓, lower is better",
    ]
    assert found.texts("th", scope="row") == [
        *("nano source 1", "JPEG source 1, 2", "runs/giant source 2"),
        *("nano", "JPEG"),
    ]
    boxes = found.all("div", **{"class": "scroll"})
    assert [(box["role"], box["tabindex"]) for box, _ in boxes] == [("region", "0")] * 2


def test_cells_say_value_interval_and_which_is_best(content):
    cells = Page(content).texts("td")[:6]
    assert cells == [
        *("24.00 [23.50, 24.75]", "–not measured"),
        *("25.25", "3.0"),
        *("30.00, the best [29.50, 30.75]", "–not measured"),
    ]


def test_values_can_be_sorted(save, make):
    columns = (Column(name="a"), Column(name="b"))
    values = (1234, -0.5, math.inf, -math.inf, None, math.nan, "text", Score(value=2.5))
    rows = tuple((str(i), value) for i, value in enumerate(values))
    content = make(save(tables=(Table(title="t", columns=columns, rows=rows),), figure=False))
    found = [(a.get("data-value"), "data-none" in a) for a, _ in Page(content).all("td")]
    assert found == [
        *(("1234.0", False), ("-0.5", False), ("Infinity", False), ("-Infinity", False)),
        *((None, True), (None, True), (None, False), ("2.5", False)),
    ]


def test_every_table_and_figure_says_where_it_comes_from(content):
    details = Page(content).texts("details")
    assert len(details) == 4
    assert details[0] == details[1]
    for part in (
        "Sources 1, 2: 2026-11-22, commit 2e62485",
        "1. Reconstruction of nano",
        "viq eval reconstruction --model nano",
        "viq eval reconstruction --model runs/giant",
        "A processor x 2, 1 thread; viq 0.1.0.",
    ):
        assert part in details[0]
    assert details[2].startswith("Source 3: 2026-11-22")


def test_a_table_and_figures_of_one_title_share_a_heading(save, make):
    table = Table(title="Curve", columns=(Column(name="a"),), rows=(("x",),))
    found = Page(make(save(tables=(table,))))
    assert found.texts("h3") == ["Curve"]
    assert [len(found.all(tag)) for tag in ("table", "img", "details")] == [1, 1, 1]


def test_notes_say_whose_they_are_where_not_all_have_them(content):
    ((_, notes),) = Page(content).all("div", **{"class": "notes"})
    assert notes == "Protocol.LPIPS: no weights. source 1"


def test_figures_carry_alt_texts_and_whose_they_are(content):
    found = Page(content)
    assert [a["alt"] for a, _ in found.all("img")] == ["PSNR over bits per pixel."] * 3
    assert found.texts("figcaption") == [
        "Reconstruction of nano source 1. PSNR over bits per pixel.",
        "Reconstruction of runs/giant source 2. PSNR over bits per pixel.",
        "PSNR over bits per pixel.",
    ]


def test_the_caption_stands_in_for_a_picture_that_is_not_there(save, make):
    folder = save()
    (folder / "curve.png").unlink()
    found = Page(make(folder))
    assert found.all("img") == []
    assert found.texts("figure") == ["This picture could not be read.PSNR over bits per pixel."]


@pytest.mark.parametrize("exact", [True, False])
def test_a_picture_that_lost_something_is_owned_up_to(exact, save):
    folder = save()
    picture = for_page(folder / "curve.png")._replace(exact=exact)
    sections = collect([(folder, load_document(folder))])
    found = page("Evaluation", sections, {folder / "curve.png": picture}, "Made by `viq`.")
    (foot,) = Page(found).texts("footer")
    assert foot.startswith("Made by viq.")
    assert ("as WebP of quality 90" in foot) is not exact


def test_one_evaluation_needs_no_numbers(save, make):
    found = Page(make(save()))
    assert found.all("sup") == []
    assert found.texts("summary") == ["Source: 2026-11-22, commit 2e62485"] * 2


ATTACK = (
    """</td></style></script><script>alert(1)</script><img src=x onerror="alert(1)">'"&amp;`x`"""
)


def test_names_are_never_markup(save, make):
    columns = (Column(name=ATTACK, unit=ATTACK), Column(name="b", better="higher"))
    table = Table(title=ATTACK, columns=columns, rows=((ATTACK, ATTACK), ("x", 1)), note=ATTACK)
    folders = [
        save(str(i), kind="codes" if i else ATTACK.replace("/", ""), folder=str(i), title=ATTACK,
             tables=(table,), notes=(ATTACK,), caption=ATTACK)
        for i in range(2)
    ]  # fmt: skip
    content = make(*folders, title=ATTACK, foot=ATTACK)
    found = Page(content)
    assert content.count("<script>") == content.count("</script>") == 1
    assert content.count("</style>") == 1
    for _, attributes, _ in found.elements:
        assert not any(name.startswith("on") for name in attributes)
    assert [a["src"][:5] for a, _ in found.all("img")] == ["data:"] * 2
    assert found.all("img")[0][0]["alt"] == ATTACK
    assert found.all("h1")[0][1] == found.all("title")[0][1] == ATTACK
    assert found.all("th", scope="row")[0][1] == ATTACK
    assert found.all("td")[0][1] == ATTACK.replace("`", "")


def test_controls_in_names_are_shown_as_unknown():
    assert text("a\x00b\x1b[31m\x85<") == "a�b�[31m�&lt;"
    assert text("two\nlines\tµ") == "two\nlines\tµ"


def test_code_with_backticks_in_it():
    assert inline("``a`<b>``") == "<code>a`&lt;b&gt;</code>"


def test_code_between_backticks():
    assert inline("see `a<b` and `c`; a lone ` stays") == (
        "see <code>a&lt;b</code> and <code>c</code>; a lone ` stays"
    )


def test_the_same_evaluations_give_the_same_page(save, make):
    folders = [save("nano"), save("giant")]
    assert make(*folders) == make(*folders)


def test_a_table_without_rows_is_a_table(save, make):
    table = Table(title="t", columns=(Column(name="a"), Column(name="b")), rows=())
    found = Page(make(save(tables=(table,))))
    assert found.texts("th") == ["a", "b"]


@pytest.fixture
def browse(tmp_path):
    """What a browser makes of a page, and what it says on its console."""
    if (browser := shutil.which("chromium")) is None:
        pytest.skip("there is no browser")

    def run(content):
        path = tmp_path / "page.html"
        path.write_text(content, "utf-8")
        done = subprocess.run(
            [
                *(browser, "--headless", "--no-sandbox", "--disable-gpu"),
                *("--disable-background-networking", "--enable-logging=stderr"),
                *(f"--user-data-dir={tmp_path / 'browser'}", "--dump-dom", path.as_uri()),
            ],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]

    return run


@pytest.mark.slow
def test_a_browser_refuses_nothing_of_the_page_and_all_else(content, browse):
    shown, console = browse(content)
    assert shown.count("<button") == 9  # which the script makes: columns and pictures
    assert console == []
    attack = (
        "<img src=x onerror=\"document.title='changed'\"><script>document.title='changed'</script>"
    )
    shown, console = browse(content.replace("<h1>", attack + "<h1>"))
    assert "<title>Evaluation</title>" in shown
    assert len(console) == 3
    assert all("Content Security Policy" in line for line in console)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("column", "clicks", "order"),
    [
        (1, 1, ["runs/giant", "JPEG", "nano"]),
        (1, 2, ["nano", "JPEG", "runs/giant"]),
        (2, 1, ["JPEG", "nano", "runs/giant"]),  # those not measured last
        (2, 2, ["JPEG", "nano", "runs/giant"]),
        (0, 1, ["JPEG", "nano", "runs/giant"]),
        (0, 2, ["runs/giant", "nano", "JPEG"]),
    ],
)
def test_a_click_on_a_column_sorts_by_it(column, clicks, order, content, browse):
    script = f"document.querySelectorAll('thead button')[{column}].click();" * clicks
    free = re.sub("<meta http-equiv.*?>", "", content)
    shown, _ = browse(free.replace("</body>", f"<script>{script}</script></body>"))
    found = Page(re.sub("</(line|circle)>", "", shown))
    rows = [name.split(" source ")[0] for name in found.texts("th", scope="row")]
    assert rows[:3] == order
    sorts = [attributes.get("aria-sort") for attributes, _ in found.all("th", scope="col")]
    assert [i for i, one in enumerate(sorts) if one] == [column]
