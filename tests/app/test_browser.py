"""The page in a real browser, Debian's Chromium, as people use it."""

import hashlib
import struct
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from viq.codes import Codes

CHROMIUM = Path("/usr/bin/chromium")
LOADED = "#view:not([hidden])"
DESKTOP = {"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce"}
PHONE = {"viewport": {"width": 375, "height": 812}, "is_mobile": True, "has_touch": True}


@pytest.fixture(scope="module")
def browser():
    """Of this module alone: while it runs there can be no other event loop in this thread."""
    if not CHROMIUM.is_file():
        pytest.skip(f"there is no {CHROMIUM}")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, server):
    """Opens the page in a browser of its own; fails on errors of its scripts and its policy."""
    contexts, wrong = [], []

    def watch(message):
        # An answer that is no success is said there, too, and meant to be.
        if message.type == "error" and "Failed to load resource" not in message.text:
            wrong.append(message.text)

    def open_page(url=None, **options):
        context = browser.new_context(**(DESKTOP | options))
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on("console", watch)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: check(request.url))
        page.goto(url or server.url)
        page.wait_for_selector(".sample")
        return page

    def check(url):
        if not url.startswith((server.url, "blob:")):
            wrong.append(f"asks for {url}")

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


@pytest.fixture
def save(tmp_path, picture_bytes):
    """Writes a picture."""

    def write(name="photo.png", **options) -> Path:
        path = tmp_path / name
        path.write_bytes(picture_bytes(**options))
        return path

    return write


def upload(page, path):
    """Gives the page a file and waits until its picture is there."""
    page.set_input_files("#file", path)
    page.wait_for_function(
        "name => document.getElementById('name').textContent === name", arg=path.name
    )
    page.wait_for_function("() => !document.body.classList.contains('busy')")


def shown(page, selector) -> str:
    """A picture's pixels as the page has them, as a hash: a browser hands over lists slowly."""
    return page.evaluate(
        """async (selector) => {
            const image = document.querySelector(selector);
            await image.decode();
            const {naturalWidth: width, naturalHeight: height} = image;
            const context = Object.assign(document.createElement("canvas"), {width, height})
                .getContext("2d");
            context.drawImage(image, 0, 0);
            const {data} = context.getImageData(0, 0, width, height);
            const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", data));
            return Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("");
        }""",
        selector,
    )


def hashed(image: Image.Image) -> str:
    """The same of a picture that the page should have."""
    return hashlib.sha256(image.convert("RGBA").tobytes()).hexdigest()


def grid(page, head: int) -> dict[str, float]:
    """Where a head's code grid is, scrolled to."""
    canvas = page.locator("#grids canvas").nth(head)
    canvas.scroll_into_view_if_needed()
    return canvas.bounding_box()


def download(page) -> Codes:
    with page.expect_download() as waiting:
        page.click("#download")
    assert waiting.value.suggested_filename.endswith(".viq")
    return Codes.from_bytes(Path(waiting.value.path()).read_bytes())


def error(page) -> str:
    page.wait_for_selector("#error:not(:empty)")
    return page.inner_text("#error")


def test_upload_see_download_and_open_again(visit, save, tiny_tokenizer, tmp_path):
    page, path = visit(), save(size=(70, 50))
    upload(page, path)
    codes = tiny_tokenizer.encode(path)
    assert shown(page, "#original") == hashed(Image.open(path))
    assert shown(page, "#decoded") == hashed(tiny_tokenizer.decode(codes))
    assert page.inner_text("#summary") == "70 × 50 pixels, 6 × 4 patches, 4 codes each"
    page.wait_for_selector(".pending", state="detached")
    rows = page.locator("#rows tr").all_inner_texts()
    assert [row.split()[0] for row in rows] == ["ViQ", "JPEG", "WebP"]
    assert rows[0].split()[2:4] == [f"{codes.nbytes:,}", f"{codes.bits_per_pixel:.3f}"]
    assert page.locator("#grids canvas").count() == 4
    found = download(page)
    assert found == codes
    found.save(tmp_path / "again.viq")
    upload(page, tmp_path / "again.viq")
    assert shown(page, "#decoded") == hashed(tiny_tokenizer.decode(codes))
    assert page.is_hidden("#original")
    assert "without the original" in page.inner_text("#table-note")


