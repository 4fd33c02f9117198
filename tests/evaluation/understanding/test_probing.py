import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from viq.errors import InputError
from viq.evaluation.understanding import digits, linear, pictures, probing
from viq.evaluation.understanding.probes import PROBES
from viq.evaluation.understanding.probing import Probing
from viq.image import ImageConfig, patchify, prepare

FEW = {"digits": (200, 50), "shapes": (60, 20), "charts": (20, 10), "letters": (10, 5)}


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """Few pictures in every set."""
    for name, counts in FEW.items():
        monkeypatch.setitem(getattr(pictures, name.upper()), "quick", counts)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Plain pictures of three colours, whose captions and kinds name them; one is no picture."""
    folder = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    names = ("red", "house", "sea")
    for split, count in (("train", 60), ("validation", 30)):
        rows = []
        for number in range(count):
            pixels = rng.integers(0, 90, (24, 40, 3), dtype=np.uint8)
            pixels[..., number % 3] += 150
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "PNG")
            rows.append({"bytes": file.getvalue() if number != 7 else b"torn", "path": None})
        labels = [names[i % 3] for i in range(count)]
        # "near" and "by": validation pictures with a train picture's name are left out.
        captions = [f"{label} {'by' if split == 'train' else 'near'} the sea" for label in labels]
        table = pa.table({"image": rows, "caption": captions, "kind": labels})
        pq.write_table(table, folder / f"{split}.parquet")
    return folder


@pytest.fixture(scope="module")
def sentence(tmp_path_factory):
    """A small text encoder of random weights."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("text")
    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "red",
        "house",
        "sea",
        "by",
        "near",
        "the",
    ]
    sizes = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    torch.manual_seed(0)
    BertModel(BertConfig(vocab_size=len(words), hidden_size=16, **sizes)).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    return str(folder)


def pixels(pictures):
    """The pixels of each patch at half resolution: what features are to improve on."""
    config = ImageConfig(patch_size=16, pad_multiple=16)
    halves = [F.avg_pool2d(prepare(picture, config).pixels, 2) for picture in pictures]
    return [patchify(half, 8) for half in halves]


def looks(tokenizer):
    """Ways to look, by names."""
    return {
        "pixels": pixels,
        "features": lambda pictures: [tokenizer.features(one) for one in pictures],
        "codes": lambda pictures: tokenizer.embed(tokenizer.encode(list(pictures))),
    }


@pytest.mark.parametrize("name", [name for name in PROBES if PROBES[name].pictures != "captioned"])
def test_all_sources_give_records_of_the_same_pictures(name, tiny_tokenizer, tmp_path):
    bench = Probing(tmp_path, "quick")
    assert bench.missing(name) is None
    found = {who: bench.records(name, who, look) for who, look in looks(tiny_tokenizer).items()}
    for records in found.values():
        assert [*records] == [*found["pixels"]]
        assert len(records) == FEW[PROBES[name].pictures][1]
        assert json.loads(json.dumps(records)) == records
        assert [record["place"] for record in records.values()] == [*range(len(records))]
        assert all(0 <= record["score"] <= 1 for record in records.values())
        assert PROBES[name].chance(records) == PROBES[name].chance(found["pixels"])
    assert (tmp_path / "codes" / f"{PROBES[name].pictures}-test" / "000000.safetensors").is_file()


def test_a_second_run_looks_at_nothing_and_finds_the_same(tiny_tokenizer, tmp_path):
    def blind(pictures):
        raise AssertionError("features are there already")

    look = looks(tiny_tokenizer)["codes"]
    first = Probing(tmp_path, "quick").records("probe-colour", "a/b", look)
    again = Probing(tmp_path, "quick")
    assert again.records("probe-colour", "a/b", blind) == first
    again.records("probe-count", "a/b", blind)  # about the same pictures
    assert Probing(tmp_path / "other", "quick").records("probe-colour", "a/b", look) == first


