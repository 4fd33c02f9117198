"""benchmarks/nano/ship.py: two runs become the folder of a bundled model."""

import json
import shutil

import pytest
import torch
from nano import ship
from safetensors import safe_open

import viq
from viq import checkpoint
from viq.errors import FingerprintError, InputError
from viq.external.language_model import tiny_language_model
from viq.mllm import AdapterConfig, MultimodalConfig, MultimodalModel


@pytest.fixture(scope="module")
def make_sft(tiny_tokenizer_folder, tmp_path_factory):
    """Writes runs of stage sft on a tokenizer's codes, with adapters that do something."""

    def make(tokenizer=tiny_tokenizer_folder, **changes):
        torch.manual_seed(0)
        config = {"lm": "tiny", "adapter": AdapterConfig(rank=4)}
        if tokenizer is not None:
            config["tokenizer"] = str(tokenizer)
        model = MultimodalModel.build(MultimodalConfig(**config | changes))
        with torch.no_grad():
            for parameter in model.parameter_groups().get("lm", []):
                parameter.add_(torch.randn_like(parameter) / 20)
        folder = tmp_path_factory.mktemp("sft")
        model.save_pretrained(folder / "mllm")
        return folder

    return make


@pytest.fixture(scope="module")
def sft(make_sft):
    return make_sft()


@pytest.fixture(scope="module")
def decoder(tiny_tokenizer_folder, tmp_path_factory):
    """A run of stage decoder."""
    folder = tmp_path_factory.mktemp("decoder")
    shutil.copytree(tiny_tokenizer_folder, folder / "tokenizer")
    return folder


@pytest.fixture
def out(tmp_path, monkeypatch):
    """A place among bundled models."""
    monkeypatch.setattr(checkpoint, "WEIGHTS", tmp_path / "package" / "weights")
    return tmp_path / "package" / "weights" / "nano"


def test_what_ships_is_the_runs_in_bfloat16(decoder, sft, out, capsys):
    ship.ship(decoder, sft, out, lm="tiny")
    for path in out.rglob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"BF16"}  # noqa: SIM118
    before, after = viq.load(decoder / "tokenizer"), viq.load("nano")
    parts = after.part("encoder"), after.part("head")
    assert checkpoint.fingerprint(after.config.image, *parts) == after.fingerprint
    assert after.fingerprint != before.fingerprint
    for name, tensor in before.part("latent_head").state_dict().items():
        rounded = after.part("latent_head").state_dict()[name]
        assert torch.equal(rounded, tensor.bfloat16().float())
    model, was = (MultimodalModel.from_pretrained(m) for m in ("nano", sft / "mllm"))
    assert (model.config.tokenizer, model.config.lm) == ("nano", "tiny")
    assert model.config.fingerprint == after.fingerprint
    own, old = model.state_dict(), was.state_dict()
    assert own.keys() == old.keys()
    changed = [name for name in own if name.startswith(("projector.", "embedder."))]
    changed += [name for name in own if "lora_" in name]
    assert all(torch.equal(own[name], old[name].bfloat16().float()) for name in changed)
    picture = ship.SAMPLES / "clown-loach.png"
    assert model.encode([picture])[0].fingerprint == after.fingerprint
    printed = capsys.readouterr().out
    sizes = {str(p.relative_to(out)): p.stat().st_size for p in out.rglob("*") if p.is_file()}
    for name, size in sizes.items():
        assert f"{size:>12,}  {name}\n" in printed
    assert f"{sum(sizes.values()):>12,}  bytes together" in printed
    embedder = sum(p.numel() for p in after.part("embedder").parameters())
    assert f"{2 * embedder:>12,}  bytes of these are the embedder in mllm/" in printed
    assert "% of codes as before" in printed
    assert [path.name for path in out.parent.parent.iterdir()] == ["weights"]
    assert all(path.stat().st_mode & 0o777 == 0o644 for path in out.rglob("*") if path.is_file())


