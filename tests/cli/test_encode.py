"""viq encode: images to .viq files."""

import os
import re
import sys

import numpy as np
import pytest
from PIL import Image

from viq import Codes


@pytest.fixture
def encode(viq_command, tiny_tokenizer_folder, tmp_path):
    """Runs the command with the tiny tokenizer; codes go to tmp_path / "codes"."""

    def run(*arguments):
        options = ("--model", tiny_tokenizer_folder, "--out", tmp_path / "codes")
        return viq_command("encode", *options, *arguments)

    return run


def written(folder) -> list[str]:
    """All files below a folder, relative to it."""
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_codes_are_those_of_the_tokenizer(encode, save_image, tiny_tokenizer, tmp_path):
    image = save_image(tmp_path / "photo.png")
    status, out, err = encode(image)
    assert (status, len(out), len(err)) == (0, 1, 1)
    codes = Codes.load(tmp_path / "codes/photo.viq")
    assert codes == tiny_tokenizer.encode(image)
    assert len(np.unique(codes.values)) > 10  # so not just any codes would do
    assert re.fullmatch(r"encoded 1 file in [0-9.]+ s", err[0])


def test_a_result_line_has_file_sizes_codes_bytes_and_bits_per_pixel(encode, save_image, tmp_path):
    image = save_image(tmp_path / "photo.png", width=50, height=30)
    _, out, _ = encode(image)
    bpp = 8 * 64 / (50 * 30)
    assert out == [f"{tmp_path / 'codes/photo.viq'}  50x30  4x2  32 codes  64 bytes  {bpp:.3f} bpp"]


def test_folders_and_globs_become_files(encode, save_image, tmp_path):
    for name in ("photos/a.png", "photos/sub/b.jpg", "scans/c1.tif", "scans/d.png"):
        save_image(tmp_path / name)
    (tmp_path / "photos/notes.txt").touch()
    status, out, _ = encode(tmp_path / "photos", tmp_path / "scans/c*")
    assert (status, len(out)) == (0, 3)
    assert written(tmp_path / "codes") == ["a.viq", "c1.viq", "sub/b.viq"]


@pytest.mark.parametrize("batch_patches", [1, 8, 4096])
def test_batches_do_not_change_the_codes(
    batch_patches, encode, save_image, tiny_tokenizer, tmp_path
):
    sizes = [(40, 56), (33, 20), (70, 40), (40, 56), (16, 16)]
    paths = [save_image(tmp_path / f"in/{n}.png", *size) for n, size in enumerate(sizes)]
    status, out, _ = encode(tmp_path / "in", "--batch-patches", batch_patches)
    assert (status, len(out)) == (0, len(paths))
    for path in paths:
        codes = Codes.load(tmp_path / f"codes/{path.stem}.viq")
        assert codes == tiny_tokenizer.encode(path)


def test_a_bad_file_is_named_and_the_rest_go_on(encode, save_image, tmp_path):
    save_image(tmp_path / "in/good.png")
    bad, missing = tmp_path / "in/bad.png", tmp_path / "missing.png"
    bad.write_bytes(b"no picture")
    status, out, err = encode(tmp_path / "in", missing)
    assert (status, len(out), len(err)) == (1, 1, 3)
    assert err[0].startswith(f"viq: error: {bad}: not an image")
    assert err[1] == f"viq: error: {missing}: no such file"
    assert err[2].startswith("encoded 1 file in ")
    assert err[2].endswith(", 2 failed")
    assert written(tmp_path / "codes") == ["good.viq"]


