"""What is evaluated."""

import json

import pytest
import torch
from PIL import Image

import viq
from viq.errors import ImageError, InputError, ModelError
from viq.evaluation.subjects import Codec, Decoded, Model, Request, check

RED = Image.new("RGB", (40, 56), "red")


def picture(path, size=(40, 56), colour="blue"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


def test_a_model_gives_what_its_codes_decode_to(tiny_tokenizer):
    rebuilt = Model("tiny", tiny_tokenizer).rebuild(Request("a", RED, None))
    codes = tiny_tokenizer.encode(RED)
    assert rebuilt.codes == codes
    assert rebuilt.num_bytes == codes.nbytes
    assert rebuilt.image == tiny_tokenizer.decode(codes)


def test_models_that_decode_otherwise_are_told_apart(tiny_tokenizer_folder):
    first, second = (Model("m", viq.load(tiny_tokenizer_folder)) for _ in range(2))
    assert first.identity() == second.identity()
    with torch.no_grad():
        next(second.tokenizer.part("latent_head").parameters()).add_(1)
    one, other = first.identity(), second.identity()
    assert one["tokenizer"] == other["tokenizer"]
    assert one["decoder"] != other["decoder"]


def test_a_picture_that_cannot_be_encoded_is_named(tiny_tokenizer):
    thin = Image.new("RGB", (600_000, 2))
    tiny = Model("tiny", tiny_tokenizer)
    with pytest.raises(ImageError, match=r"strip\.png: too large or too thin"):
        tiny.rebuild(Request("strip.png", thin, None))


def test_decoded_pictures_are_found_by_name_without_suffix(tmp_path):
    picture(tmp_path / "a" / "one.two.webp")
    picture(tmp_path / "row.png")
    (tmp_path / "rates.json").write_text(json.dumps({"a/one.two": 12, "row.png": 34}))
    decoded = Decoded("other", tmp_path)
    assert decoded.rebuild(Request("a/one.two.jpg", RED, None)).num_bytes == 12
    assert decoded.rebuild(Request("row.jpg", RED, None)).num_bytes == 34
    (tmp_path / "rates.json").unlink()
    assert Decoded("other", tmp_path).rebuild(Request("row.jpg", RED, None)).num_bytes is None


def test_a_decoded_picture_must_be_there_and_of_the_same_size(tmp_path):
    path = picture(tmp_path / "a.png", (56, 40))
    decoded = Decoded("other", tmp_path)
    with pytest.raises(ImageError) as caught:
        decoded.rebuild(Request("a.jpg", RED, None))
    assert str(caught.value) == f"{path}: is 56 x 40, but the original is 40 x 56"
    assert decoded.rebuild(Request("a.jpg", RED, None, [(56, 40)])) is None
    with pytest.raises(ImageError, match="no picture called 'b'"):
        decoded.rebuild(Request("b.jpg", RED, None))


@pytest.mark.parametrize("content", ["[1]", '{"a": -1}', '{"a": 1.5}', "{"])
def test_damaged_rates_are_named(tmp_path, content):
    picture(tmp_path / "a.png")
    (tmp_path / "rates.json").write_text(content)
    with pytest.raises(InputError, match=r"rates.json: does not say how many bytes"):
        Decoded("other", tmp_path)


def test_a_folder_without_one_picture_a_name_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such folder of decoded pictures"):
        Decoded("other", tmp_path / "x")
    with pytest.raises(InputError, match="has no pictures"):
        Decoded("other", tmp_path)
    picture(tmp_path / "a.png")
    picture(tmp_path / "a.jpg")
    with pytest.raises(InputError, match=r"a.jpg and a.png are both called 'a'"):
        Decoded("other", tmp_path)


def test_originals_that_would_be_one_decoded_picture_are_named(tmp_path):
    picture(tmp_path / "a.png")
    decoded = Decoded("other", tmp_path)
    decoded.check(["a.png", "b/a.jpg", "c.png"])
    with pytest.raises(InputError) as caught:
        decoded.check(["a.jpg", "c.png", "a.png"])
    assert str(caught.value) == (
        f"--decoded other: a.jpg and a.png would both be 'a' in {tmp_path}; rename one"
    )


def test_codecs_take_the_bytes_they_get_or_a_rate(noise):
    image = noise
    beside = Codec("webp", bpp=None, beside="nano")
    assert beside.name == "WebP as large as nano"
    assert 0 < beside.rebuild(Request("a", image, 500)).num_bytes <= 500
    assert beside.rebuild(Request("a", image, 10)) is None  # nothing is so small
    at = Codec("jpeg", bpp=1.0, beside=None)
    assert at.name == "JPEG at 1 bpp"
    assert 0 < at.rebuild(Request("a", image, None)).num_bytes <= 128 * 96 / 8


@pytest.fixture
def noise():
    return Image.effect_noise((128, 96), 40).convert("RGB")


def test_a_proximal_tokenizer_has_nothing_to_store(tiny_tokenizer_folder):
    from dataclasses import replace

    tokenizer = viq.load(tiny_tokenizer_folder)
    network = tokenizer.config.network
    quantizer = replace(network.head.quantizer, levels=None, bottleneck=16)
    network = replace(
        network,
        head=replace(network.head, quantizer=quantizer),
        embedder=replace(network.embedder, quantizer=quantizer),
    )
    tokenizer.config = replace(tokenizer.config, network=network)
    with pytest.raises(ModelError, match="m: this tokenizer is proximal"):
        Model("m", tokenizer)


def test_two_subjects_of_one_name_are_refused():
    check(["a", "b"])
    with pytest.raises(InputError, match="nano: is evaluated twice"):
        check(["nano", "a", "nano"])
