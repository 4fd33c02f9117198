import math
from dataclasses import replace

import pytest
import torch

import viq
from viq.errors import InputError, ModelError
from viq.image import ImageConfig
from viq.model.fold import fold
from viq.model.network import Network
from viq.tokenizer import Tokenizer
from viq.training.stage import Inputs
from viq.training.stages.proximal import ProximalConfig, ProximalStage
from viq.training.stages.quantize import QuantizeConfig, QuantizeStage, build
from viq.training.stages.text_aligned import Seen


@pytest.fixture
def config(toys):
    return QuantizeConfig(
        **toys.common,
        shape=toys.shape,
        bottleneck=24,
        code_blocks=toys.code_blocks,
        levels=(8, 8, 5, 5),
    )


@pytest.fixture
def proximal(toys):
    """A stage 2-1 whose every branch is at work, as after some training."""
    torch.manual_seed(0)
    config = ProximalConfig(**toys.common, shape=toys.shape, bottleneck=24)
    stage = ProximalStage(config, toys.tower, toys.company()).eval()
    for parameter in stage.network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    return stage


@pytest.fixture
def stage(toys, config, proximal):
    torch.manual_seed(1)
    return QuantizeStage(config, proximal.network, toys.company(mllm=proximal.mllm)).eval()


def with_limit(network, proximal):
    """The network with its quantiser taken out and the proximal limit put in its place."""
    quantizer = proximal.config.head.quantizer
    config = replace(
        network.config,
        head=replace(network.config.head, quantizer=quantizer),
        embedder=replace(network.config.embedder, quantizer=quantizer),
    )
    swapped = Network(config)
    taken_out = ("head.reduce.", "embedder.expand.", "head.quantizer.", "embedder.quantizer.")
    state = {k: v for k, v in network.state_dict().items() if not k.startswith(taken_out)}
    swapped.load_state_dict(state)
    return swapped.eval()


@pytest.mark.parametrize("positions", ["rope", "learned", "none"])
def test_with_its_quantizer_swapped_for_the_limit_it_is_the_stage_before(
    toys, config, proximal, samples, positions
):
    config = replace(config, code_blocks=replace(toys.code_blocks, positions=positions))
    stage = QuantizeStage(config, proximal.network, toys.company(mllm=proximal.mllm)).eval()
    assert len(stage.network.head.code_blocks) == 1
    batch = toys.batch(samples)
    with torch.no_grad():
        expected = proximal.see(batch.pixels, batch.packing).features
        rounded = stage(batch).sums
        stage.network = with_limit(stage.network, proximal.network)
        features = stage.network(batch.pixels, batch.packing).embedded
        torch.testing.assert_close(features, expected, rtol=0, atol=1e-6)
        stage.see = proximal_see(stage)
        sums, before = stage(batch).sums, proximal(batch).sums
    for name, loss in before.items():
        assert float(sums[name]) == pytest.approx(float(loss), abs=1e-6 * max(1, float(loss)))
        assert float(rounded[name]) != pytest.approx(float(loss), rel=1e-4)  # it did round


def proximal_see(stage):
    return lambda pixels, packing: Seen(stage.network(pixels, packing).embedded, {})


def test_groups_are_what_is_carried_and_what_is_new(stage):
    groups = {name: set(members) for name, members in stage.groups().items()}
    head, embedder = stage.network.head, stage.network.embedder
    parts = (head.code_blocks, head.reduce, embedder.expand)
    assert groups["new"] == {p for part in parts for p in part.parameters()}
    assert groups["carried"] == set(stage.network.parameters()) - groups["new"]


def test_every_loss_reaches_every_parameter_in_time(toys, stage, samples):
    batch = toys.batch(samples)
    optimizer = torch.optim.SGD(stage.network.parameters(), lr=0.02)
    for _ in range(2):  # what follows a map that began as zero learns a step later
        optimizer.zero_grad()
        torch.stack(list(stage(batch).sums.values())).sum().backward()
        optimizer.step()
    asleep = [n for n, p in stage.network.named_parameters() if not p.grad.any()]
    assert asleep == []


def distance(stage, proximal, batch):
    """How far features are from those of the stage before, as a share of their spread."""
    with torch.no_grad():
        expected = proximal.see(batch.pixels, batch.packing).features
        found = stage.see(batch.pixels, batch.packing).features
    return float((found - expected).norm() / (expected - expected.mean(0)).norm())


