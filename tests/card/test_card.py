"""The card of a model's folder: its YAML, its sections, and that its code runs."""

import json
import re
import shutil

import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image
from safetensors.torch import save_file

from viq.card import About, Card, Counts, Measured, Picture, Section, model_card, read_model
from viq.errors import InputError, ModelError
from viq.mllm import AdapterConfig, MultimodalConfig, MultimodalModel

TITLES = [
    "What it makes",
    "Use",
    "Architecture and sizes",
    "Data",
    "Training",
    "Scores",
    "Limits",
    "Failures",
    "Licence and citation",
]


@pytest.fixture(scope="module")
def folder(tiny_tokenizer_folder, tmp_path_factory):
    """A tokenizer with a language model beside it."""
    folder = tmp_path_factory.mktemp("card") / "model"
    shutil.copytree(tiny_tokenizer_folder, folder)
    config = MultimodalConfig(lm="tiny", tokenizer=str(folder), adapter=AdapterConfig(rank=4))
    MultimodalModel.build(config).save_pretrained(folder / "mllm")
    Image.new("RGB", (8, 8)).save(folder / "bad one.png")
    return folder


def titles(page):
    return re.findall(r"^## (.*)$", page, re.MULTILINE)


def test_the_parts_are_those_of_the_model(folder, tiny_tokenizer):
    model = read_model(folder)
    parts = {part.name: part for part in model.parts}
    for name in ("encoder", "head", "embedder", "latent_head"):
        count = sum(p.numel() for p in tiny_tokenizer.part(name).parameters())
        assert (parts[name].parameters, parts[name].dtypes) == (count, ("F32",))
        assert parts[name].num_bytes == 4 * count
    autoencoder = tiny_tokenizer.vae().autoencoder
    both = parts["vae encoder"].parameters + parts["vae decoder"].parameters
    assert both == sum(p.numel() for p in autoencoder.parameters())
    assert parts["vae encoder"].parameters == sum(
        p.numel() for p in autoencoder.encoder.parameters()
    )
    reader = MultimodalModel.from_pretrained(folder / "mllm")
    assert parts["mllm projector"].parameters == sum(
        p.numel() for p in reader.projector.parameters()
    )
    adapted = [p for name, p in reader.named_parameters() if "lora_" in name]
    assert parts["mllm adapter"].parameters == sum(p.numel() for p in adapted)
    assert model.total_bytes == sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    facts = "\n".join(model.facts())
    assert "patches of 16 x 16 pixels" in facts
    assert "4 codes a patch, each one of 64,000 (FSQ, levels 8, 8, 8, 5, 5, 5): 0.25 bits" in facts
    assert "Language model: `tiny`, 2 layers, 64 wide; it reads codes" in facts
    assert "Adapters: DoRA of rank 4" in facts
    assert (model.lm, model.decodes) == ("tiny", True)


def test_bfloat16_takes_two_bytes(tmp_path, tiny_tokenizer_folder):
    shutil.copy(tiny_tokenizer_folder / "config.json", tmp_path)
    tensors = {"head.a": torch.zeros(3, dtype=torch.bfloat16), "head.b": torch.zeros(2).bool()}
    save_file(tensors, tmp_path / "model.safetensors")
    (part,) = read_model(tmp_path).parts
    assert (part.parameters, part.dtypes, part.num_bytes) == (5, ("BF16", "BOOL"), 8)


def test_the_language_model_alone_has_a_card(folder, tmp_path):
    model = read_model(folder / "mllm")
    assert [part.name for part in model.parts] == [
        "mllm projector",
        "mllm adapter",
        "mllm embedder",
    ]
    assert (model.tokenizer, model.levels, model.decodes) == (None, None, False)
    page = model_card(folder / "mllm", About(name="reader", where="reader")).markdown()
    assert "MultimodalModel.from_pretrained" in page
    assert "viq.load" not in page
    MultimodalModel.from_pretrained(folder / "mllm").save_pretrained(tmp_path, full=True)
    whole = read_model(tmp_path)
    assert whole.lm is None
    assert "mllm lm" in {part.name for part in whole.parts}
    assert "Language model: in the folder, 2 layers" in whole.markdown()


def test_the_code_of_the_card_runs(folder, tmp_path, monkeypatch, capsys):
    page = model_card(folder, About(name="tiny", where=str(folder))).markdown()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 2
    monkeypatch.chdir(tmp_path)
    Image.linear_gradient("L").resize((50, 40)).convert("RGB").save("photo.jpg")
    scope: dict = {}
    for block in blocks:
        exec(block, scope)
    with Image.open("decoded.png") as decoded:
        assert decoded.size == (50, 40)
    assert scope["codes"].values.shape == (16, 4)
    assert scope["features"].shape == (16, 64)
    assert capsys.readouterr().out
    (console,) = re.findall(r"```console\n(.*?)```", page, re.DOTALL)
    commands = [line.removeprefix("$ viq ").split()[0] for line in console.splitlines()]
    assert commands == ["encode", "decode", "compare", "ask"]