def test_a_picture_can_be_dropped_and_pasted(visit, picture_bytes):
    page = visit()
    for kind, name in (("drop", "dropped.png"), ("paste", "pasted.png")):
        page.evaluate(
            """([bytes, kind, name]) => {
                const data = new DataTransfer();
                data.items.add(new File([new Uint8Array(bytes)], name, {type: "image/png"}));
                const more = kind === "drop" ? {dataTransfer: data} : {clipboardData: data};
                const Kind = kind === "drop" ? DragEvent : ClipboardEvent;
                const event = new Kind(kind, {bubbles: true, cancelable: true, ...more});
                document.getElementById("drop").dispatchEvent(event);
            }""",
            [list(picture_bytes()), kind, name],
        )
        page.wait_for_function("n => document.getElementById('name').textContent === n", arg=name)


def test_equal_codes_have_equal_colours_and_light_up(visit, tmp_path, tiny_tokenizer):
    values = np.full((64, 96, 3), 255, np.uint8)  # one white, and one noisy corner
    values[:16, :16] = np.random.default_rng(0).integers(0, 256, (16, 16, 3))
    path = tmp_path / "plain.png"
    Image.fromarray(values).save(path)
    page = visit()
    upload(page, path)
    codes = tiny_tokenizer.encode(path).values
    patch = 3 * 6 + 5  # the last
    same = [int((codes[:, head] == codes[patch, head]).sum()) - 1 for head in range(4)]
    assert max(same) > 0, "the test needs a code that occurs twice"
    box = grid(page, 0)
    page.mouse.move(box["x"] + box["width"] - 3, box["y"] + box["height"] - 3)
    page.wait_for_function(
        "() => document.getElementById('patch-title').textContent.endsWith('row 4, column 6')"
    )
    rows = [row.split("\t") for row in page.locator("#patch tr").all_inner_texts()]
    assert [row[1] for row in rows] == [f"{code:,}" for code in codes[patch]]
    assert [row[3] for row in rows] == [f"{n} more" if n else "no other" for n in same]
    page.mouse.move(0, 0)
    page.wait_for_function(
        "() => document.getElementById('patch-title').textContent === 'No patch is chosen'"
    )
    page.select_option("#colours", "distinct")
    page.wait_for_timeout(100)  # a frame
    for head in range(4):
        seen = page.evaluate(
            """head => {
                const canvas = document.querySelectorAll("#grids canvas")[head];
                const context = canvas.getContext("2d");
                const [w, h] = [canvas.width / 6, canvas.height / 4];
                return Array.from({length: 24}, (_, n) => [...context.getImageData(
                    (n % 6 + 0.5) * w, (Math.floor(n / 6) + 0.5) * h, 1, 1).data].join());
            }""",
            head,
        )
        for one in range(24):
            for two in range(one):
                equal = codes[one, head] == codes[two, head]
                assert (seen[one] == seen[two]) == equal, (head, one, two)


def test_a_question_is_answered_while_one_watches_and_can_be_stopped(visit, save, checkpoints):
    page = visit()
    upload(page, save())
    lengths = []
    page.expose_function("note", lambda length: lengths.append(length))
    page.evaluate(
        """() => new MutationObserver(() => note(document.querySelector("#answers p")
            ?.textContent.length ?? 0)).observe(document.getElementById("answers"),
            {childList: true, subtree: true, characterData: true})"""
    )
    page.fill("#question", "What is it?")
    page.click("#ask")
    page.wait_for_selector("#answers article:not([aria-busy])")
    answer = page.locator("#answers article").first
    assert answer.locator("h4").inner_text() == "What is it?"
    assert len(answer.locator("p").first.inner_text()) > 10
    assert len(set(lengths)) > 3
    assert page.is_hidden("#stop")
    page.click("#ask")
    page.click("#stop")
    page.wait_for_selector("text=Stopped.")
    page.fill("#question", " ")
    page.click("#ask")
    page.wait_for_selector("text=Write a question first.")
    page.select_option("#model", index=1)  # without a language model
    page.wait_for_selector("#asking", state="hidden")
    assert "No language model comes with" in page.inner_text("#why-not")
    assert page.inner_text("#why-not code") == "viq app --model runs/sft"