def test_subjects_whose_names_look_alike_are_kept_apart(tmp_path):
    bench = Probing(tmp_path, "quick")
    for subject in ("runs/a", "runs_a", "runs a"):
        bench.records("probe-count", subject, pixels)
    assert len([*tmp_path.iterdir()]) == 3


def test_digits_are_told_from_pixels(monkeypatch, tmp_path):
    monkeypatch.setitem(pictures.DIGITS, "quick", (400, 100))
    records = Probing(tmp_path, "quick").records("probe-digits", "pixels", pixels)
    assert np.mean([record["score"] for record in records.values()]) > 0.6


def test_captioned_pictures_are_probed_and_torn_ones_told(corpus, sentence, tmp_path):
    bench = Probing(tmp_path, "quick", corpus, sentence)
    assert all(bench.missing(name) is None for name in PROBES)
    failed = bench.look("probe-kind", "pixels", pixels)
    assert failed.keys() == {"train.parquet:7", "validation.parquet:7"}
    assert all("not a readable image (4 bytes)" in reason for reason in failed.values())
    scored = bench.records("probe-kind", "pixels", pixels)
    assert len(scored) == 29
    assert np.mean([record["score"] for record in scored.values()]) == 1.0
    assert PROBES["probe-kind"].chance(scored) == 10 / 29

    scored = bench.records("retrieval-caption-1", "pixels", pixels)
    assert len(scored) == 3  # captions
    assert all(record["score"] == 1.0 for record in scored.values())
    assert {record["right"] for record in scored.values()} == {
        f"{name} near the sea" for name in ("red", "house", "sea")
    }


def test_nothing_readable_is_told(tmp_path):
    for split in ("train", "validation"):
        table = pa.table({"image": [b"torn"], "kind": ["a"]})
        pq.write_table(table, tmp_path / f"{split}.parquet")
    bench = Probing(tmp_path / "out", "quick", tmp_path)
    with pytest.raises(InputError, match="no picture of captioned can be read to fit on"):
        bench.records("probe-kind", "pixels", pixels)


def test_what_is_missing_is_told(corpus, tmp_path, monkeypatch):
    assert Probing(tmp_path, "quick").missing("probe-kind") == (
        "it needs --pictures, a folder of captioned ones"
    )
    nowhere = Probing(tmp_path, "quick", corpus, str(tmp_path / "nowhere"))
    assert nowhere.missing("probe-kind") is None
    assert "no config.json of transformers here" in nowhere.missing("retrieval-picture-1")
    monkeypatch.setattr(digits, "find_spec", lambda name: None)
    reason = Probing(tmp_path, "quick").missing("probe-digits")
    assert reason.startswith("reading digits needs a package: pip install 'viq[eval]'")
    assert Probing(tmp_path, "quick").missing("probe-shape") is None
    monkeypatch.setattr(linear, "find_spec", lambda name: None)
    reason = Probing(tmp_path, "quick").missing("probe-shape")
    assert reason == "fitting needs a package: pip install 'viq[eval]' (scikit-learn)"


def test_unknown_probes_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"^no probe 'probe-mood'; there are: probe-digits, "):
        Probing(tmp_path, "quick").records("probe-mood", "pixels", pixels)


def test_captions_are_embedded_once(corpus, sentence, tmp_path, monkeypatch):
    asked = []
    load = probing.load_sentence_encoder

    def counted(where):
        encoder = load(where)
        encoder.register_forward_pre_hook(lambda _, inputs: asked.extend(inputs[0]))
        return encoder

    monkeypatch.setattr(probing, "load_sentence_encoder", counted)
    bench = Probing(tmp_path, "quick", corpus, sentence)
    for name in ("retrieval-caption-1", "retrieval-picture-5"):
        bench.records(name, "pixels", pixels)
    assert sorted(asked) == sorted(
        f"{name} {where} the sea" for name in ("house", "red", "sea") for where in ("by", "near")
    )
