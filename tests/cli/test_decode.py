"""viq decode: .viq files to images."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from viq import Codes


@pytest.fixture
def decode(viq_command, tiny_tokenizer_folder, tmp_path):
    """Runs the command with the tiny tokenizer; images go to tmp_path / "decoded"."""

    def run(*arguments):
        options = ("--model", tiny_tokenizer_folder, "--out", tmp_path / "decoded")
        return viq_command("decode", *options, *arguments)

    return run


def test_the_image_is_that_of_the_tokenizer(decode, save_codes, tiny_tokenizer, tmp_path):
    path = save_codes(tmp_path / "photo.viq", width=50, height=30)
    status, out, err = decode(path)
    assert (status, len(err)) == (0, 1)
    assert out == [f"{tmp_path / 'decoded/photo.png'}  50x30"]
    assert err[0].startswith("decoded 1 file in ")
    expected = np.asarray(tiny_tokenizer.decode(Codes.load(path)))
    assert np.array_equal(np.asarray(Image.open(tmp_path / "decoded/photo.png")), expected)


@pytest.mark.parametrize(("name", "format"), [("png", "PNG"), ("jpg", "JPEG"), ("webp", "WEBP")])
def test_the_format_can_be_chosen(name, format, decode, save_codes, tmp_path):
    assert decode(save_codes(tmp_path / "photo.viq"), "--format", name).status == 0
    with Image.open(tmp_path / f"decoded/photo.{name}") as image:
        assert (image.format, image.size) == (format, (40, 56))


def test_another_format_is_refused(decode, tmp_path):
    status, _, err = decode("photo.viq", "--format", "gif")
    assert (status, len(err)) == (2, 1)
    assert err[0].startswith("viq: error: argument --format: invalid choice: 'gif'")


def test_a_folder_keeps_its_structure(decode, save_codes, tmp_path):
    for name in ("a.viq", "sub/a.viq"):
        save_codes(tmp_path / "codes" / name)
    (tmp_path / "codes/a.png").touch()
    status, out, _ = decode(tmp_path / "codes")
    assert (status, len(out)) == (0, 2)
    assert (tmp_path / "decoded/a.png").is_file()
    assert (tmp_path / "decoded/sub/a.png").is_file()


def test_codes_of_another_tokenizer_are_refused_by_both_fingerprints(
    decode, save_codes, tiny_tokenizer, tmp_path
):
    good, other = save_codes(tmp_path / "good.viq"), tmp_path / "other.viq"
    replace(Codes.load(good), fingerprint="5" * 64).save(other)
    status, out, err = decode(good, other)
    assert (status, len(out)) == (1, 1)
    assert err[0].startswith(
        f"viq: error: {other}: these codes were made by tokenizer {'5' * 12},"
        f" this tokenizer is {tiny_tokenizer.fingerprint[:12]};"
    )
    assert not (tmp_path / "decoded/other.png").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"levels": (8, 8, 8, 5, 5, 4)},
        {"patch_size": 32, "encoded_size": (128, 128)},
        {"patch_size": 8, "encoded_size": (32, 32)},
        {"values": np.zeros((16, 3), np.uint16)},
    ],
    ids=["levels", "larger patches", "smaller patches", "code heads"],
)
def test_codes_that_do_not_fit_the_tokenizer_are_refused(change, decode, save_codes, tmp_path):
    path = save_codes(tmp_path / "photo.viq", width=64, height=64)
    values = np.minimum(Codes.load(path).values, 1000)
    replace(Codes.load(path), **{"values": values, **change}).save(path)
    status, out, err = decode(path)
    assert (status, out, len(err)) == (2, [], 2)
    assert err[0].startswith(f"viq: error: {path}: ")


def test_a_damaged_file_is_named_and_the_rest_go_on(decode, save_codes, tmp_path):
    good, bad = save_codes(tmp_path / "good.viq"), tmp_path / "bad.viq"
    bad.write_bytes(good.read_bytes()[:-1])
    status, out, err = decode(bad, good)
    assert (status, len(out), len(err)) == (1, 1, 2)
    assert err[0].startswith(f"viq: error: {bad}: not a .viq file, or damaged: ")
    assert err[1].endswith(", 1 failed")


def test_all_inputs_failing_is_exit_code_2(decode, tmp_path):
    (tmp_path / "bad.viq").touch()
    status, out, _ = decode(tmp_path / "bad.viq")
    assert (status, out) == (2, [])


def test_two_inputs_for_one_output_are_refused_before_any_work(decode, save_codes, tmp_path):
    first, second = save_codes(tmp_path / "a/x.viq"), save_codes(tmp_path / "b/x.viq")
    status, _, err = decode(first, second)
    assert status == 2
    assert err[0].startswith(f"viq: error: {first} and {second} would both be written to ")
    assert not (tmp_path / "decoded").exists()


def test_a_model_without_a_decoder_ends_the_command(
    viq_command, tiny_tokenizer, save_codes, tmp_path
):
    from viq import Tokenizer

    parts = {name: tiny_tokenizer.part(name) for name in ("encoder", "head", "embedder")}
    network = replace(tiny_tokenizer.config.network, latent_head=None)
    config = replace(tiny_tokenizer.config, network=network)
    Tokenizer(config, parts=parts).save_pretrained(tmp_path / "model")
    options = ("--model", tmp_path / "model", "--out", tmp_path / "decoded")
    paths = [save_codes(tmp_path / f"{name}.viq") for name in "ab"]
    status, out, err = viq_command("decode", *paths, *options)
    assert (status, out, len(err)) == (2, [], 1)
    assert err[0].startswith("viq: error: ")


def test_a_picture_too_large_for_the_format_is_one_failure(decode, save_codes, tmp_path):
    path = save_codes(tmp_path / "wide.viq", width=64, height=64)
    codes = Codes.load(path)
    replace(codes, original_size=(20, 16_384)).save(path)
    status, _, err = decode(path, "--format", "webp")
    assert status == 2
    assert err[0].startswith(f"viq: error: {tmp_path / 'decoded/wide.webp'}: cannot be written: ")
    assert list((tmp_path / "decoded").iterdir()) == []
