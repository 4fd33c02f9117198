"""What the server answers, to the page and to those who should get nothing."""

import base64
import io
import struct

import numpy as np
import pytest
from PIL import Image

import viq
from viq.app import pictures
from viq.codes import Codes


def values(picture) -> np.ndarray:
    """The codes of an answer, (h, w, Q)."""
    flat = np.frombuffer(base64.b64decode(picture["codes"]), "<u2")
    return flat.reshape(*picture["grid_size"], picture["code_heads"])


# What there is to see.


def test_the_page_and_all_it_names_are_served(client):
    html = client.get("/").text
    names = [part.split('"')[0] for part in html.split('="/static/')[1:]]
    assert {"page.css", "page.js", "icon.svg"} <= set(names)
    names += [f"{name}.js" for name in ("api", "ask", "codes", "colours", "edit", "grids", "table")]
    for name in names:
        assert client.get(f"/static/{name}").status_code == 200, name
    assert "http://" not in html
    assert "https://" not in html


def test_every_answer_has_the_headers_that_keep_others_out(client):
    for path in ("/", "/static/page.js", "/samples/cat.png", "/nowhere"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "set-cookie" not in headers


def test_a_picture_becomes_codes_and_is_decoded(page, checkpoints, picture_bytes):
    data = picture_bytes()
    *_, first, picture, done = page.events("/api/pictures?name=a.png", content=data)
    assert [first["type"], picture["type"], done["type"]] == ["working", "picture", "done"]
    tokenizer = checkpoints[0].tokenizer
    right = tokenizer.encode(Image.open(io.BytesIO(data)))
    assert np.array_equal(values(picture).reshape(-1, 4), right.values)
    assert (picture["name"], picture["size"], picture["grid_size"]) == ("a.png", [32, 48], [2, 4])
    assert page.image(picture, "decoded").tobytes() == tokenizer.decode(right).tobytes()
    assert page.image(picture, "original").tobytes() == Image.open(io.BytesIO(data)).tobytes()
    assert Codes.from_bytes(page.codes(picture)) == right
    row = picture["row"]
    assert (row["bytes"], row["bpp"]) == (right.nbytes, pytest.approx(right.bits_per_pixel))
    assert 0 < row["psnr"] < 60


def test_samples_are_taken_by_name(page):
    for name in ("cat.png", "clown-loach.png"):
        assert name in page.about["samples"]
        picture = page.picture(f"/api/samples/{name}")
        assert picture["name"] == name
        right = Image.open(pictures.SAMPLES / name)
        assert picture["size"] == [right.height, right.width]


def test_a_viq_file_goes_out_and_comes_in(page, picture_bytes):
    first = page.upload(picture_bytes())
    second = page.upload(page.codes(first), "b.viq")
    assert second["codes"] == first["codes"]
    assert page.image(second, "decoded").tobytes() == page.image(first, "decoded").tobytes()
    assert not second["has_original"]
    assert second["row"]["psnr"] is None
    assert page.get(f"/api/pictures/{second['picture']}/original.png").status_code == 404
    for what, message in (
        ("compare", "These codes came without a picture to compare with."),
        ("recode", "These codes came without a picture; only their own model has them."),
    ):
        response = page.post(f"/api/pictures/{second['picture']}/{what}")
        lines = response.json().get("error") if response.status_code == 400 else response.text
        assert message in lines


def test_codes_are_decoded_by_the_checkpoint_that_made_them(page, picture_bytes):
    models = [model["name"] for model in page.about["models"]]
    first = page.picture(f"/api/pictures?name=a.png&model={models[1]}", content=picture_bytes())
    assert first["model"] == "nano" == models[1]
    second = page.picture(f"/api/pictures?name=a.viq&model={models[0]}", content=page.codes(first))
    assert second["model"] == "nano"


def test_another_checkpoint_encodes_the_same_picture(page, picture_bytes):
    first = page.upload(picture_bytes())
    second = page.picture(f"/api/pictures/{first['picture']}/recode?model=nano")
    assert (first["model"], second["model"]) == ("reader", "nano")
    assert page.image(first, "original").tobytes() == page.image(second, "original").tobytes()
    right = viq.load("nano").encode(Image.open(io.BytesIO(picture_bytes())))
    assert np.array_equal(values(second).reshape(-1, 4), right.values)


def test_jpeg_and_webp_are_measured_at_as_many_bytes(page):
    picture = page.picture("/api/samples/coins.png")
    path = f"/api/pictures/{picture['picture']}/compare"
    rows = [event for event in page.events(path) if event["type"] == "row"]
    assert [row["method"] for row in rows] == ["jpeg", "webp"]
    for row in rows:
        assert 0 < row["bytes"] <= picture["row"]["bytes"]
        assert row["psnr"] > 10
    assert [event for event in page.events(path) if event["type"] == "row"] == rows
    small = page.upload(_png(8, 8))
    rows = page.events(f"/api/pictures/{small['picture']}/compare")
    assert {"type": "row", "method": "jpeg", "bytes": None} in rows


def test_large_pictures_are_scaled_down_and_said_to_be(open_app, open_page):
    page = open_page(open_app(max_pixels=64 * 64))
    picture = page.upload(_png(200, 100))
    assert picture["file_size"] == [100, 200]
    assert picture["size"] == [45, 91]
    assert page.image(picture, "original").size == (91, 45)


# Editing.


@pytest.fixture
def edited(page, picture_bytes):
    """Edits a picture of 4 x 6 patches; the codes before and after."""
    before = page.upload(picture_bytes(size=(96, 64)))

    def edit(**wish):
        wish = {"region": [1, 2, 2, 3], "heads": [0, 2]} | wish
        after = page.picture(f"/api/pictures/{before['picture']}/edit", json=wish)
        assert after["picture"] != before["picture"]
        assert after["name"] == before["name"]
        return values(before), values(after)

    edit.before = before
    return edit


def changed(first, second):
    """Where two grids of codes differ, (h, w, Q)."""
    return first != second


INSIDE = np.zeros((4, 6, 4), bool)
INSIDE[1:3, 2:5, [0, 2]] = True


def test_a_mask_is_the_code_of_zeros(edited):
    before, after = edited(operation="mask")
    zero = 4 + 8 * 4 + 64 * 4 + 512 * (2 + 5 * 2 + 25 * 2)  # the middle of 8, 8, 8, 5, 5, 5
    assert (after[INSIDE] == zero).all()
    assert (after[~INSIDE] == before[~INSIDE]).all()


def test_codes_are_replaced_by_given_ones_and_by_another_patchs(edited):
    before, after = edited(operation="fill", values=[1, 2, 3, 4])
    assert (after[1:3, 2:5, 0] == 1).all()
    assert (after[1:3, 2:5, 2] == 3).all()
    assert (after[~INSIDE] == before[~INSIDE]).all()
    before, after = edited(operation="copy", patch=[3, 5])
    assert (after[1:3, 2:5, [0, 2]] == before[3, 5, [0, 2]]).all()
    assert (after[~INSIDE] == before[~INSIDE]).all()


def test_random_codes_follow_their_seed(edited):
    before, first = edited(operation="random", seed=1)
    _, second = edited(operation="random", seed=1)
    _, third = edited(operation="random", seed=2)
    assert (first == second).all()
    assert (first != third).any()
    assert (first[~INSIDE] == before[~INSIDE]).all()


def test_two_pictures_are_mixed_in_the_values_of_their_digits(edited, page, picture_bytes):
    other = page.upload(picture_bytes((10, 220, 30), size=(40, 40)))  # 4 x 4 patches
    theirs = values(other)
    for share in (0, 1):
        before, after = edited(operation="mix", other=other["picture"], share=share)
        expected = before.copy()
        if share:
            columns = [2, 3, 0]  # it begins anew
            expected[1:3, 2:5, [0, 2]] = theirs[1:3][:, columns][..., [0, 2]]
        assert (after == expected).all()
    before, after = edited(operation="mix", other=other["picture"], share=0.5)
    levels, base = edited.before["levels"], 1
    for level in levels:
        ours, mixed, last = (grid[1, 2, 0] // base % level for grid in (before, after, theirs))
        assert abs(mixed - (int(ours) + int(last)) / 2) <= 0.5
        base *= level


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"region": [0, 0, 5, 1]}, "The rectangle is outside of the 4 x 6 patches."),
        ({"region": [-1, 0, 1, 1]}, "The rectangle is outside of the 4 x 6 patches."),
        ({"region": [0, 0, 0, 1]}, "The rectangle is outside of the 4 x 6 patches."),
        ({"heads": []}, "Choose one or more of the 4 code heads."),
        ({"heads": [4]}, "Choose one or more of the 4 code heads."),
        ({"operation": "fill", "values": [1, 2, 3]}, "Give 4 codes from 0 to 63,999, one a head."),
        ({"operation": "fill", "values": [0, 0, 0, 64_000]}, "Give 4 codes from 0 to 63,999, one"),
        ({"operation": "copy", "patch": [4, 0]}, "There is no such patch among 4 x 6."),
        ({"operation": "mix", "other": "x", "share": 1}, "This picture is no longer kept; load it"),
        ({"operation": "nonsense"}, "This edit is not understood."),
        ({"operation": "random", "seed": None}, "This edit is not understood."),
        ({"region": [float("inf"), 0, 1, 1]}, "This edit is not understood."),
        ({"region": "all"}, "This edit is not understood."),
    ],
)
def test_a_wrong_edit_is_one_sentence(page, edited, wish, message):
    import json

    wish = {"region": [0, 0, 1, 1], "heads": [0], "operation": "mask"} | wish
    path = f"/api/pictures/{edited.before['picture']}/edit"
    response = page.post(path, content=json.dumps(wish))
    assert response.status_code in (400, 404)
    assert response.json()["error"].startswith(message)


