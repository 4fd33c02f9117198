"""Every stage of the method in a row, from nothing to a tokenizer that works, by the command."""

import json

import pytest
from PIL import Image
from safetensors import safe_open

import viq
from viq.checkpoint import load_vision_tower
from viq.cli.main import main
from viq.data.synthetic.source import SyntheticSource
from viq.mllm.model import MultimodalModel
from viq.recipes import RECIPES
from viq.training.optim import learning_rate

CHAIN = ("vae", "contrast", "align", "proximal", "quantize", "decoder", "sft")
STARTS = {
    "align": "contrast",
    "proximal": "align",
    "quantize": "proximal",
    "decoder": "quantize",
    "sft": "quantize",
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder of synthetic pictures with the questions about them, as LLaVA has them."""
    folder = tmp_path_factory.mktemp("pictures")
    rows = []
    for number, sample in enumerate(SyntheticSource(("shapes", "words"), "train", size=8)):
        (picture,) = sample.images
        picture.resize((80 + 16 * (number % 3), 64)).save(folder / f"{number}.png")
        question, answer = (m["content"][-1]["text"] for m in sample.messages[:2])
        turns = [
            {"from": "human", "value": f"<image>\n{question}"},
            {"from": "gpt", "value": answer},
        ]
        rows.append({"id": str(number), "image": f"{number}.png", "conversations": turns})
    (folder / "train.json").write_text(json.dumps(rows))
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory, pictures):
    """The folder of all runs, each started from the one before."""
    folder = tmp_path_factory.mktemp("runs")
    for stage in CHAIN:
        arguments = ["train", stage, "--recipe", "debug", "--out", str(folder / stage)]
        if stage in STARTS:
            arguments += ["--start", str(folder / STARTS[stage])]
        if stage == "proximal":
            arguments += ["--vae", str(folder / "vae")]
        if stage == "sft":  # its start has a language model with adapters like its own
            tokenizer, codes = str(folder / "quantize" / "tokenizer"), str(folder / "codes")
            source = str(pictures / "train.json")
            extract = ["extract", source, "--model", tokenizer, "--out", codes, "--workers", "1"]
            assert main(extract) == 0
            arguments += ["--data", codes, "--held-out", codes]
        assert main(arguments) == 0, stage
    return folder


@pytest.fixture(scope="module")
def vision_model(tmp_path_factory):
    """A CLIP of random weights."""
    from transformers import CLIPVisionConfig, CLIPVisionModel

    folder = tmp_path_factory.mktemp("clip")
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 2}
    config = CLIPVisionConfig(image_size=32, patch_size=8, num_hidden_layers=2, **sizes)
    CLIPVisionModel(config).save_pretrained(folder)
    settings = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return str(folder)


def log_of(run):
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("stage", CHAIN)
def test_every_stage_logs_its_losses_and_shows_what_it_makes(runs, stage):
    lines = log_of(runs / stage)
    steps = [line["step"] for line in lines if "grad_norm" in line]
    assert steps == [1, 2, 3, 4]
    assert all({"loss", "wait", "errors", "images_per_s"} <= set(line) for line in lines[:4])
    kind = "md" if stage in ("align", "sft") else "png"  # these have nothing that makes pictures
    assert list((runs / stage / "samples").glob(f"step-0000004*.{kind}"))


def test_the_language_model_answers_beside_the_right_answers(runs):
    for stage in ("align", "proximal", "quantize", "sft"):
        (answers,) = (runs / stage / "samples").glob("*.md")
        assert answers.read_text().startswith("| question | right answer | answer |")


@pytest.mark.parametrize("stage", ["align", "proximal", "quantize"])
def test_groups_weights_and_what_is_frozen_are_the_recipes(runs, stage):
    config = RECIPES["debug"].stages[stage]()
    lines = [line for line in log_of(runs / stage) if "grad_norm" in line]
    scales = config.loop.optim.lr_scale
    groups = {"projector", "lm", "carried"} | ({"new"} if stage != "align" else set())
    for number, line in enumerate(lines):
        rate = learning_rate(number, len(lines), config.loop.optim)
        found = {k.removeprefix("lr/"): v for k, v in line.items() if k.startswith("lr/")}
        assert found == pytest.approx({group: rate * scales.get(group, 1) for group in groups})
        weights = {"text": 1.0, "distil": 10.0, "recon": 1.0 if stage != "align" else 0.0}
        total = sum(weight * line.get(name, 0.0) for name, weight in weights.items())
        assert line["loss"] == pytest.approx(total, rel=1e-5)

    (checkpoint,) = (runs / stage / "checkpoints").iterdir()
    with safe_open(checkpoint / "weights.safetensors", "pt") as file:
        names = set(file.keys())
    of_lm = {name for name in names if name.startswith("mllm.lm.")}
    assert of_lm
    assert all("lora_" in name for name in of_lm)  # the language model itself is frozen
    assert {name.split(".")[0] for name in names} == {"network", "mllm"}  # no teacher, no VAE
    parts = {name.split(".")[1] for name in names if name.startswith("network.")}
    later = {"head", "embedder", "latent_head"} if stage != "align" else set()
    assert parts == {"encoder", "pool"} | later


def test_codes_are_watched(runs):
    line = next(line for line in log_of(runs / "quantize") if "code_flips" in line)
    assert 0 <= line["code_flips"] <= 1
    assert {f"code_entropy_{head}" for head in range(4)} <= set(line)


def test_what_comes_out_is_a_tower_and_tokenizers(runs):
    picture = Image.linear_gradient("L").resize((70, 50)).convert("RGB")
    assert load_vision_tower(runs / "align" / "tower").encoder.config.position_side == 8
    proximal = viq.load(runs / "proximal" / "tokenizer")
    assert proximal.latents(picture).shape == (24, 4, 8)
    quantized = viq.load(runs / "quantize" / "tokenizer")
    decoded = viq.load(runs / "decoder" / "tokenizer")
    codes = decoded.encode(picture)
    assert codes.values.max() < 64_000
    assert (codes.values == quantized.encode(picture).values).all()
    assert decoded.decode(codes).size == (70, 50)
    assert decoded.pooled(codes).shape == (64,)


@pytest.mark.parametrize("vision", ["quantized", "continuous", "foreign"])
def test_what_sft_sees_with_is_a_flag(vision, runs, pictures, vision_model, tmp_path):
    start = ["--start", str(runs / "quantize")]
    if vision == "continuous":
        start = ["--start", str(runs / "align")]
    if vision == "foreign":
        start += ["--vision-model", vision_model, "--fresh"]
    data = ["--data", str(pictures / "train.json"), "--vision", vision]
    out = ["--recipe", "debug", "--out", str(tmp_path / "run"), "--loop.steps", "1"]
    assert main(["train", "sft", *start, *data, *out]) == 0
    (line,) = [line for line in log_of(tmp_path / "run") if "grad_norm" in line]
    if vision == "quantized":  # which is what the codes were made by
        first = log_of(runs / "sft")[0]
        assert line["loss"] == pytest.approx(first["loss"], rel=1e-5)
    assert line["loss"] > 0


def test_the_papers_sft_trains_all_of_a_language_model_anew(runs, capsys):
    arguments = ["--start", str(runs / "sft"), "--lm", "tiny", "--data.workers", "0"]
    assert main(["train", "sft", "--recipe", "giant", *arguments, "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "SftStage: 48,829 steps, 2 x bfloat16 a process"
    rates = {line.split()[0]: line.split()[3] for line in lines if " matrices " in line}
    assert rates == {"projector": "0.0001", "lm": "1e-05"}


def test_sft_leaves_a_language_model_that_reads_codes_and_pictures(runs):
    model = MultimodalModel.from_pretrained(runs / "sft" / "mllm")
    picture = Image.linear_gradient("L").resize((70, 50)).convert("RGB")
    own = viq.load(runs / "quantize" / "tokenizer").encode(picture)
    assert model.encode([picture]) == [own]
    inputs = json.loads((runs / "sft" / "run.json").read_text())["inputs"]
    assert inputs["vision"] == str(runs / "quantize")


def test_inputs_are_said_once(runs):
    inputs = json.loads((runs / "quantize" / "run.json").read_text())["inputs"]
    assert inputs["vae"] == str(runs / "vae")
    assert inputs["teacher"] == str(runs / "contrast")
    assert inputs["lm"] == "tiny"


def test_a_finished_run_is_not_written_over(runs, capsys):
    assert main(["train", "vae", "--recipe", "debug", "--out", str(runs / "vae")]) == 2
    assert "--resume goes on, or give another --out" in capsys.readouterr().err


def test_a_dry_run_trains_nothing(runs, tmp_path, capsys):
    arguments = [
        "--recipe",
        "debug",
        "--start",
        str(runs / "proximal"),
        "--out",
        str(tmp_path / "x"),
    ]
    assert main(["train", "quantize", *arguments, "--dry-run", "--loop.optim.lr", "0.5"]) == 0
    printed = capsys.readouterr().out
    assert "QuantizeStage: 4 steps" in printed
    assert "teacher (as it is)" in printed
    assert " 0.5 " in printed
    assert not (tmp_path / "x").exists()


def test_a_stage_without_its_start_says_what_is_missing(tmp_path, capsys):
    arguments = ["--recipe", "debug", "--out", str(tmp_path / "x")]
    assert main(["train", "align", *arguments]) == 2
    assert "give --start" in capsys.readouterr().err


def test_a_recipe_that_reads_data_asks_for_it(tmp_path, capsys):
    assert main(["train", "vae", "--recipe", "nano", "--out", str(tmp_path / "x")]) == 2
    assert "name it by --data" in capsys.readouterr().err


def test_a_misspelt_recipe_gets_a_suggestion(tmp_path, capsys):
    assert main(["train", "vae", "--recipe", "nanoo", "--out", str(tmp_path / "x")]) == 2
    assert "did you mean 'nano'?" in capsys.readouterr().err


def test_a_recipe_without_the_stage_names_those_it_has(tmp_path, capsys):
    assert main(["train", "vae", "--recipe", "giant", "--out", str(tmp_path / "x")]) == 2
    assert "recipe giant has no stage vae; there are: align" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--lopo.steps", "3"], "unknown arguments: --lopo.steps, 3; did you mean --loop.steps?"),
        (["--resum"], "unknown arguments: --resum; did you mean --resume?"),
        (["--loop.dtype", "half"], "invalid choice 'half' for argument '--loop.dtype'"),
        (["--loop.optim.lr", "fast"], "Error parsing --loop.optim.lr: "),
        (["--data.workers", "-1"], "workers is -1; it must be 0 or more"),
        (["--bottleneck", "0"], "viq: error: bottleneck is 0; it must be 1 or more"),
        (["--codebook-size", "1"], "codebook_size is 1; it must be 2 or more"),
    ],
)
def test_a_wrong_flag_is_one_line(flags, says, tmp_path, capsys):
    assert main(["train", "quantize", "--recipe", "debug", "--out", str(tmp_path), *flags]) == 2
    said = capsys.readouterr().err
    assert said.startswith("viq: error: ")
    assert said.count("\n") == 1
    assert says in said
    assert "(see --help-fields)" in said


def test_fields_are_listed_without_a_run(capsys):
    with pytest.raises(SystemExit) as end:
        main(["train", "quantize", "--recipe", "debug", "--help-fields"])
    assert not end.value.code
    assert "--code-blocks.positions" in capsys.readouterr().out


def test_a_run_needs_a_folder(tmp_path, capsys):
    assert main(["train", "vae", "--recipe", "debug"]) == 2
    assert "give --out" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert main(["train", "vae", "--recipe", "debug", "--out", str(tmp_path / "file")]) == 2
    assert "is a file, but --out names a folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("stage", "start", "flags", "says"),
    [
        ("vae", None, ["--data.crops.sizes", "33", "64"], "in multiples of 16"),
        ("align", "vae", [], "no tower/ and no config.json here"),
        ("align", "contrast", ["--distil-weight", "0", "--text-weight", "0"], "every loss is off"),
        ("quantize", "quantize", ["--codebook-size", "100"], "this run of (100,)"),
        ("vae", None, ["--loop.log-steps", "0"], "log_steps is 0; it must be at least 1"),
        ("vae", None, ["--loop.optim.lr", "-1"], "lr is -1.0; it must be a positive number"),
        ("quantize", "proximal", ["--data.phases.0.max-patches", "4"], "raise max_patches"),
        ("reconstruct", None, [], "the autoencoder is missing: give --vae"),
        ("decoder", "nowhere/at-all", [], "no tokenizer/ and no config.json here"),
        ("contrast", None, ["--text-tower", "none"], "--text-tower none: text is 'own'"),
        ("sft", "quantize", [], "this recipe reads a data set; name it by --data"),
        ("sft", "quantize", ["--data", "PICTURES"], "is a picture, but codes are read here"),
        ("sft", "quantize", ["--data", "CODES", "--vision", "quantized"], "give --vision codes"),
        ("sft", "align", ["--data", "CODES"], "so this is not a saved tokenizer"),
        ("sft", "quantize", ["--train-lm"], "give --adapter none, too"),
        ("sft", "quantize", ["--data", "CODES", "--adapter.rank", "4"], "or --fresh to begin"),
    ],
)
def test_what_does_not_go_together_is_one_line(
    runs, pictures, stage, start, flags, says, tmp_path, capsys
):
    places = {"CODES": str(runs / "codes"), "PICTURES": str(pictures / "train.json")}
    flags = [places.get(flag, flag) for flag in flags]
    arguments = ["train", stage, "--recipe", "debug", "--out", str(tmp_path / "run"), *flags]
    if start is not None:
        arguments += ["--start", str(runs / start)]
    assert main(arguments) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_part_can_be_left_out_or_changed_by_flag(runs, tmp_path, capsys):
    start = ["--recipe", "debug", "--start", str(runs / "proximal"), "--dry-run"]
    counts = []
    for flags in (["--code-blocks.positions", "learned"], ["--code-blocks", "none"]):
        assert main(["train", "quantize", *start, *flags]) == 0
        lines = capsys.readouterr().out.splitlines()
        counts.append(next(line.split()[1] for line in lines if line.startswith("network")))
    assert counts[0] != counts[1]


def test_a_damaged_held_out_picture_is_left_out(runs, tmp_path, caplog):
    for name in "abc":
        Image.new(
            "RGB", (64, 64), name.replace("a", "red").replace("b", "blue").replace("c", "green")
        ).save(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.txt").write_text(name)
    (tmp_path / "a.png").write_bytes(b"damaged")
    source = ["kind", "auto", "split", "train", "path", str(tmp_path)]
    flags = [
        x
        for k, v in zip(source[::2], source[1::2], strict=True)
        for x in (f"--data.validation.0.{k}", v)
    ]
    for stage, start in (("contrast", []), ("align", ["--start", str(runs / "contrast")])):
        arguments = ["train", stage, "--recipe", "debug", *start, *flags, "--dry-run"]
        assert main(arguments) == 0
        assert "left out of the evaluation: synthetic/a.png" in caplog.text
        caplog.clear()
