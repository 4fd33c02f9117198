"""Single operations give what the official code gave.

The projector into the language model has a file of its own. The Gaussian bottleneck and the
official centre crop have no counterpart here.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from viq.convert.resize import resize_kernel, resize_positions
from viq.image import to_pixels
from viq.model.encoder import AttentionPool, PoolConfig
from viq.model.head import HeadConfig, HeadlessBlock, QuantizerConfig
from viq.model.latent_head import LatentHead, LatentHeadConfig
from viq.model.layers import Block, ResidualMlp
from viq.model.packing import Packing
from viq.model.positions import (
    PositionGrid,
    RotaryAngles,
    golden_frequencies,
    rotary_angles,
    rotate,
)
from viq.model.quantizers import CODEBOOKS, FSQ, apply_limit
from viq.model.simvq import SimVQ
from viq.training.losses import commitment, distillation, reconstruction

LIMITS = {"none": "none", "l2": "l2", "tanh": "tanh", "l_infinite": "l_inf"}
SCALES = ("1", "0.002")  # of the inputs; at 0.002 the variance is about as small as a norm's eps


def assert_close(found, expected, tolerance=1e-5):
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)


def state(ops, prefix):
    found = {k.removeprefix(prefix): v for k, v in ops.items() if k.startswith(prefix)}
    assert found
    return found


def sizes_of(ops, prefix):
    """The grids (h, w) in the names that begin with ``prefix``, such as theta_2x3."""
    names = [name.removeprefix(prefix) for name in ops if name.startswith(prefix)]
    assert names
    return [tuple(map(int, name.split("x"))) for name in names]


@pytest.mark.parametrize("name", CODEBOOKS)
def test_fsq_rounds(ops, name):
    fsq = FSQ(ops[f"fsq/{name}/levels"].tolist())
    assert fsq.levels == CODEBOOKS[name]
    latents = ops[f"fsq/{name}/z"]
    quantized = fsq(latents)
    assert_close(fsq.bound(latents), ops[f"fsq/{name}/bounded"])
    assert_close(quantized.values, ops[f"fsq/{name}/codes"])
    assert quantized.codes.tolist() == ops[f"fsq/{name}/indices"].tolist()


@pytest.mark.parametrize("name", CODEBOOKS)
def test_fsq_at_zero_and_at_the_ends(ops, name):
    fsq, latents = FSQ(CODEBOOKS[name]), ops[f"fsq/{name}/edge_z"]
    quantized = fsq(latents)
    assert_close(fsq.bound(latents), ops[f"fsq/{name}/edge_bounded"])
    assert_close(quantized.values, ops[f"fsq/{name}/edge_codes"])
    assert quantized.codes.tolist() == ops[f"fsq/{name}/edge_indices"].tolist()


@pytest.mark.parametrize("name", CODEBOOKS)
def test_fsq_gives_values_for_codes(ops, name):
    codes = ops[f"fsq/{name}/decode_indices"]
    assert_close(FSQ(CODEBOOKS[name]).values(codes), ops[f"fsq/{name}/decode_codes"], 1e-7)


@pytest.mark.parametrize("name", CODEBOOKS)
def test_gradients_pass_straight_through_fsq(ops, name):
    latents = ops[f"fsq/{name}/z"].clone().requires_grad_()
    (FSQ(CODEBOOKS[name])(latents).values * ops[f"fsq/{name}/ste_w"]).sum().backward()
    assert_close(latents.grad, ops[f"fsq/{name}/ste_grad"])


@pytest.mark.parametrize("levels", [3, 4, 5, 6, 8])
def test_fsq_changes_at_the_same_latents(ops, levels):
    fsq, where = FSQ((levels,)), f"fsq/threshold/L{levels}/z_"
    exact, digits = ops[where + "f64"], torch.arange(levels - 1)
    assert len(exact) == len(digits)
    # Where exactly the float32 tanh crosses over, by a few last bits, is the processor's.
    for name in ("f32_last_below", "f32_first_above"):
        assert_close(ops[where + name].double(), exact, 1e-6)
    for shift, expected in ((-1e-6, digits), (1e-6, digits + 1)):
        assert torch.equal(fsq((exact + shift).float().unsqueeze(-1)).codes, expected)


@pytest.mark.parametrize("width", [32, 64, 256])
def test_rotary_angles(ops, width):
    prefix = f"rope/hd{width}/"
    frequencies = golden_frequencies(4, width // 2, 0.2, 20.0)
    assert_close(frequencies, ops[prefix + "freqs"])
    for h, w in sizes_of(ops, prefix + "theta_"):
        expected = ops[f"{prefix}theta_{h}x{w}"]
        assert_close(rotary_angles((h, w), frequencies), expected)
    ((h, w),) = sizes_of(ops, prefix + "rot_in_")
    rows = ops[f"{prefix}rot_in_{h}x{w}"]
    angles = RotaryAngles(4, width, 0.2, 20.0, "model")
    rotated = rotate(rows, *angles(Packing.of([(h, w)]), like=rows))
    assert_close(rotated, ops[f"{prefix}rot_out_{h}x{w}"])


@pytest.mark.parametrize("side", [12, 128])
def test_positions_of_grids(ops, side):
    weight = ops[f"pos/G{side}/pos_embed"][0]
    grid = PositionGrid(side, weight.shape[-1])
    grid.weight.data = weight.unflatten(0, (side, side))
    sizes = sizes_of(ops, f"pos/G{side}/resampled_")
    with torch.no_grad():
        packed = grid(Packing.of(sizes))
        for (h, w), rows in zip(sizes, Packing.of(sizes).split(packed), strict=True):
            assert_close(rows, ops[f"pos/G{side}/resampled_{h}x{w}"], 1e-6)


def test_position_grids_and_kernels_are_resized_on_conversion(ops):
    grid = resize_positions(ops["convert/pos24"].unflatten(0, (24, 24)), 128)
    assert_close(grid.flatten(0, 1), ops["convert/pos128_bicubic"], 1e-6)
    kernel = resize_kernel(ops["convert/patch14"], 16)
    assert_close(kernel, ops["convert/patch16_bicubic"], 1e-6)


def test_nothing_is_resized_to_its_own_size(ops):
    grid, kernel = ops["convert/pos24"].unflatten(0, (24, 24)), ops["convert/patch14"]
    assert torch.equal(resize_positions(grid, 24), grid)
    assert torch.equal(resize_kernel(kernel, 14), kernel)
    assert resize_kernel(kernel.bfloat16(), 16).dtype == torch.bfloat16


@pytest.mark.parametrize("name", LIMITS)
def test_limits_and_their_gradients(ops, name):
    weights = state(ops, "limits/state/")
    rows = ops["limits/in"].clone().requires_grad_()
    bottleneck = F.linear(rows, weights["project_in.weight"], weights["project_in.bias"])
    limited = apply_limit(bottleneck, LIMITS[name])
    out = F.linear(limited, weights["project_out.weight"], weights["project_out.bias"])
    (out * ops["limits/w"]).sum().backward()
    assert_close(bottleneck.detach(), ops["limits/bottleneck"])
    assert_close(limited.detach(), ops[f"limits/{name}/limited"])
    assert_close(out.detach(), ops[f"limits/{name}/out"])
    assert_close(rows.grad, ops[f"limits/{name}/grad_in"])


@pytest.mark.parametrize("name", ["l2", "l_infinite", "tanh"])
def test_limits_of_rows_that_are_nearly_zero(ops, name):
    limited = apply_limit(ops["limits/raw/in"], LIMITS[name])
    assert_close(limited, ops[f"limits/raw/{name}"], 1e-6)


@pytest.fixture
def simvq(ops):
    """Gives the quantizer with a limit, and the maps before and after it."""
    weights = state(ops, "simvq/state/")

    def make(limit):
        quantizer = SimVQ(512, 32, limit)
        quantizer.load_state_dict(
            {
                "frozen": weights["frozen_codebook"],
                "transform": weights["code_transform.weight"],
            }
        )
        maps = [
            (weights[f"{n}.weight"], weights[f"{n}.bias"]) for n in ("project_in", "project_out")
        ]
        return quantizer, *maps

    return make


def test_simvq_takes_the_nearest_entry(ops, simvq):
    quantizer, project_in, _ = simvq("none")
    projected = F.linear(ops["simvq/in"], *project_in)
    assert_close(projected, ops["simvq/projected"])
    assert_close(quantizer.codebook.detach(), ops["simvq/codebook"])
    codes = quantizer(projected).codes
    assert codes.tolist() == ops["simvq/indices"].tolist()
    assert_close(quantizer.entries(codes).detach(), ops["simvq/entry_of_indices"])


@pytest.mark.parametrize("name", LIMITS)
def test_simvq_with_a_limit_and_its_gradients(ops, simvq, name):
    quantizer, project_in, project_out = simvq(LIMITS[name])
    rows = ops["simvq/in"].clone().requires_grad_()
    projected = F.linear(rows, *project_in)
    quantized = quantizer(projected)
    out = F.linear(quantized.values, *project_out)
    assert_close(out.detach(), ops[f"simvq/{name}/train_out"])
    values = quantizer.values(quantized.codes)
    assert_close(F.linear(values, *project_out).detach(), ops[f"simvq/{name}/eval_out"])
    packing = Packing.of([(4, 8), (8, 8)])  # as many code tokens as the two images had
    entries = quantizer.entries(quantized.codes)
    commit = commitment(projected[:, None], entries[:, None], packing)
    assert_close(commit.detach(), ops["simvq/commit_loss_per_image"])
    ((out * ops["simvq/w"]).sum() + commit.sum()).backward()
    assert_close(rows.grad, ops[f"simvq/{name}/grad_in"])
    assert_close(quantizer.transform.grad, ops[f"simvq/{name}/grad_code_transform"])


def test_distillation(ops):
    student, teacher = ops["loss/cls/student"].clone().requires_grad_(), ops["loss/cls/teacher"]
    losses = distillation(student, teacher)
    assert_close(losses.mean().detach(), ops["loss/cls/value_nomask"])
    for name in ("all", "some", "none", "soft"):
        mask = ops[f"loss/cls/mask_{name}"]
        total, count = (mask * losses).sum(), mask.sum()
        # The official code divides by the count of real images where there is at least half a one.
        value = total / count if count >= 0.5 else total
        assert_close(value.detach(), ops[f"loss/cls/value_{name}"])
    mask = ops["loss/cls/mask_some"]
    (10 * (mask * losses).sum() / mask.sum()).backward()
    assert_close(student.grad, ops["loss/cls/grad_student_10x_some"])


def test_reconstruction(ops):
    head = official_latent_head(ops)
    packing = Packing.of(ops[f"loss/rec/grid_{i}"].tolist() for i in range(4))
    rows = torch.cat([ops[f"loss/rec/feat_{i}"] for i in range(4)]).requires_grad_()
    latents = head.to_latents(rows, packing)
    means, logvars = zip(*(ops[f"loss/rec/vae_params_{i}"].chunk(2) for i in range(4)), strict=True)
    losses = reconstruction(latents, means)
    totals = []
    for i, (latent, mean, logvar) in enumerate(zip(latents, means, logvars, strict=True)):
        assert_close(losses[i].detach(), ops[f"loss/rec/mse_{i}"])
        # There 1e-13 of a likelihood is added, which counts where the variance is next to none.
        logvar = logvar.clamp(-30, 20)
        nll = math.log(2 * math.pi) + logvar + (latent - mean) ** 2 / logvar.exp()
        totals.append(losses[i] + 1e-13 * (nll.sum((0, 1)) / 2).mean())
        assert_close(totals[i].detach(), ops[f"loss/rec/total_{i}"])
    # There image 1 is left out, a small square, which is taken for a placeholder.
    assert ops["loss/rec/images_all"].tolist() == [0, 1, 2, 3]
    value = torch.stack([totals[i] for i in (0, 2, 3)]).mean()
    assert_close(value.detach(), ops["loss/rec/value_all"])
    value.backward()
    assert_close(rows.grad, ops["loss/rec/grad_feat_all"])


@pytest.mark.parametrize("scale", SCALES)
def test_block(ops, scale):
    block = Block(64, 16, 256)
    block.load_state_dict(state(ops, "unit/block/state/"))
    rows = ops[f"unit/block/in_{scale}"]
    with torch.no_grad():
        packed = block(rows, Packing.of([(2, 3), (3, 3)]))
        whole = block(rows, Packing.of([(3, 5)]))
    assert_close(packed, ops[f"unit/block/out_packed_6_9_{scale}"])
    assert_close(whole, ops[f"unit/block/out_dense_{scale}"])


@pytest.mark.parametrize("scale", SCALES)
def test_headless_block(ops, scale):
    config = HeadConfig(
        width=64,
        attention_heads=16,
        mlp_width=256,
        depth=0,
        code_heads=4,
        code_width=64,
        expand_width=256,
        refine=True,
        code_depth=1,
        code_mlp_width=256,
        rope_width=32,
        quantizer=QuantizerConfig(levels=(3,)),
    )
    block = HeadlessBlock(config)
    weights = state(ops, "unit/headless/state/")
    names = (("decrease_dim", "reduce"), ("increase_dim", "expand"))
    for theirs, ours in names:
        weights = {name.replace(theirs, ours): tensor for name, tensor in weights.items()}
    block.load_state_dict(weights)
    packing, tokens = Packing.of([(2, 3), (3, 3)]), ops[f"unit/headless/in_{scale}"].view(15, 4, 64)
    angles = RotaryAngles(4, 32, config.rope_min_freq, config.rope_max_freq, "model")
    with torch.no_grad():
        out = block(tokens, packing, angles(packing, like=tokens))
    assert_close(out.flatten(0, 1), ops[f"unit/headless/out_2x3_3x3_{scale}"])


@pytest.mark.parametrize("scale", SCALES)
def test_residual_mlp(ops, scale):
    mlp = ResidualMlp(64, 128)
    mlp.load_state_dict(state(ops, "unit/residual_mlp/state/"))
    with torch.no_grad():
        out = mlp(ops[f"unit/residual_mlp/in_{scale}"])
    assert_close(out, ops[f"unit/residual_mlp/out_{scale}"])


def test_attention_pool(ops):
    pool = AttentionPool(PoolConfig(width=64, attention_heads=16, mlp_width=256))
    weights = state(ops, "unit/attn_pool/state/")
    weights = {name.replace("norm.", "mlp_norm."): tensor for name, tensor in weights.items()}
    weights["latent"] = weights["latent"][0]
    pool.norm = nn.Identity()  # there it is not a part of the pool
    pool.load_state_dict(weights)
    with torch.no_grad():
        out = pool(ops["unit/attn_pool/in"].flatten(0, 1), Packing.of([(1, 11), (11, 1)]))
    assert_close(out, ops["unit/attn_pool/out"])


def official_latent_head(ops):
    head = LatentHead(
        LatentHeadConfig(width=64, attention_heads=16, mlp_width=256, depth=0, adapter_width=None)
    )
    weights = state(ops, "loss/rec/state/")
    for theirs, ours in (("conv_norm_out", "conv_norm"), ("conv_out", "conv")):
        part = {k.removeprefix(f"{theirs}."): v for k, v in weights.items() if theirs in k}
        getattr(head, ours).load_state_dict(part)
    return head


@pytest.mark.parametrize("index", range(4))
def test_latents_of_a_feature_map(ops, index):
    head = official_latent_head(ops)
    h, w = ops[f"loss/rec/grid_{index}"].tolist()
    with torch.no_grad():
        latents = head.to_latents(ops[f"loss/rec/feat_{index}"], Packing.of([(h, w)]))[0]
    assert_close(latents, ops[f"loss/rec/latent_{index}"])


def test_pixels_of_pictures(ops):
    names = [n.removesuffix("/crop_u8") for n in ops if n.endswith("/crop_u8")]
    assert len(names) == 4
    for name in names:
        picture = Image.fromarray(ops[f"{name}/crop_u8"].numpy())
        assert_close(to_pixels(picture), ops[f"{name}/float"], 1e-6)