def test_a_share_is_from_nothing_to_all(page, edited):
    number = edited.before["picture"]
    wish = {"region": [0, 0, 1, 1], "heads": [0], "operation": "mix", "other": number, "share": 1.1}
    response = page.post(f"/api/pictures/{number}/edit", json=wish)
    assert response.json() == {"error": "The share of the second picture is from 0 to 100 percent."}


def test_codes_of_two_checkpoints_are_not_mixed(page, edited, picture_bytes):
    other = page.picture("/api/pictures?name=a.png&model=nano", content=picture_bytes())
    wish = {"region": [0, 0, 1, 1], "heads": [0], "operation": "mix", "share": 1}
    path = f"/api/pictures/{edited.before['picture']}/edit"
    response = page.post(path, json=wish | {"other": other["picture"]})
    assert response.status_code == 400
    assert response.json() == {"error": "The two pictures' codes are of different checkpoints."}


# Asking.


def test_the_answer_is_the_models_own_and_comes_in_pieces(page, checkpoints, picture_bytes):
    picture = page.upload(picture_bytes())
    path = f"/api/pictures/{picture['picture']}/ask"
    events = page.events(path, json={"question": "What is it?"})
    pieces = [event["text"] for event in events if event["type"] == "text"]
    assert events[-2]["type"] == "answered"
    assert len(pieces) > 1
    model = checkpoints[0].language_model()
    content = [{"type": "image"}, {"type": "text", "text": "What is it?"}]
    codes = Codes.from_bytes(page.codes(picture))
    inputs = model.processor()([{"role": "user", "content": content}], [codes])
    out = model.generate(**inputs, max_new_tokens=256, do_sample=False)
    new = out[0, inputs["input_ids"].shape[1] :]
    assert "".join(pieces) == model.tokenizer.decode(new, skip_special_tokens=True)