def test_the_commands_of_the_card_run(folder, tmp_path, monkeypatch, capsys):
    import shlex

    from viq.cli.main import main

    page = model_card(folder, About(name="tiny", where=str(folder))).markdown()
    (console,) = re.findall(r"```console\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    Image.linear_gradient("L").resize((50, 40)).convert("RGB").save("photo.jpg")
    for line in console.splitlines():
        more = ["--max-new-tokens", "2"] if line.startswith("$ viq ask") else []
        assert main([*shlex.split(line)[2:], *more]) == 0


def test_a_tokenizer_without_codes_or_decoder_has_code_for_what_it_can(
    tiny_tokenizer_folder, tmp_path
):
    config = json.loads((tiny_tokenizer_folder / "config.json").read_text())
    (tmp_path / "model.safetensors").symlink_to(tiny_tokenizer_folder / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(config))
    page = model_card(tmp_path, About(name="a", where="a")).markdown()
    assert "tokenizer.embed(codes)" in page
    assert "decode" not in page
    for part in ("head", "embedder"):
        config["network"][part]["quantizer"]["levels"] = None
        config["network"][part]["quantizer"]["bottleneck"] = 8
        config["network"][part]["quantizer"]["limit"] = "l_inf"
    (tmp_path / "config.json").write_text(json.dumps(config))
    page = model_card(tmp_path, About(name="a", where="a")).markdown()
    assert "tokenizer.latents(" in page
    assert "encode" not in page.split("## Use")[1].split("## Arch")[0]
    assert "it gives continuous latents, no codes" in page


def test_what_is_not_known_is_left_out_and_scores_are_not_measured(folder):
    page = model_card(folder, About(name="tiny", where="x")).markdown()
    assert titles(page) == ["Use", "Architecture and sizes", "Scores", "Licence and citation"]
    assert "## Scores\n\nNot measured.\n" in page
    assert "model-index" not in page


def test_a_whole_card_is_one_that_the_hub_reads(folder, tmp_path):
    own = tmp_path / "model"
    shutil.copytree(folder, own)
    picture = Picture(file="bad one.png", caption="A [bad] one.")
    about = About(
        name="viq-tiny",
        where="viq-tiny",
        tags=("ocr", "viq"),
        base_model=("a/b",),
        datasets=("c/d",),
        install="Install it.",
        data="Of pictures.",
        recipe="By hand.",
        limits=("It is small.", "It is random."),
        failures="Often.",
        pictures=(picture,),
        failed=(picture,),
    )
    measured = [
        Measured(
            task="image-reconstruction",
            data="photos",
            metric="PSNR",
            unit="dB",
            value=25.5,
            interval=(24.25, 26.0),
        ),
        Measured(task="visual-question-answering", data="words", metric="Score", value=90.0),
    ]
    card = model_card(
        own,
        about,
        data=[Counts(name="corpus", rows=3, by={"licence": {"MIT": 3}})],
        scores=[Section(title="Photographs", text="25.5 dB")],
        measured=measured,
    )
    path = card.save(own)
    page = path.read_text()
    assert titles(page) == TITLES
    assert "### Photographs\n\n25.5 dB" in page
    assert "- It is small.\n- It is random." in page
    assert page.count("![A [bad  one.](bad%20one.png)\n\n*A [bad] one.*") == 2
    read = ModelCard.load(path)
    data = read.data
    assert (data.license, data.library_name) == ("apache-2.0", "viq")
    assert data.pipeline_tag == "image-text-to-text"
    assert data.tags == ["viq", "image-tokenizer", "ocr"]
    assert (data.datasets, data.base_model) == (["c/d"], ["a/b"])
    assert data.metrics == ["PSNR", "Score"]
    first, second = data.eval_results
    assert (data.model_name, first.task_type, first.dataset_name) == (
        "viq-tiny",
        "image-reconstruction",
        "photos",
    )
    assert (first.metric_type, first.metric_value) == ("psnr", 25.5)
    assert first.metric_name == "PSNR (dB), 95 % interval 24.25 to 26"
    assert (second.metric_type, second.metric_name) == ("score", "Score")


def test_a_picture_that_is_not_in_the_folder_is_refused(tmp_path):
    picture = Picture(file="a.png", caption="A.")
    card = Card(name="a", summary="", sections=(Section(title="A", pictures=(picture,)),))
    with pytest.raises(InputError, match=r"a.png: the card shows it, but there is no such file"):
        card.save(tmp_path)
    assert list(tmp_path.iterdir()) == []
    for file in ("/tmp/a.png", "../a.png"):
        with pytest.raises(ValueError, match="is not inside the model's folder"):
            Picture(file=file, caption="A.")


def test_what_is_no_model_is_said(folder, tmp_path):
    def refused(message):
        with pytest.raises(ModelError, match=message):
            read_model(tmp_path)

    refused("no config.json here, so this is not a saved model")
    for content in ("{", "[1]"):
        (tmp_path / "config.json").write_text(content)
        refused(r"config.json: not a model's config")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    refused("not a model that this version knows")
    shutil.copy(folder / "config.json", tmp_path)
    refused(r"model.safetensors: cannot be read")
    (tmp_path / "model.safetensors").write_bytes(b"no tensors")
    refused(r"model.safetensors: cannot be read")
    (tmp_path / "mllm").mkdir()
    (tmp_path / "mllm" / "config.json").write_text("{")
    refused(r"mllm")
