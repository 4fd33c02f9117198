"""viq compare: originals beside decoded codes, JPEG and WebP."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from viq import Codes
from viq.cli.compare import Comparison, Result, means
from viq.metrics.quality import psnr, ssim


@pytest.fixture
def compare(viq_command, tiny_tokenizer_folder, tmp_path):
    """Runs the command with the tiny tokenizer; the sheet is tmp_path / "sheet.png"."""

    def run(*arguments, out="sheet.png"):
        options = ("--model", tiny_tokenizer_folder, "--out", tmp_path / out)
        return viq_command("compare", *options, *arguments)

    return run


def test_the_numbers_are_those_of_the_images(compare, save_image, tiny_tokenizer, tmp_path):
    path = save_image(tmp_path / "photo.png", 160, 128)
    status, out, _ = compare(path, "--json")
    assert status == 0
    found = json.loads("\n".join(out))
    (image,) = found["images"]
    assert (image["path"], image["size"]) == (str(path), [128, 160])
    by_method = {result["method"]: result for result in image["results"]}
    assert list(by_method) == ["viq", "jpeg", "webp"]
    codes: Codes = tiny_tokenizer.encode(path)
    original, decoded = np.asarray(Image.open(path)), np.asarray(tiny_tokenizer.decode(codes))
    assert by_method["viq"] == {
        "method": "viq",
        "bytes": codes.nbytes,
        "bpp": pytest.approx(codes.bits_per_pixel),
        "psnr": pytest.approx(psnr(original, decoded)),
        "ssim": pytest.approx(ssim(original, decoded)),
        "reduction": 1,
    }
    for method in ("jpeg", "webp"):
        assert 0 < by_method[method]["bytes"] <= codes.nbytes
        assert by_method[method]["bpp"] == pytest.approx(8 * by_method[method]["bytes"] / 20480)
    assert found["mean"]["viq"]["images"] == 1
    assert found["mean"]["viq"]["psnr"] == by_method["viq"]["psnr"]


def test_the_table_has_a_line_for_each_method_and_the_means(compare, save_image, tmp_path):
    for name in ("a.png", "b.png"):
        save_image(tmp_path / "photos" / name, 160, 128)
    status, out, err = compare(tmp_path / "photos")
    assert (status, len(err)) == (0, 1)
    assert out[0].split() == ["image", "size", "method", "bytes", "bpp", "PSNR", "SSIM", "note"]
    assert [line.split()[2] for line in out[1:7]] == ["viq", "jpeg", "webp"] * 2
    assert [line.split()[:4] for line in out[7:]] == [
        ["mean", "of", "2", method] for method in ("viq", "jpeg", "webp")
    ]


def test_a_reduced_size_is_said(compare, tmp_path):
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (192, 192, 3), dtype=np.uint8))
    noise.save(tmp_path / "noise.png")
    out = compare(tmp_path / "noise.png").out
    assert re.search(r" at 1/[0-9]+ size$", next(line for line in out if " jpeg " in line))


def test_a_picture_too_small_for_any_file_says_so(compare, save_image, tmp_path):
    path = save_image(tmp_path / "dot.png", 8, 8)
    status, out, _ = compare(path)
    assert status == 0
    assert [line.split()[2:] for line in out if " jpeg " in line] == [
        ["jpeg", "-", "-", "-", "-", "none", "so", "small"]
    ]
    assert [line.split()[3] for line in out if line.startswith("mean of 1")] == ["viq"]


def test_the_sheet_has_a_column_for_each_method(compare, save_image, tmp_path):
    images = [save_image(tmp_path / f"{name}.png", 100, 80) for name in "ab"]
    assert compare(*images, out="new/sheet.jpg").status == 0
    with Image.open(tmp_path / "new/sheet.jpg") as sheet:
        assert sheet.width > 4 * 320
        assert sheet.height > 2 * 80


def test_an_image_without_loss_is_valid_json(compare, tmp_path):
    Image.new("RGB", (512, 512), "white").save(tmp_path / "white.png")
    status, out, _ = compare(tmp_path / "white.png", "--json")

    def refuse(constant):
        raise AssertionError(constant)

    found = json.loads("\n".join(out), parse_constant=refuse)
    assert status == 0
    assert found["images"][0]["results"][2] | {"bytes": 0, "bpp": 0} == {
        "method": "webp",
        "bytes": 0,
        "bpp": 0,
        "psnr": None,
        "ssim": 1,
        "reduction": 1,
    }
    assert found["mean"]["webp"]["psnr"] is None


def test_means_are_over_the_images_that_a_method_has(tmp_path):
    def result(method, value):
        return Result(method, value, value, value, value)

    found = means(
        [
            Comparison(tmp_path, (1, 1), [result("viq", 1), result("jpeg", 5)]),
            Comparison(tmp_path, (1, 1), [result("viq", 3)]),
        ]
    )
    assert found == {
        "viq": {"images": 2, "bytes": 2, "bpp": 2, "psnr": 2, "ssim": 2},
        "jpeg": {"images": 1, "bytes": 5, "bpp": 5, "psnr": 5, "ssim": 5},
    }


def test_a_bad_file_is_named_and_the_rest_go_on(compare, save_image, tmp_path):
    good, bad = save_image(tmp_path / "good.png"), tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    status, out, err = compare(bad, good)
    assert (status, len(err)) == (1, 2)
    assert err[0].startswith(f"viq: error: {bad}: not an image")
    assert out[1].startswith(str(good))


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_all_inputs_failing_is_exit_code_2_and_no_sheet(options, compare, tmp_path):
    (tmp_path / "bad.png").touch()
    status, out, _ = compare(tmp_path / "bad.png", *options)
    assert status == 2
    assert json.loads("\n".join(out)) == {"images": [], "mean": {}} if options else out == []
    assert not (tmp_path / "sheet.png").exists()


def test_the_sheet_does_not_take_an_inputs_place(compare, save_image, tmp_path):
    path = save_image(tmp_path / "sheet.png")
    before = path.read_bytes()
    status, _, err = compare(path)
    assert status == 2
    assert err == [
        f"viq: error: {path}: is an input and would be overwritten; choose another --out"
    ]
    assert path.read_bytes() == before


def test_a_sheet_of_an_unknown_format_is_refused(compare, save_image, tmp_path):
    status, _, err = compare(save_image(tmp_path / "a.png"), out="sheet.txt")
    assert status == 2
    assert err == [
        f"viq: error: {tmp_path / 'sheet.txt'}: the sheet's name must end in"
        " .png, .jpg, .jpeg, .webp"
    ]