def test_what_one_waits_for_is_told(page, checkpoints, picture_bytes):
    checkpoints[0]._model = None
    path = f"/api/pictures/{page.upload(picture_bytes())['picture']}/ask"
    for before_text in (["loading", "reading"], ["reading"]):
        events = page.events(path, json={"question": "What is it?"})
        kinds = [event["type"] for event in events if event["type"] != "working"]
        assert kinds[: kinds.index("text")] == before_text


def test_a_question_is_checked(open_app, open_page, picture_bytes):
    page = open_page(open_app(max_question=20))
    picture = page.upload(picture_bytes())
    path = f"/api/pictures/{picture['picture']}/ask"
    for question, message in (
        ("  ", "Write a question first."),
        (7, "Write a question first."),
        ("x" * 21, "The question is too long; 20 characters are read."),
    ):
        response = page.post(path, json={"question": question})
        assert (response.status_code, response.json()) == (400, {"error": message})
    response = page.post(path, content=b"no json")
    assert response.json() == {"error": "The request is not a JSON object."}
    response = page.post(path, content=b"{" + b" " * 10_000)
    assert response.status_code == 413


def test_too_large_a_picture_for_the_language_model_is_one_sentence(page, checkpoints):
    limit = checkpoints[0].language_model().config.text_config.max_position_embeddings
    picture = page.upload(_png(512, 512))  # 256 tokens
    question = {"question": "x" * (limit - 256)}
    events = page.events(f"/api/pictures/{picture['picture']}/ask", json=question)
    assert events[-1]["type"] == "error"
    assert events[-1]["message"].startswith("The picture and the question take ")