def test_bad_and_huge_files_are_one_sentence_and_the_page_goes_on(visit, save, tmp_path):
    page = visit()
    bad, large, wide = (tmp_path / name for name in ("bad.png", "large.png", "wide.bmp"))
    bad.write_bytes(b"no picture")
    with large.open("wb") as file:
        file.truncate(21 * 2**20)
    header = b"BM" + struct.pack("<IHHI", 100, 0, 0, 54)
    header += struct.pack("<IiiHHIIiiII", 40, 9_000, 9_000, 1, 24, 0, 0, 0, 0, 0, 0)
    wide.write_bytes(header + b"\0" * 60)
    for path, message in (
        (bad, "bad.png: this is not a picture in a format that is read."),
        (large, "large.png: this file has 21 MB; at most 20 MB are taken."),
        (wide, "wide.bmp: 9000 x 9000 are 81.0 million pixels; at most 64 million are taken."),
    ):
        page.set_input_files("#file", path)
        page.wait_for_function(
            "text => document.getElementById('error').textContent === text", arg=message
        )
        assert page.is_hidden(LOADED)
    upload(page, save())
    assert page.inner_text("#error") == ""
    page.set_input_files("#file", bad)
    assert error(page).startswith("bad.png")
    assert page.inner_text("#name") == "photo.png"  # what was there stays


def test_two_people_see_their_own_and_wait_for_each_other(visit, save, tiny_tokenizer):
    red, green = save("red.png", size=(1024, 960)), save("green.png", colour=(20, 200, 60))
    one, two = visit(), visit()
    texts = []
    two.expose_function("note", lambda text: texts.append(text))
    two.evaluate(
        """() => new MutationObserver(() => note(document.getElementById("status").textContent))
            .observe(document.getElementById("status"), {childList: true})"""
    )
    with one.expect_response(lambda response: "/api/pictures?" in response.url):
        one.set_input_files("#file", red)  # takes a second or more
    upload(two, green)
    assert "One request is ahead of yours …" in texts
    one.wait_for_function("() => document.getElementById('name').textContent === 'red.png'")
    for page, path in ((one, red), (two, green)):
        decoded = tiny_tokenizer.decode(tiny_tokenizer.encode(path))
        assert page.inner_text("#name") == path.name
        assert shown(page, "#original") == hashed(Image.open(path))
        assert shown(page, "#decoded") == hashed(decoded)