@pytest.mark.parametrize("nested", [True, False])
def test_principal_axes_keep_the_jump_small(toys, config, proximal, samples, nested):
    batch = toys.batch(samples)
    stage = QuantizeStage(replace(config, nested=nested), proximal.network, toys.company()).eval()
    random = distance(stage, proximal, batch)
    stage.initialise_from([batch])
    assert distance(stage, proximal, batch) < 0.5 * random
    first = {k: v.clone() for k, v in stage.network.state_dict().items()}
    stage.initialise_from([batch])
    assert all(torch.equal(v, first[k]) for k, v in stage.network.state_dict().items())
    codes = stage.network(batch.pixels, batch.packing).codes
    digits = codes.unsqueeze(-1) // torch.tensor([1, 8, 64, 320]) % torch.tensor([8, 8, 5, 5])
    assert [len(digits[..., k].unique()) for k in range(4)] == [8, 8, 5, 5]


def test_direct_and_nested_begin_as_one(toys, config, proximal, samples):
    batch, stages = toys.batch(samples), []
    for nested in (True, False):
        torch.manual_seed(1)
        settings = replace(config, nested=nested)
        stages.append(QuantizeStage(settings, proximal.network, toys.company()).eval())
        stages[-1].initialise_from([batch])
    nested, direct = (stage.network for stage in stages)
    assert direct.head.reduce is None
    assert nested.head.reduce is not None
    folded = fold(nested)
    assert folded.config == direct.config
    torch.testing.assert_close(
        folded.head.project_in.weight, direct.head.project_in.weight, rtol=1e-4, atol=1e-5
    )
    assert "head.project_in.weight" not in stages[1].carried
    assert "head.project_in.weight" in stages[0].carried


def test_simvq_commits_and_all_its_parts_learn(toys, config, proximal, samples):
    config = replace(config, codebook_size=200)
    stage = QuantizeStage(config, proximal.network, toys.company()).eval()
    batch = toys.batch(samples)
    before = float(stage(batch).sums["commit"].detach())
    stage.initialise_from([batch])
    losses = stage(batch)
    assert stage.weights["commit"] == 1
    assert float(losses.sums["commit"].detach()) < before
    assert stage.counts(batch)["commit"] == 8
    torch.stack(list(losses.sums.values())).sum().backward()
    quantizer = stage.network.head.quantizer
    assert quantizer.transform.grad.any()
    assert stage.network.encoder.patch_embed.weight.grad.any()
    assert quantizer.transform in set(stage.groups()["new"])
    stage.train()(batch)
    seen = stage.observe(batch)
    assert 0 < seen["code_usage_0"] <= 1


@pytest.mark.parametrize("codebook_size", [None, 200])
def test_it_trains_in_bfloat16_with_gradient_checkpointing(
    toys, config, proximal, samples, codebook_size
):
    config = replace(config, codebook_size=codebook_size)
    stage = QuantizeStage(config, proximal.network, toys.company()).train()
    stage.gradient_checkpointing()
    batch = toys.batch(samples)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        sums = stage(batch).sums
        stage.observe(batch)
    torch.stack(list(sums.values())).sum().backward()
    assert {loss.dtype for loss in sums.values()} == {torch.float32}
    assert all(p.grad.isfinite().all() for group in stage.groups().values() for p in group)


def test_codes_are_observed_without_touching_random_numbers(toys, stage, samples):
    batch = toys.batch(samples)
    stage.train()(batch)
    stage.eval()
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    figures = stage.observe(batch)
    assert torch.equal(torch.rand(1), expected)
    assert set(figures) == {
        "code_flips",
        *(f"code_{kind}_{head}" for kind in ("usage", "entropy") for head in range(4)),
    }
    codes = stage.network(batch.pixels, batch.packing).codes
    assert figures["code_usage_2"] == pytest.approx(len(codes[:, 2].unique()) / 1600)
    assert 0 < figures["code_entropy_1"] <= math.log2(len(codes))
    assert 0 <= figures["code_flips"] < 0.5
    words = replace(batch, rows=batch.rows[:0], packing=type(batch.packing).of([]))
    assert stage.observe(words) == {}