def test_adapters_of_a_lower_rank_are_the_nearest(decoder, make_sft, out):
    run = make_sft(adapter=AdapterConfig(rank=8, dora=False))
    before = MultimodalModel.from_pretrained(run / "mllm")
    state = before.state_dict()
    names = [name for name in state if ".lora_A." in name]
    half = torch.arange(8) % 2 == 0
    for name in names:  # half of the rows do nothing, so half of the rank is enough
        state[name] = torch.randn_like(state[name])
        other = name.replace(".lora_A.", ".lora_B.")
        state[other] = torch.randn_like(state[other]) * half
    before.save_pretrained(run / "mllm", state_dict=state)
    ship.ship(decoder, run, out, lm="tiny", rank=4)
    after = MultimodalModel.from_pretrained("nano")
    assert after.config.adapter.rank == 4
    found = after.state_dict()
    for name in names:
        other = name.replace(".lora_A.", ".lora_B.")
        assert found[name].shape[0] == 4
        change, expected = (
            tensors[other] @ tensors[name] * adapter.alpha / adapter.rank
            for tensors, adapter in ((found, after.config.adapter), (state, before.config.adapter))
        )
        assert torch.dist(change, expected) < 0.01 * expected.norm()  # bfloat16
    message = r"mllm: has AdapterConfig\(rank=8, .*\), which cannot be lowered to rank 16"
    with pytest.raises(InputError, match=message):
        ship.ship(decoder, run, out, lm="tiny", rank=16)


def test_no_place_of_the_machine_is_in_it(decoder, sft, out):
    ship.ship(decoder, sft, out, lm="tiny")
    texts = [path.read_text() for path in out.rglob("*.json")]
    assert len(texts) > 5
    assert not [text for text in texts if str(sft) in text or str(decoder) in text]
    (out / "config.json").write_text('{"a": ["/home/somebody"]}')
    with pytest.raises(InputError, match=r"config.json: would be shipped with /home/somebody"):
        ship.refuse_places(out)


def test_a_tokenizer_ships_alone_and_its_rounded_codes_may_have_trained(
    decoder, make_sft, out, tmp_path
):
    ship.ship(decoder, None, tmp_path / "elsewhere" / "weights" / "nano")
    rounded = tmp_path / "elsewhere" / "weights" / "nano"
    assert not (rounded / "mllm").exists()
    ship.ship(decoder, make_sft(rounded), out, lm="tiny")
    model = MultimodalModel.from_pretrained("nano")
    assert model.config.fingerprint == viq.load(rounded).fingerprint == viq.load("nano").fingerprint


def test_the_old_one_stays_until_the_new_one_is_whole(decoder, sft, make_sft, out, tmp_path):
    out.mkdir(parents=True)
    (out / "old").write_text("here")
    tiny_language_model(tmp_path / "lm", hidden=32)
    other = make_sft(ship.WEIGHTS / "nano")
    proximal = make_sft(tokenizer=None, width=64)
    for run, mllm, options, message in (
        (sft, sft, {}, r"no tokenizer/ here; name the folder of a run that has ended"),
        (decoder, decoder, {}, r"no mllm/ here"),
        (decoder, other, {}, r"mllm: these codes were made by tokenizer"),
        (decoder, proximal, {}, r"reads None, with adapter .* what ships reads codes"),
        (decoder, make_sft(adapter=None), {}, r"reads codes, with adapter None in tiny"),
        (decoder, sft, {"lm": str(tmp_path / "lm")}, r"has hidden_size 64, but .*lm has 32"),
        (decoder, sft, {"most": 1000}, r"nano: the files take [0-9,]+ bytes, more than 1,000"),
    ):
        with pytest.raises(InputError, match=message):
            ship.ship(run, mllm, out, **{"lm": "tiny"} | options)
        assert [path.name for path in out.iterdir()] == ["old"]
        assert [path.name for path in out.parent.parent.iterdir()] == ["weights"]
    ship.ship(decoder, sft, out, lm="tiny")
    assert not (out / "old").exists()
    assert json.loads((out / "config.json").read_text())["model_type"] == "viq"


def test_codes_of_another_tokenizer_are_told_by_both_names(decoder, make_sft, out):
    with pytest.raises(FingerprintError) as error:
        ship.ship(decoder, make_sft(ship.WEIGHTS / "nano"), out, lm="tiny")
    assert error.value.expected == viq.load(decoder / "tokenizer").fingerprint


def test_the_command_says_what_is_wrong_in_one_line(tmp_path, monkeypatch, capsys):
    arguments = ["--tokenizer", str(tmp_path), "--out", str(tmp_path / "weights" / "nano")]
    monkeypatch.setattr("sys.argv", ["ship.py", *arguments])
    assert ship.main() == 2
    assert capsys.readouterr().err == (
        f"ship.py: error: {tmp_path}: no tokenizer/ here; name the folder of a run that has ended\n"
    )