def test_codes_are_edited_and_edits_undone(visit, save, tiny_tokenizer):
    page, path = visit(), save(size=(96, 64))
    upload(page, path)
    codes = tiny_tokenizer.encode(path)
    page.click("#apply")
    assert error(page).startswith("Choose patches first")
    box = grid(page, 1)
    cell = box["width"] / 6
    page.mouse.move(box["x"] + 1.5 * cell, box["y"] + 1.5 * cell)
    page.mouse.down()
    page.mouse.move(box["x"] + 3.5 * cell, box["y"] + 2.5 * cell)
    page.mouse.up()
    region = [page.input_value(f"#{name}") for name in ("row", "column", "height", "width")]
    assert region == ["2", "2", "2", "3"]
    page.uncheck("#heads input >> nth=3")

    def apply():
        page.click("#apply")
        page.wait_for_function("() => !document.body.classList.contains('busy')")
        page.wait_for_selector("#undo:enabled")

    page.select_option("#operation", "fill")
    page.fill("#own-0", "7")
    apply()
    changed = download(page).values.reshape(4, 6, 4)
    expected = codes.values.reshape(4, 6, 4).copy()
    expected[1:3, 1:4, :3] = [7, 0, 0]
    assert np.array_equal(changed, expected)
    assert page.is_visible("#left")
    page.select_option("#left", "before")
    decoded = hashed(tiny_tokenizer.decode(codes))
    assert shown(page, "#original") == decoded
    assert shown(page, "#decoded") != decoded
    page.click("#undo")
    assert download(page) == codes
    assert page.is_disabled("#undo")
    page.click("#redo")
    assert np.array_equal(download(page).values.reshape(4, 6, 4), expected)
    page.click("#undo")
    page.click("#all")
    page.check("#heads input >> nth=3")
    page.select_option("#operation", "mix")
    page.select_option("#other", label="cat")
    apply()
    sample = Image.open(Path(__file__).parents[2] / "src/viq/samples/cat.png")
    cat = tiny_tokenizer.encode(sample)
    corner = cat.values.reshape(*cat.grid_size, 4)[:4, :6]
    assert np.array_equal(download(page).values.reshape(4, 6, 4), corner)


def test_another_checkpoint_is_chosen(visit, save):
    page = visit()
    upload(page, save())
    page.select_option("#model", index=1)
    page.wait_for_selector("#asking", state="hidden")
    assert page.input_value("#model") == page.locator("#model option").nth(1).inner_text()


def test_all_is_done_by_keyboard(visit, save, tiny_tokenizer):
    page, path = visit(), save(size=(96, 64))
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the picture"
    seen = []
    page.focus("#model")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "file"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "sample"
    upload(page, path)
    page.focus("#model")
    for _ in range(60):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.id"))
    order = ["file", "download", "split", "question", "ask", "colours", "grids", "row", "column"]
    order += ["height", "width", "all", "operation", "apply"]
    assert [name for name in seen if name in order][: len(order)] == order
    page.focus("#split")
    page.keyboard.press("ArrowRight")
    assert page.input_value("#split") == "51"
    assert page.get_attribute("#split", "aria-valuetext") == "51 percent"
    codes = tiny_tokenizer.encode(path).values
    page.focus("#grids")
    for key in ("ArrowRight", "ArrowRight", "ArrowDown"):
        page.keyboard.press(key)
    spoken = page.inner_text("#spoken")
    assert spoken.startswith(f"Patch in row 2, column 2. Head 1: code {codes[7, 0]}, ")
    assert f"Head 4: code {codes[7, 3]}, " in spoken
    for key in ("Shift+ArrowRight", "Shift+ArrowDown"):
        page.keyboard.press(key)
    assert page.inner_text("#spoken").startswith(
        "2 by 2 patches are chosen. Patch in row 3, column 3"
    )
    page.keyboard.press("End")
    assert "row 3, column 6" in page.inner_text("#spoken")
    page.keyboard.press("Home")
    assert "row 3, column 1" in page.inner_text("#spoken")
    page.keyboard.press("Escape")
    assert page.inner_text("#spoken") == "No patch is chosen"
    page.fill("#row", "4")
    page.keyboard.press("Enter")
    assert "Patch in row 4, column" in page.inner_text("#spoken")


