"""Cards that models and data sets of codes get when they are saved."""

import re
import shutil

import numpy as np
import pyarrow as pa
import pytest
from huggingface_hub import DatasetCard, ModelCard
from PIL import Image

import viq
from viq.card import Counts, Measured, Section, base_model, card_of_folder, saved_card
from viq.card.saved import MARK, NOT_STATED
from viq.store import CodesInfo, CodeWriter


@pytest.fixture
def folder(tiny_tokenizer_folder, tmp_path):
    shutil.copytree(tiny_tokenizer_folder, tmp_path / "model", ignore=lambda *_: ["README.md"])
    return tmp_path / "model"


def test_a_saved_tokenizer_has_a_card_whose_code_runs(tiny_tokenizer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny_tokenizer.save_pretrained("runs/mine")
    page = (tmp_path / "runs/mine/README.md").read_text("utf-8")
    assert page.startswith("---\n")
    assert "\n# mine\n" in page
    assert tiny_tokenizer.fingerprint in page
    for said in (NOT_STATED, "Licence of the weights: not stated.", "Not measured."):
        assert said in page
    Image.linear_gradient("L").resize((50, 40)).convert("RGB").save("photo.jpg")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(code, {})
    with Image.open("decoded.png") as decoded:
        assert decoded.size == (50, 40)


def test_the_card_says_what_it_is_told(folder):
    page = saved_card(
        folder,
        where="someone/mine",
        license="cc-by-4.0",
        counts=[Counts(name="photos", rows=3, by={"license": {"CC0": 3}})],
        scores=[Section(title="Reconstruction", text="| PSNR |\n|---|\n| 24 |")],
        measured=[Measured(task="image-reconstruction", data="photos", metric="PSNR", value=24.0)],
        limits=("It has seen three pictures.",),
    )
    card = ModelCard(page)
    assert card.data.license == "cc-by-4.0"
    assert [result.metric_value for result in card.data.eval_results] == [24.0]
    for said in ("### photos: 3 pictures", "| CC0 | 3 |", "### Reconstruction", "three pictures"):
        assert said in page
    assert NOT_STATED not in page
    assert 'viq.load("someone/mine")' in page


def test_what_no_card_has_is_refused_by_name(folder):
    with pytest.raises(TypeError, match=r"a card has no licence; it has base_model, .* license"):
        saved_card(folder, where="a", licence="mit")


def test_our_card_is_written_again_and_somebodys_own_is_kept(tiny_tokenizer, tmp_path):
    path = tmp_path / "README.md"
    tiny_tokenizer.save_pretrained(tmp_path)
    path.write_text(path.read_text("utf-8").replace("# ", "# old "), "utf-8")
    tiny_tokenizer.save_pretrained(tmp_path)
    assert MARK in path.read_text("utf-8")
    assert "# old" not in path.read_text("utf-8")
    path.write_text("mine", "utf-8")
    tiny_tokenizer.save_pretrained(tmp_path)
    assert path.read_text("utf-8") == "mine"
    tiny_tokenizer.save_pretrained(tmp_path, model_card_kwargs={"license": "mit"})
    assert ModelCard(path.read_text("utf-8")).data.license == "mit"


def test_a_language_models_own_card_is_kept_and_ours_written_again(tmp_path):
    from viq.mllm import MultimodalConfig, MultimodalModel

    model = MultimodalModel.build(MultimodalConfig(lm="tiny", width=8, adapter=None))
    path = tmp_path / "README.md"
    model.save_pretrained(tmp_path, model_card_kwargs={"data": "Some words."})
    assert "Some words." in path.read_text("utf-8")
    model.save_pretrained(tmp_path)
    assert "Some words." not in path.read_text("utf-8")
    path.write_text("mine", "utf-8")
    model.save_pretrained(tmp_path)
    assert path.read_text("utf-8") == "mine"


@pytest.mark.parametrize(
    ("lm", "found"),
    [
        ("smollm2", "HuggingFaceTB/SmolLM2-135M-Instruct"),
        ("owner/model", "owner/model"),
        ("./lm", None),
        ("/a/folder", None),
        ("tiny", None),
    ],
)
def test_a_language_model_of_the_hub_is_the_base(lm, found):
    assert base_model(lm) == ({"base_model": (found,)} if found else {})


def test_a_base_that_is_a_folder_is_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "model").mkdir(parents=True)
    assert base_model("owner/model") == {}


@pytest.fixture
def dataset(tiny_tokenizer, tmp_path):
    """Three rows, of one image each, and a carried column."""
    codes = tiny_tokenizer.encode(
        [np.full((16 + 16 * n, 40, 3), 60 * n, np.uint8) for n in range(3)]
    )
    rows = pa.table({"caption": ["a", "b", "c"]})
    (tmp_path / "codes" / "data").mkdir(parents=True)
    path = tmp_path / "codes" / "data" / "part-0.parquet"
    with CodeWriter(path, CodesInfo.of(codes[0]), rows.schema) as writer:
        writer.write(rows, [[one] for one in codes])
    return tmp_path / "codes"


def test_the_card_of_a_data_set_is_one_that_the_hub_and_datasets_read(
    dataset, tiny_tokenizer, tmp_path
):
    from datasets import load_dataset

    page = card_of_folder(dataset, model="someone/tiny", license="cc0-1.0")
    card = DatasetCard(page)
    assert card.data.license == "cc0-1.0"
    (config,) = card.data.to_dict()["configs"]
    assert config["data_files"] == [{"split": "train", "path": "data/*.parquet"}]
    assert "| rows | 3 |" in page
    assert "| caption | string | as in the source |" in page
    assert f"`{tiny_tokenizer.fingerprint}`" in page
    (dataset / "README.md").write_text(page)
    rows = load_dataset(str(dataset), split="train", cache_dir=str(tmp_path / "cache"))
    assert rows["caption"] == ["a", "b", "c"]


def test_without_a_licence_its_field_is_left_to_whoever_publishes(dataset):
    page = card_of_folder(dataset, model="a")
    assert DatasetCard(page).data.license is None
    assert "\n# license: of the pictures and texts, not of viq\n" in page


def test_every_way_to_read_that_the_card_shows_runs(
    dataset, tiny_tokenizer_folder, tiny_tokenizer, monkeypatch, capsys
):
    page = card_of_folder(dataset, model=str(tiny_tokenizer_folder))
    (dataset / "README.md").write_text(page)
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 4
    monkeypatch.setenv("HF_DATASETS_CACHE", str(dataset.parent / "cache"))
    scope: dict = {}
    for block in blocks:
        exec(block.replace("path/of/this/folder", str(dataset)), scope)
    codes = 4 * (2 * 4 + 2 * 4 + 4 * 4)
    assert re.search(rf"\b3 +\S +{codes}\b", capsys.readouterr().out)  # in DuckDB's own table
    assert scope["row"]["caption"] == "a"
    assert scope["codes"].shape == (scope["h"] * scope["w"], 4)
    assert scope["picture"].size == (40, 48)
    assert scope["features"].shape == (scope["h"] * scope["w"], 64)
    assert (
        scope["tokenizer"].fingerprint
        == tiny_tokenizer.fingerprint
        == viq.load(tiny_tokenizer_folder).fingerprint
    )


def test_a_card_does_not_tell_where_its_folder_lay(tiny_tokenizer, tmp_path):
    tiny_tokenizer.save_pretrained(tmp_path / "mine")
    page = (tmp_path / "mine" / "README.md").read_text("utf-8")
    assert str(tmp_path) not in page
    assert 'viq.load("mine")' in page