def test_started_from_a_tower_all_but_the_tower_is_new(toys, config, samples):
    stage = QuantizeStage(config, toys.tower, toys.company())
    carried = {name.partition(".")[0] for name in stage.carried}
    assert carried == {"encoder", "pool"}
    assert float(stage(toys.batch(samples)).sums["text"].detach()) > 0
    with pytest.raises(ValueError, match="a tower has no proximal representation"):
        stage.initialise_from([toys.batch(samples)])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"bottleneck": 32}, r"start's head.project_in.weight is 24 x 32, this run's is 32 x 32"),
        ({"depth": 0}, r"the start has head.blocks.0.norm1.weight, which has no place"),
    ],
    ids=["narrower", "deeper"],
)
def test_a_start_of_another_shape_is_refused(toys, config, proximal, change, reason):
    if "depth" in change:
        change = {"shape": replace(toys.shape, **change)}
    with pytest.raises(ModelError, match=reason) as error:
        QuantizeStage(replace(config, **change), proximal.network, toys.company())
    assert "give both stages the same shape" in str(error.value)


def test_blocks_that_the_start_did_not_have_change_nothing_at_first(
    toys, config, proximal, samples
):
    config = replace(config, shape=replace(toys.shape, depth=3))
    stage = QuantizeStage(config, proximal.network, toys.company())
    assert len(stage.network.head.blocks) == 3
    batch = toys.batch(samples)
    with torch.no_grad():
        features = proximal.network.encoder(batch.pixels, batch.packing)
        found = stage.network.head.tokens(features, batch.packing)
        expected = proximal.network.head.tokens(features, batch.packing)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@pytest.fixture
def proximal_run(proximal, tmp_path):
    proximal.export(tmp_path / "proximal")
    return str(tmp_path / "proximal")


def test_a_built_stage_ships_a_working_tokenizer_in_the_plain_layout(
    toys, config, samples, proximal_run, tower_run, tmp_path
):
    stage = build(config, Inputs(start=proximal_run, teacher=tower_run), samples)
    assert stage.mllm is not None  # the start's, with the language model where it was
    stage.export(tmp_path / "run")
    assert (tmp_path / "run" / "mllm" / "config.json").is_file()
    tokenizer = viq.load(tmp_path / "run" / "tokenizer")
    assert tokenizer.config.network.head.quantizer.bottleneck is None
    codes = tokenizer.encode(samples[1].images[0])
    assert codes.levels == (8, 8, 5, 5)
    batch = toys.batch([samples[1]])
    with torch.no_grad():
        output = stage.network(batch.pixels, batch.packing)
    assert (codes.values == output.codes.numpy()).mean() > 0.99
    torch.testing.assert_close(tokenizer.embed(codes), output.embedded, rtol=1e-4, atol=1e-4)
    assert tokenizer.decode(codes).size == samples[1].images[0].size


@pytest.mark.parametrize("codebook_size", [None, 200])
def test_a_start_with_codes_goes_on_with_them(
    toys, config, samples, proximal_run, tower_run, tmp_path, codebook_size
):
    config = replace(config, codebook_size=codebook_size)
    before = build(config, Inputs(start=proximal_run, teacher=tower_run), [])
    before.begin(samples)
    before.export(tmp_path / "run")
    inputs = Inputs(start=str(tmp_path / "run"), teacher=tower_run)
    idle = build(replace(config, text_weight=0.0), inputs, [])
    idle.begin(samples)  # there are no axes to begin along any more
    assert idle.mllm is None
    assert idle.carried == set(idle.network.state_dict())
    batch = toys.batch(samples)
    with torch.no_grad():
        outputs = [one.network(batch.pixels, batch.packing) for one in (before.eval(), idle.eval())]
    assert (outputs[0].codes == outputs[1].codes).float().mean() > 0.99
    torch.testing.assert_close(outputs[1].embedded, outputs[0].embedded, rtol=1e-4, atol=1e-4)

    # Without the text loss the language model waits for a run that has it.
    idle.export(tmp_path / "idle")
    after = build(config, replace(inputs, start=str(tmp_path / "idle")), [])
    for name, tensor in before.mllm.state_dict().items():
        assert torch.equal(after.mllm.state_dict()[name], tensor), name

    other = (
        replace(config, levels=(8, 8, 8))
        if codebook_size is None
        else replace(config, codebook_size=100)
    )
    with pytest.raises(ModelError, match=r"it has codes of levels .*, this run of"):
        build(other, inputs, [])