def test_a_phone_needs_no_sideways_scrolling(visit, save):
    page = visit(**PHONE)

    def fits():
        return page.evaluate("document.documentElement.scrollWidth <= 375 && innerWidth === 375")

    assert fits()
    upload(page, save("a-name-that-is-long-enough-for-two-lines-of-a-phone-" + 20 * "x" + ".png"))
    page.wait_for_selector(".pending", state="detached")
    for operation in ("copy", "fill", "mix"):
        page.select_option("#operation", operation)
        assert fits()
    page.tap("#grids canvas >> nth=2")
    assert "row " in page.inner_text("#patch-title")
    page.set_input_files("#file", __file__)
    page.wait_for_selector("#error:not(:empty)")
    assert fits()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_accessibility_error_in_either_theme(visit, save, scheme):
    axe = pytest.importorskip("axe_playwright_python", reason="axe-playwright-python is missing")
    script = (Path(axe.__file__).parent / "axe.min.js").read_text()
    page = visit(color_scheme=scheme)
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(18, 20, 24)"
    assert dark == (scheme == "dark")

    def violations():
        page.evaluate(script)
        found = page.evaluate("axe.run()")
        assert len(found["passes"]) > 20
        return [(one["impact"], one["id"], one["nodes"][0]["html"]) for one in found["violations"]]

    assert violations() == []
    upload(page, save())
    page.wait_for_selector(".pending", state="detached")
    page.click("#ask")
    page.focus("#grids")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("#answers article:not([aria-busy])")
    for operation in ("mask", "copy", "fill", "mix"):
        page.select_option("#operation", operation)
    page.set_input_files("#file", __file__)
    page.wait_for_selector("#error:not(:empty)")
    assert violations() == []


def test_on_paper_there_are_results_and_no_controls(visit, save):
    page = visit()
    upload(page, save())
    assert page.evaluate("getComputedStyle(document.body, '::before').animationName") == "none"
    page.emulate_media(media="print")
    for selector in ("#drop", "#samples", "#download", "#edit-form", "#ask-form", "#model"):
        assert page.is_hidden(selector), selector
    for selector in ("#name", "#stage", "#rows", "#grids", "#patch-title"):
        assert page.is_visible(selector), selector


def test_a_server_that_is_gone_is_one_sentence(browser, start_server, tiny_tokenizer_folder, save):
    server = start_server("--model", tiny_tokenizer_folder)
    page = browser.new_page()
    page.goto(server.url)
    page.wait_for_selector(".sample")
    server.stop()
    page.set_input_files("#file", save())
    assert error(page) == "The server cannot be reached; is viq app still running?"
    page.close()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_fifty_uploads_from_five_browsers_are_told_apart_and_forgotten(
    browser, start_server, tiny_tokenizer, tiny_tokenizer_folder, tmp_path
):
    server = start_server("--model", tiny_tokenizer_folder)
    process = psutil.Process(server.process.pid)
    paths, side = [], 384
    for number in range(50):  # noise, which no PNG makes smaller: 0.4 MB each
        noise = np.random.default_rng(number).integers(0, 256, (side, side, 3), dtype=np.uint8)
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(noise).save(paths[-1])

    def visit(uploads):
        """Five browsers at once, which upload in turns without waiting for one another."""
        contexts = [browser.new_context() for _ in range(5)]
        pages = [context.new_page() for context in contexts]
        for page in pages:
            page.set_default_timeout(120_000)
            page.goto(server.url)
            page.wait_for_selector(".sample")
        for turn in range(uploads):
            mine = [paths[turn * 5 + number] for number in range(5)]
            for page, path in zip(pages, mine, strict=True):
                page.set_input_files("#file", path)
            for page, path in zip(pages, mine, strict=True):
                page.wait_for_function(
                    "name => document.getElementById('name').textContent === name", arg=path.name
                )
                decoded = tiny_tokenizer.decode(tiny_tokenizer.encode(path))
                assert shown(page, "#original") == hashed(Image.open(path))
                assert shown(page, "#decoded") == hashed(decoded)
        most = process.memory_info().rss
        for page in pages:
            page.goto("about:blank")  # a browser that is closed from outside says no goodbye
        pages[0].wait_for_timeout(1000)
        for context in contexts:
            context.close()
        return most

    visit(2)  # what torch and Pillow take once
    time.sleep(12)  # memory is given back every ten seconds
    before = process.memory_info().rss
    most = visit(10)
    end = time.monotonic() + 30
    while (after := process.memory_info().rss) > before + 10 * 2**20 and time.monotonic() < end:
        time.sleep(0.2)
    assert server.stop() == ""
    assert most > before + 20 * 2**20, "the test must keep more than it allows to be left"
    assert after <= before + 10 * 2**20, (before, most, after)