def test_all_inputs_failing_is_exit_code_2(encode, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    status, out, err = encode(bad)
    assert (status, out) == (2, [])
    assert err[0].startswith(f"viq: error: {bad}: not an image")


@pytest.mark.parametrize("pattern", ["*.jpg", "missing.png"])
def test_no_input_at_all_is_exit_code_2_and_named(pattern, encode, tmp_path):
    status, out, err = encode(tmp_path / pattern)
    assert (status, out, len(err)) == (2, [], 1)
    assert err[0].startswith(f"viq: error: {tmp_path / pattern}: no ")
    assert not (tmp_path / "codes").exists()


def test_two_inputs_for_one_output_are_refused_before_any_work(encode, save_image, tmp_path):
    first, second = save_image(tmp_path / "a.jpg"), save_image(tmp_path / "a.png")
    status, out, err = encode(save_image(tmp_path / "b.png"), first, second)
    assert (status, out) == (2, [])
    assert err == [
        f"viq: error: {first} and {second} would both be written to {tmp_path / 'codes/a.viq'};"
        " rename one, or give each its own --out"
    ]
    assert not (tmp_path / "codes").exists()


def test_an_output_that_is_an_input_is_refused(
    viq_command, tiny_tokenizer_folder, save_codes, tmp_path
):
    path = save_codes(tmp_path / "photo.viq")
    before = path.read_bytes()
    status, _, err = viq_command(
        "encode", path, "--out", tmp_path, "--model", tiny_tokenizer_folder
    )
    assert status == 2
    assert err == [
        f"viq: error: {path}: is an input and would be overwritten; choose another --out"
    ]
    assert path.read_bytes() == before


def test_a_folder_that_cannot_be_made_is_one_line(encode, save_image, tmp_path):
    (tmp_path / "codes").touch()
    status, out, err = encode(save_image(tmp_path / "photo.png"))
    assert (status, out) == (2, [])
    assert err == [
        f"viq: error: {tmp_path / 'codes'}: is a file, so it cannot be the folder for the results"
    ]


def test_a_file_that_cannot_be_written_is_one_failure(encode, save_image, tmp_path):
    (tmp_path / "codes/a.viq").mkdir(parents=True)
    status, out, err = encode(save_image(tmp_path / "a.png"), save_image(tmp_path / "b.png"))
    assert (status, len(out)) == (1, 1)
    assert err[0].startswith(f"viq: error: {tmp_path / 'codes/a.viq'}: cannot be written: ")
    assert written(tmp_path / "codes") == ["b.viq"]


def test_max_pixels_scales_down(encode, save_image, tmp_path):
    status, _, _ = encode(save_image(tmp_path / "a.png", 200, 100), "--max-pixels", 5000)
    codes = Codes.load(tmp_path / "codes/a.viq")
    assert status == 0
    assert codes.original_size == (100, 200)
    assert codes.encoded_size == (50, 100)


def test_max_pixels_too_few_for_one_block_are_refused(encode, save_image, tmp_path):
    status, _, err = encode(save_image(tmp_path / "a.png"), "--max-pixels", 99)
    assert (status, len(err)) == (2, 1)
    assert err[0].startswith(
        "viq: error: --max-pixels 99: max_pixels is 99; it must hold one block"
    )


@pytest.mark.parametrize("device", ["nonsense", "cuda:99"])
def test_an_unknown_device_is_one_line(device, encode, save_image, tmp_path):
    status, _, err = encode(save_image(tmp_path / "a.png"), "--device", device)
    assert (status, len(err)) == (2, 1)
    assert err[0].startswith(f"viq: error: --device {device}: ")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_other_dtypes_give_codes_too(dtype, encode, save_image, tmp_path):
    assert encode(save_image(tmp_path / "a.png"), "--dtype", dtype).status == 0
    assert Codes.load(tmp_path / "codes/a.viq").grid_size == (4, 4)


@pytest.mark.parametrize("model", ["no such model", "nanoo", "/no/such/folder"])
def test_an_unknown_model_is_one_line(model, viq_command, save_image, tmp_path):
    image = save_image(tmp_path / "a.png")
    status, _, err = viq_command("encode", image, "--out", tmp_path / "codes", "--model", model)
    assert (status, len(err)) == (2, 1)
    assert err[0].startswith(f"viq: error: {model}: ")
    assert not (tmp_path / "codes").exists()


@pytest.mark.parametrize("content", ["{bad", "[1]", "{}"])
def test_a_damaged_model_is_one_line(content, viq_command, save_image, tmp_path):
    image = save_image(tmp_path / "a.png")
    (tmp_path / "config.json").write_text(content)
    status, _, err = viq_command("encode", image, "--out", tmp_path / "codes", "--model", tmp_path)
    assert (status, len(err)) == (2, 1)
    assert err[0].startswith(f"viq: error: {tmp_path / 'config.json'}: not a config of this kind")


@pytest.mark.skipif(sys.platform != "linux", reason="of names that are not text")
def test_a_name_that_is_not_text_is_no_obstacle(encode, save_image, tmp_path):
    path = save_image(tmp_path / os.fsdecode(b"\xff.png"))
    status, out, _ = encode(path)
    assert (status, len(out)) == (0, 1)
    assert out[0].startswith(str(tmp_path / "codes" / "\\udcff.viq"))
    assert (tmp_path / "codes" / os.fsdecode(b"\xff.viq")).is_file()


def test_odd_modes_are_encoded(encode, tmp_path):
    for mode in ("1", "L", "LA", "P", "RGBA", "I;16"):
        Image.new(mode, (20, 20)).save(tmp_path / f"{mode.replace(';', '')}.png")
    status, out, _ = encode(tmp_path / "*.png")
    assert (status, len(out)) == (0, 6)