def test_simvq_codes_are_saved_and_read(toys, config, samples, proximal, tmp_path):
    config = replace(config, codebook_size=200, text_weight=0.0)
    stage = QuantizeStage(config, proximal.network, toys.company()).eval()
    stage.export(tmp_path)
    tokenizer = viq.load(tmp_path / "tokenizer")
    codes = tokenizer.encode(samples[0].images[0])
    assert codes.levels == (200,)
    codes.save(tmp_path / "one.viq")
    again = viq.Codes.load(tmp_path / "one.viq")
    assert tokenizer.decode(again).size == samples[0].images[0].size
    batch = toys.batch([samples[0]])
    with torch.no_grad():
        output = stage.network(batch.pixels, batch.packing)
    torch.testing.assert_close(tokenizer.embed(again), output.embedded, rtol=1e-4, atol=1e-5)


def test_what_cannot_be_started_from(toys, config, samples, proximal_run, tower_run, tmp_path):
    config = replace(config, text_weight=0.0)
    with pytest.raises(InputError, match="the proximal tokenizer to start from is missing: give"):
        build(config, Inputs(teacher=tower_run), [])
    stage = build(config, Inputs(start=proximal_run, teacher=tower_run), [])
    with pytest.raises(InputError, match="principal axes are taken from the first training"):
        stage.begin([])
    plain = replace(config, principal_axes=False)
    assert build(plain, Inputs(start=proximal_run, teacher=tower_run), []).validation is None
    assert build(
        config, Inputs(start=tower_run, teacher=tower_run, vae=f"{proximal_run}/tokenizer"), []
    )
    network = fold(build(plain, Inputs(start=proximal_run, teacher=tower_run), []).network)
    poolless = Network(replace(network.config, pool=None))
    Tokenizer.from_network(poolless, ImageConfig()).save_pretrained(tmp_path / "other")
    with pytest.raises(ModelError, match="it has no attention pool"):
        build(config, Inputs(start=str(tmp_path / "other"), teacher=tower_run), [])


@pytest.mark.slow
@pytest.mark.parametrize("codebook_size", [None, 512])
def test_eight_samples_are_learnt_by_heart(toys, config, proximal, samples, overfit, codebook_size):
    torch.manual_seed(0)
    batch = toys.batch(samples)
    company = toys.company(validation=batch)
    config = replace(config, codebook_size=codebook_size)
    stage = QuantizeStage(config, proximal.network, company)
    stage.initialise_from([batch])
    before = float(stage(batch).sums["recon"].detach()) / 8
    figures = overfit(stage, batch, 400, 3e-3).figures
    assert figures["eval_text"] < 0.05
    assert figures["eval_exact"] == 1
    assert figures["eval_distil"] < 0.02
    assert figures["eval_recon"] < 0.1 * before


def test_the_even_spread_is_a_loss_of_its_own(toys, config, proximal, samples):
    torch.manual_seed(1)
    stage = QuantizeStage(replace(config, even_weight=0.5), proximal.network, toys.company())
    batch = toys.batch(samples)
    sums = stage(batch).sums
    assert stage.weights["even"] == 0.5
    assert 0 < sums["even"] / batch.images < 2
    (gradient,) = torch.autograd.grad(sums["even"], [stage.network.head.reduce.weight])
    assert gradient.abs().sum() > 0


def test_simvq_has_nothing_to_spread(config):
    with pytest.raises(ValueError, match="SimVQ has none"):
        replace(config, codebook_size=64, even_weight=0.1)


def test_the_map_to_pixels_goes_on(toys, config, tmp_path):
    alone = {"patch_weight": 10.0, "distil_weight": 0.0, "text_weight": 0.0}
    start = ProximalConfig(**toys.common, shape=toys.shape, bottleneck=24)
    before = ProximalStage(replace(start, **alone), toys.tower, toys.company())
    torch.nn.init.normal_(before.to_patches.weight)
    before.export(tmp_path)
    inputs = Inputs(start=str(tmp_path))
    after = build(replace(config, **alone), inputs, [])
    assert torch.equal(after.to_patches.weight, before.to_patches.weight)
    (tmp_path / "patches.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ModelError, match=r"patches\.safetensors: the reader of patches does not"):
        build(replace(config, **alone), inputs, [])