def test_without_a_language_model_the_reason_is_told(page, picture_bytes):
    picture = page.picture("/api/pictures?name=a.png&model=nano", content=picture_bytes())
    why = page.about["models"][1]["why_not"]
    response = page.post(f"/api/pictures/{picture['picture']}/ask", json={"question": "What?"})
    assert (response.status_code, response.json()) == (400, {"error": why})


# What is refused.


@pytest.mark.parametrize(
    ("data", "name", "status", "message"),
    [
        (b"", "a.png", 400, "a.png: the file is empty."),
        (b"no picture", "a.png", 415, "a.png: this is not a picture in a format that is read."),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "a.eps", 415, "a.eps: this is not a picture in a format"),
        (b"no codes", "a.viq", 415, "a.viq: not a .viq file, or damaged: "),
        (b"no", "../../<b>x\n", 415, "<b>x: this is not a picture"),
        (b"no", "", 415, "the file: this is not a picture"),
    ],
)
def test_a_bad_file_is_one_sentence(page, data, name, status, message):
    response = page.client.post(
        "/api/pictures", params={"name": name}, content=data, headers=page.headers
    )
    assert response.status_code == status
    assert response.json()["error"].startswith(message)


def test_a_damaged_picture_is_an_event(page, picture_bytes):
    cut = picture_bytes(size=(300, 300), form="JPEG")[:900]
    *_, last = page.events("/api/pictures?name=cut.jpg", content=cut)
    assert last["type"] == "error"
    assert last["message"].startswith("cut.jpg: cannot be decoded: ")


def test_pixels_are_counted_before_they_are_decoded(page):
    # A header that declares 65,000 x 65,000, and nothing else.
    header = b"BM" + struct.pack("<IHHI", 100, 0, 0, 54)
    header += struct.pack("<IiiHHIIiiII", 40, 9_000, 9_000, 1, 24, 0, 0, 0, 0, 0, 0)
    response = page.post("/api/pictures?name=huge.bmp", content=header + b"\0" * 60)
    assert response.status_code == 413
    assert response.json() == {
        "error": "huge.bmp: 9000 x 9000 are 81.0 million pixels; at most 64 million are taken."
    }
    header = header.replace(struct.pack("<ii", 9_000, 9_000), struct.pack("<ii", 65_000, 65_000))
    response = page.post("/api/pictures?name=bomb.bmp", content=header + b"\0" * 60)
    assert response.json() == {"error": "bomb.bmp: it has too many pixels."}


def test_no_more_bytes_are_held_than_are_taken(open_app, open_page, picture_bytes):
    page = open_page(open_app(max_bytes=2000))
    message = {"error": "This file is too large; at most 2,000 bytes are taken."}
    response = page.post("/api/pictures?name=a.png", content=b"x" * 2001)
    assert (response.status_code, response.json()) == (413, message)

    def chunks():  # without a declared length
        for _ in range(50):
            yield b"x" * 100

    response = page.post("/api/pictures?name=a.png", content=chunks())
    assert (response.status_code, response.json()) == (413, message)
    assert page.upload(picture_bytes())["size"] == [32, 48]


def test_codes_of_too_large_a_picture_are_refused(open_app, open_page, tiny_tokenizer):
    page = open_page(open_app(max_pixels=64 * 64))
    codes = tiny_tokenizer.encode(Image.new("RGB", (100, 50)))
    response = page.post("/api/pictures?name=a.viq", content=codes.to_bytes())
    assert response.status_code == 413
    assert response.json()["error"].startswith("a.viq: these codes decode to 100 x 50 pixels; this")


def test_codes_of_an_unknown_tokenizer_name_both(page, tiny_tokenizer):
    from dataclasses import replace

    codes = replace(tiny_tokenizer.encode(Image.new("RGB", (32, 32))), fingerprint="0" * 64)
    *_, last = page.events("/api/pictures?name=a.viq", content=codes.to_bytes())
    assert last["type"] == "error"
    own = tiny_tokenizer.fingerprint[:12]
    assert (
        f"made by tokenizer {'0' * 12}, and this page has reader ({own}), nano (" in last["message"]
    )


def test_a_picture_too_thin_to_encode_is_an_event(page):
    *_, last = page.events("/api/pictures?name=thin.png", content=_png(600_000, 1))
    assert last["type"] == "error"
    assert "too large or too thin" in last["message"]


def test_unknown_things_are_not_found(page, picture_bytes):
    for path, message in (
        ("/api/samples/none.png", "There is no such sample."),
        ("/api/samples/CREDITS.md", "There is no such sample."),
        ("/api/pictures?model=none", "There is no such model on this page."),
        ("/api/pictures/none/ask", "This picture is no longer kept; load it again."),
        ("/api/pictures/none/edit", "This picture is no longer kept; load it again."),
        ("/api/pictures/none/compare", "This picture is no longer kept; load it again."),
        ("/api/pictures/none/recode", "This picture is no longer kept; load it again."),
    ):
        response = page.post(path, json={"question": "?"})
        assert (response.status_code, response.json()) == (404, {"error": message})
    picture = page.upload(picture_bytes())
    response = page.get(f"/api/pictures/{picture['picture']}/nothing")
    assert response.json() == {"error": "There is no such file."}
    assert page.client.get("/samples/..%2fCREDITS.md").status_code == 404
    assert page.client.get("/samples/CREDITS.md").json() == {"error": "There is no such sample."}
    assert page.client.get("/static/../server.py").status_code == 404
    response = page.client.get("/api/pictures")
    assert (response.status_code, response.json()) == (405, {"error": "Method Not Allowed."})


def test_what_fails_without_a_name_is_one_sentence(page, checkpoints, monkeypatch, caplog):
    def fail(error):
        def encode(*_, **__):
            raise error

        return encode

    for error, message in (
        (ZeroDivisionError(), "Something went wrong on the server; its log says what."),
        (MemoryError(), "There is not enough memory for this; a smaller picture takes less."),
    ):
        monkeypatch.setattr(type(checkpoints[0].tokenizer), "encode", fail(error))
        *_, last = page.events("/api/samples/cat.png")
        assert last == {"type": "error", "message": message}
        assert "a request failed" in caplog.text


def _png(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (90, 120, 30)).save(buffer, "PNG")
    return buffer.getvalue()


def test_checkpoints_are_told_apart(page):
    assert [model["name"] for model in page.about["models"]] == ["reader", "nano"]
    assert [model["why_not"] is None for model in page.about["models"]] == [True, False]
