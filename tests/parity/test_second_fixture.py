"""Checkpoints of other sizes than the golden one, against a second forward pass in plain torch.

The forward pass here takes one image at a time and the released names as they are. It was written
from the description of the official architecture and shares no code with the package.
"""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLQwenImage

from viq.convert.official import convert_official

HEADS, CODE_HEADS, PATCH = 16, 4, 16
LOW = "fusion_block.vq_low"


@dataclass(frozen=True)
class Sizes:
    width: int
    depth: int
    mlp: int
    side: int
    levels: tuple[int, ...]
    head_depth: int
    code_depth: int
    code_mlp: int
    narrow: int | None  # width of the attention in code blocks; None: not narrowed
    expand: int
    merge: int
    residual_depth: int
    residual: int
    adapter_depth: int
    vae_base: int
    vae_mult: tuple[int, ...]
    vae_blocks: int
    vae_time: tuple[bool, ...]


SIZES = {
    "64k": Sizes(
        width=96,
        depth=3,
        mlp=360,
        side=10,
        levels=(8, 8, 8, 5, 5, 5),
        head_depth=2,
        code_depth=2,
        code_mlp=200,
        narrow=None,
        expand=384,
        merge=320,
        residual_depth=2,
        residual=192,
        adapter_depth=2,
        vae_base=12,
        vae_mult=(1, 2, 2, 4),
        vae_blocks=1,
        vae_time=(True, False, True),
    ),
    "2k": Sizes(
        width=64,
        depth=1,
        mlp=192,
        side=5,
        levels=(8, 8, 4, 3, 3),
        head_depth=3,
        code_depth=3,
        code_mlp=256,
        narrow=16,
        expand=256,
        merge=256,
        residual_depth=3,
        residual=128,
        adapter_depth=3,
        vae_base=4,
        vae_mult=(1, 2, 4, 4),
        vae_blocks=2,
        vae_time=(False, True, True),
    ),
}
IMAGE_SIZES = ((96, 80), (33, 150), (16, 112), (160, 160), (48, 176))


# A random checkpoint.


def make_model(sizes, seed):
    """The largest released file: random float32 tensors whose values are bfloat16's."""
    c, k = sizes.width, len(sizes.levels)
    t = {}

    def linear(name, inside, outside):
        t[f"{name}.weight"], t[f"{name}.bias"] = (outside, inside), (outside,)

    def norm(name, width=c):
        t[f"{name}.weight"], t[f"{name}.bias"] = (width,), (width,)

    def mlp(name, inside, hidden, outside):
        linear(f"{name}.fc1", inside, hidden)
        linear(f"{name}.fc2", hidden, outside)

    def block(name, hidden):
        norm(f"{name}.norm1")
        norm(f"{name}.norm2")
        linear(f"{name}.attn.qkv", c, 3 * c)
        linear(f"{name}.attn.proj", c, c)
        mlp(f"{name}.mlp", c, hidden, c)

    t["pos_embed"] = (1, sizes.side**2, c)
    t["patch_embed.proj.weight"], t["patch_embed.proj.bias"] = (c, 3, PATCH, PATCH), (c,)
    for i in range(sizes.depth):
        block(f"blocks.{i}", sizes.mlp)
    norm("norm")
    t["attn_pool.latent"] = (1, 1, c)
    for name, outside in (("q", c), ("kv", 2 * c), ("proj", c)):
        linear(f"attn_pool.{name}", c, outside)
    norm("attn_pool.norm")
    mlp("attn_pool.mlp", c, sizes.mlp, c)
    for i in range(sizes.head_depth):
        block(f"{LOW}_preprocess_layers.{i}", sizes.mlp)
    mlp(f"{LOW}_pre_token_shuffle_head", c, sizes.expand, CODE_HEADS * c)
    mlp(f"{LOW}_post_token_shuffle_head", c, c, c)
    for i in range(sizes.code_depth):
        name, narrow = f"{LOW}.fsq_pre_attn.{i}", sizes.narrow or c
        norm(f"{name}.norm1")
        norm(f"{name}.norm2")
        if sizes.narrow:
            linear(f"{name}.attn.decrease_dim", c, narrow)
            linear(f"{name}.attn.increase_dim", narrow, c)
        linear(f"{name}.attn.qkv", narrow, 3 * narrow)
        linear(f"{name}.attn.proj", narrow, narrow)
        mlp(f"{name}.mlp", c, sizes.code_mlp, c)
    linear(f"{LOW}.project_in", c, k)
    linear(f"{LOW}.project_out", k, c)
    mlp(f"{LOW}_inverse_token_shuffle_head", CODE_HEADS * c, sizes.merge, c)
    mlp(f"{LOW}_postprocess_layers.0", c, c, c)
    for i in range(1, sizes.residual_depth + 1):
        norm(f"{LOW}_postprocess_layers.{i}.norm")
        mlp(f"{LOW}_postprocess_layers.{i}.mlp", c, sizes.residual, c)
    t[f"{LOW}_norm_trick_post_quantize_affine_weight"] = (c,)
    t[f"{LOW}_norm_trick_post_quantize_affine_bias"] = (c,)
    mlp("vae_preprocess_layers.0", c, c, c)
    norm("vae_preprocess_layers.1")
    for i in range(2, sizes.adapter_depth + 2):
        block(f"vae_preprocess_layers.{i}", sizes.mlp)
    norm("vae_head.conv_norm_out")
    t["vae_head.conv_out.weight"], t["vae_head.conv_out.bias"] = (64, c, 3, 3), (64,)
    vae = AutoencoderKLQwenImage(
        base_dim=sizes.vae_base,
        dim_mult=list(sizes.vae_mult),
        num_res_blocks=sizes.vae_blocks,
        temperal_downsample=list(sizes.vae_time),
    )
    t |= {f"vae_head.vae.{name}": tuple(x.shape) for name, x in vae.state_dict().items()}

    generator = torch.Generator().manual_seed(seed)

    def random(name, shape):
        noise = torch.randn(shape, generator=generator)
        if name.endswith("gamma") or (len(shape) == 1 and name.endswith("weight")):
            return 1 + 0.2 * noise
        if len(shape) == 1:
            return 0.1 * noise
        if name in ("pos_embed", "attn_pool.latent"):
            return noise
        return noise * math.prod(shape[1:]) ** -0.5

    tensors = {name: random(name, shape) for name, shape in t.items()}
    tensors[f"{LOW}.project_in.weight"] *= 2  # so that all levels occur
    return {name: tensor.bfloat16().float() for name, tensor in tensors.items()}


def grid_values(codes, levels):
    """Values (N, d) of codes (N,); the first dimension is the least significant digit."""
    columns = []
    for level in levels:
        columns.append((codes % level - level // 2) / (level // 2))
        codes = codes // level
    return torch.stack(columns, dim=-1)


def write_released(folder, model, sizes):
    """The three files; the two smaller ones in bfloat16, as they are released."""
    torch.save(model, folder / "model_viq_fsq_test.pth")
    short = {
        f"{LOW}.project_out": "projector_1",
        f"{LOW}_inverse_token_shuffle_head": "projector_2",
        f"{LOW}_postprocess_layers": "projector_3",
        f"{LOW}_norm_trick_post_quantize_affine": "",
    }
    embedder = {
        name.replace(long, new): tensor.bfloat16()
        for long, new in short.items()
        for name, tensor in model.items()
        if name.startswith(long)
    }
    codes = torch.arange(math.prod(sizes.levels))
    embedder["ori_codebook.weight"] = grid_values(codes, sizes.levels).bfloat16()
    drawer = embedder | {
        name: tensor.bfloat16()
        for name, tensor in model.items()
        if name.startswith(("vae_preprocess_layers", "vae_head"))
    }
    torch.save(embedder, folder / "embedder.pth")
    torch.save(drawer, folder / "index_drawer.pth")
    (folder / "README.md").write_text("not a weight file")


def write_trained(path, model, sizes, *, prefix, with_codebook):
    """The file of training, with things in it that are not the tokenizer's."""
    back = (
        (f"{LOW}.", "dualvq_head.vq_low.fsq."),  # as the wrapped variant has it
        ("fusion_block.", "dualvq_head."),
        ("vae_preprocess_layers.", "movq_preprocess_layers."),
        ("vae_head.", "movq_head."),
    )
    tensors = {}
    for name, tensor in model.items():
        for released, original in back:
            if name.startswith(released):
                name = original + name.removeprefix(released)
        tensors[prefix + name] = tensor
    if with_codebook:
        codes = torch.arange(math.prod(sizes.levels))
        grid = grid_values(codes, sizes.levels)
        tensors[f"{prefix}dualvq_head.vq_low.fsq.implicit_codebook"] = grid.bfloat16()
    else:
        levels = torch.tensor(sizes.levels, dtype=torch.int32)
        tensors[f"{prefix}dualvq_head.vq_low.fsq._levels"] = levels
    for name in ("zero", "dualvq_head.zero", "movq_head.global_step"):
        tensors[prefix + name] = torch.tensor(0)
    tensors[f"{prefix}movq_head.perceptual_loss.lin0.weight"] = torch.ones(2)
    tensors[f"{prefix}movq_head.vae_cpu.decoder.conv_in.bias"] = torch.ones(2)
    for name in ("vision_tower_teacher.norm.weight", "mm_projector.proj1.weight"):
        tensors[prefix.split("vision_tower")[0] + name] = torch.ones(2)
    torch.save(tensors, path)


# The second forward pass.


class Reference:
    """All in float64, so that what differs is the rounding of the package alone."""

    def __init__(self, tensors, sizes):
        self.t = {name: tensor.double() for name, tensor in tensors.items()}
        self.sizes = sizes

    def linear(self, name, x):
        return F.linear(x, self.t[f"{name}.weight"], self.t[f"{name}.bias"])

    def mlp(self, name, x):
        return self.linear(f"{name}.fc2", F.gelu(self.linear(f"{name}.fc1", x)))

    def norm(self, name, x, eps):
        return F.layer_norm(x, x.shape[-1:], self.t[f"{name}.weight"], self.t[f"{name}.bias"], eps)

    def block(self, name, x):
        n, c = x.shape
        qkv = self.linear(f"{name}.attn.qkv", self.norm(f"{name}.norm1", x, 1e-6))
        q, k, v = qkv.reshape(n, 3, HEADS, c // HEADS).permute(1, 2, 0, 3)
        weights = (q @ k.transpose(1, 2) / math.sqrt(c // HEADS)).softmax(-1)
        x = x + self.linear(f"{name}.attn.proj", (weights @ v).transpose(0, 1).reshape(n, c))
        return x + self.mlp(f"{name}.mlp", self.norm(f"{name}.norm2", x, 1e-6))

    def features(self, image):
        """Last block's output (N, C) of an image (3, H, W), and its grid."""
        bottom, right = -image.shape[1] % PATCH, -image.shape[2] % PATCH
        image = F.pad(image.double(), (0, right, 0, bottom))
        kernel, bias = self.t["patch_embed.proj.weight"], self.t["patch_embed.proj.bias"]
        x = F.conv2d(image[None], kernel, bias, stride=PATCH)
        h, w = x.shape[2:]
        side = self.sizes.side
        grid = self.t["pos_embed"].reshape(1, side, side, -1).permute(0, 3, 1, 2)
        x = x + F.interpolate(grid, (h, w), mode="bilinear", align_corners=False)
        x = x.flatten(2)[0].T
        for i in range(self.sizes.depth):
            x = self.block(f"blocks.{i}", x)
        return x, (h, w)

    def pool(self, x):
        x = self.norm("norm", x, 1e-6)
        c = x.shape[1]
        q = self.linear("attn_pool.q", self.t["attn_pool.latent"][0]).reshape(HEADS, 1, -1)
        k, v = self.linear("attn_pool.kv", x).reshape(-1, 2, HEADS, c // HEADS).permute(1, 2, 0, 3)
        weights = (q @ k.transpose(1, 2) / math.sqrt(c // HEADS)).softmax(-1)
        x = self.linear("attn_pool.proj", (weights @ v).reshape(1, c))
        return (x + self.mlp("attn_pool.mlp", self.norm("attn_pool.norm", x, 1e-6)))[0]

    def theta(self, grid, head_dim):
        (h, w), count = grid, head_dim // 2
        zeros = round(0.25 * count)
        theta = torch.zeros(h, w, CODE_HEADS, count, dtype=torch.float64)
        xs = np.linspace(-math.sqrt(w / h), math.sqrt(w / h), w)
        ys = np.linspace(-math.sqrt(h / w), math.sqrt(h / w), h)
        for head in range(CODE_HEADS):
            for f in range(zeros, count):
                omega = 0.2 * 100 ** ((f - zeros) / (count - zeros - 1))
                angle = (count * head + f) * math.pi * (math.sqrt(5) - 1) / 2
                for i, y in enumerate(ys):
                    for j, x in enumerate(xs):
                        theta[i, j, head, f] = omega * (math.cos(angle) * x + math.sin(angle) * y)
        return theta.reshape(h * w, CODE_HEADS, count)

    def code_block(self, name, x, theta):
        """Code tokens (4 N, C), token 4 n + k; those of one k attend to each other."""
        y = self.norm(f"{name}.norm1", x, 1e-6)
        if self.sizes.narrow:
            y = self.linear(f"{name}.attn.decrease_dim", y)
        d = y.shape[-1]
        qkv = self.linear(f"{name}.attn.qkv", y).reshape(-1, CODE_HEADS, 3, d)
        outs = []
        for k in range(CODE_HEADS):
            query, key, value = qkv[:, k].unbind(1)
            cos, sin = theta[:, k].cos(), theta[:, k].sin()

            def turn(rows, cos=cos, sin=sin):
                a, b = rows[:, : d // 2], rows[:, d // 2 :]
                return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=1)

            weights = (turn(query) @ turn(key).T / math.sqrt(d)).softmax(-1)
            outs.append(weights @ value)
        y = self.linear(f"{name}.attn.proj", torch.stack(outs, dim=1).reshape(-1, d))
        if self.sizes.narrow:
            y = self.linear(f"{name}.attn.increase_dim", y)
        x = x + y
        return x + self.mlp(f"{name}.mlp", self.norm(f"{name}.norm2", x, 1e-6))

    def latents(self, x, grid):
        """Values before rounding (4 N, d)."""
        c = x.shape[1]
        x = F.layer_norm(x, (c,), eps=1e-5)
        for i in range(self.sizes.head_depth):
            x = self.block(f"{LOW}_preprocess_layers.{i}", x)
        x = self.mlp(f"{LOW}_pre_token_shuffle_head", x)
        x = torch.stack([x[:, k * c : (k + 1) * c] for k in range(CODE_HEADS)], dim=1)
        x = self.mlp(f"{LOW}_post_token_shuffle_head", x.reshape(-1, c))
        theta = self.theta(grid, self.sizes.narrow or c)
        for i in range(self.sizes.code_depth):
            x = self.code_block(f"{LOW}.fsq_pre_attn.{i}", x, theta)
        return self.linear(f"{LOW}.project_in", x)

    def quantize(self, latents):
        """Codes (4 N,), and how near the nearest rounding threshold is (4 N,)."""
        codes, basis, margins = 0, 1, []
        for j, level in enumerate(self.sizes.levels):
            half, offset = (level - 1) * 1.001 / 2, 0.5 if level % 2 == 0 else 0.0
            shift = math.atanh(offset / half)
            bounded = torch.tanh(latents[:, j] + shift) * half - offset
            rounded = bounded.round()
            margins.append(0.5 - (bounded - rounded).abs())
            codes = codes + basis * (rounded.long() + level // 2)
            basis *= level
        return codes, torch.stack(margins).amin(0)

    def embed(self, codes):
        """Features (N, C) of codes (4 N,)."""
        values = grid_values(codes, self.sizes.levels)
        x = self.linear(f"{LOW}.project_out", values.double())
        x = self.mlp(f"{LOW}_inverse_token_shuffle_head", x.reshape(len(codes) // 4, -1))
        x = self.mlp(f"{LOW}_postprocess_layers.0", x)
        for i in range(1, self.sizes.residual_depth + 1):
            name = f"{LOW}_postprocess_layers.{i}"
            x = x + self.mlp(f"{name}.mlp", self.norm(f"{name}.norm", x, 1e-5))
        affine = f"{LOW}_norm_trick_post_quantize_affine"
        return x * self.t[f"{affine}_weight"] + self.t[f"{affine}_bias"]

    def vae_latents(self, x, grid):
        h, w = grid
        x = self.norm("vae_preprocess_layers.1", self.mlp("vae_preprocess_layers.0", x), 1e-6)
        for i in range(2, self.sizes.adapter_depth + 2):
            x = self.block(f"vae_preprocess_layers.{i}", x)
        name, conv = "vae_head.conv_norm_out", "vae_head.conv_out"
        x = x.T.reshape(1, -1, h, w)
        x = F.group_norm(x, 32, self.t[f"{name}.weight"], self.t[f"{name}.bias"], 1e-6)
        x = F.conv2d(F.silu(x), self.t[f"{conv}.weight"], self.t[f"{conv}.bias"], padding=1)
        x = x.reshape(16, 2, 2, h, w).permute(0, 3, 1, 4, 2)
        return x.reshape(16, 2 * h, 2 * w)

    # The decoder of the VAE as a network for pictures: of three frames, only the last is there.

    def conv(self, name, x):
        kernel = self.t[f"vae_head.vae.{name}.weight"]
        if kernel.ndim == 5:
            kernel = kernel[:, :, -1]
        bias = self.t[f"vae_head.vae.{name}.bias"]
        return F.conv2d(x, kernel, bias, padding=kernel.shape[-1] // 2)

    def rms(self, name, x):
        gamma = self.t[f"vae_head.vae.{name}.gamma"].reshape(-1, 1, 1)
        return F.normalize(x, dim=1) * x.shape[1] ** 0.5 * gamma

    def residual(self, name, x):
        y = self.conv(f"{name}.conv1", F.silu(self.rms(f"{name}.norm1", x)))
        y = self.conv(f"{name}.conv2", F.silu(self.rms(f"{name}.norm2", y)))
        if f"vae_head.vae.{name}.conv_shortcut.weight" in self.t:
            x = self.conv(f"{name}.conv_shortcut", x)
        return x + y

    def decode(self, latents):
        x = self.conv("decoder.conv_in", self.conv("post_quant_conv", latents[None]))
        x = self.residual("decoder.mid_block.resnets.0", x)
        name = "decoder.mid_block.attentions.0"
        q, k, v = self.conv(f"{name}.to_qkv", self.rms(f"{name}.norm", x)).flatten(2)[0].chunk(3)
        weights = (q.T @ k / math.sqrt(len(q))).softmax(-1)
        x = x + self.conv(f"{name}.proj", (v @ weights.T).reshape(x.shape))
        x = self.residual("decoder.mid_block.resnets.1", x)
        for i in range(4):
            for j in range(self.sizes.vae_blocks + 1):
                x = self.residual(f"decoder.up_blocks.{i}.resnets.{j}", x)
            if i < 3:
                x = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
                x = self.conv(f"decoder.up_blocks.{i}.upsamplers.0.resample.1", x)
        x = self.conv("decoder.conv_out", F.silu(self.rms("decoder.norm_out", x)))
        return x[0].clamp(-1, 1)


@pytest.fixture(scope="module", params=SIZES)
def sizes(request):
    return SIZES[request.param]


@pytest.fixture(scope="module")
def model(sizes):
    return make_model(sizes, seed=sizes.width)


@pytest.fixture(scope="module")
def folder(sizes, model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("released")
    write_released(folder, model, sizes)
    return folder


@pytest.fixture(scope="module")
def tokenizer(folder):
    return convert_official(folder)


@pytest.fixture(scope="module")
def images():
    generator = torch.Generator().manual_seed(3)
    images = []
    for height, width in IMAGE_SIZES:
        coarse = torch.rand(1, 3, 5, 4, generator=generator)
        smooth = F.interpolate(coarse, (height, width), mode="bilinear")[0]
        noise = torch.rand(3, height, width, generator=generator)
        images.append((smooth + 0.5 * noise) / 1.5 * 2 - 1)
    return images


def assert_close(found, expected):
    assert found.shape == expected.shape
    scale = max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-4 * scale)


def test_sizes_are_read_off_the_tensors(tokenizer, sizes):
    network = tokenizer.config.network
    assert network.encoder.position_side == sizes.side
    assert network.encoder.depth == sizes.depth
    assert network.encoder.mlp_width == sizes.mlp
    assert network.head.quantizer.levels == sizes.levels
    assert network.head.rope_width == (sizes.narrow or sizes.width)
    assert network.head.expand_width == sizes.expand
    assert (network.embedder.depth, network.embedder.merge_width) == (
        sizes.residual_depth,
        sizes.merge,
    )
    assert network.latent_head.depth == sizes.adapter_depth
    vae = tokenizer.vae().autoencoder.config
    assert (vae.base_dim, tuple(vae.dim_mult)) == (sizes.vae_base, sizes.vae_mult)
    assert (vae.num_res_blocks, tuple(vae.temperal_downsample)) == (
        sizes.vae_blocks,
        sizes.vae_time,
    )


def test_everything_is_float32_though_some_files_are_bfloat16(tokenizer):
    names = ("encoder", "pool", "head", "embedder", "latent_head")
    parts = [*(tokenizer.part(name) for name in names), tokenizer.vae()]
    assert {p.dtype for part in parts for p in part.parameters()} == {torch.float32}


@pytest.mark.parametrize("with_codebook", [True, False])
@pytest.mark.parametrize(
    "prefix",
    [
        "base_model.model.model.vision_tower.vision_tower.",
        "model.vision_tower.vision_tower.",
    ],
)
def test_training_checkpoints_give_the_same(
    tokenizer, model, sizes, tmp_path, prefix, with_codebook
):
    path = tmp_path / "vision_tower.pth"
    write_trained(path, model, sizes, prefix=prefix, with_codebook=with_codebook)
    trained = convert_official(path)
    assert trained.config == tokenizer.config
    assert trained.fingerprint == tokenizer.fingerprint


def test_bfloat16_holds_the_same_values(folder, tokenizer):
    half = convert_official(folder, dtype=torch.bfloat16)
    assert half.dtype == torch.bfloat16
    assert half.fingerprint == tokenizer.fingerprint
    assert half.part("encoder").patch_embed.weight.dtype == torch.bfloat16


def test_codes_features_and_pixels(tokenizer, model, sizes, images):
    reference = Reference(model, sizes)
    codes = tokenizer.encode(images)
    features, latents = tokenizer.features(images), tokenizer.latents(images)
    embedded, vae_latents = tokenizer.embed(codes), tokenizer.vae_latents(codes)
    of_images, of_codes = tokenizer.pooled(images), tokenizer.pooled(codes)
    compared = total = 0
    digits = [set() for _ in sizes.levels]
    for i, image in enumerate(images):
        expected, grid = reference.features(image)
        assert codes[i].grid_size == grid
        assert_close(features[i], expected)
        assert_close(of_images[i], reference.pool(expected))
        expected = reference.latents(expected, grid)
        assert_close(latents[i].flatten(0, 1), expected)
        expected, margins = reference.quantize(expected)
        found = torch.from_numpy(codes[i].values.astype("int64")).flatten()
        safe = margins > 1e-3
        assert torch.equal(found[safe], expected[safe])
        compared, total = compared + int(safe.sum()), total + len(found)
        for values, column in zip(digits, grid_values(found, sizes.levels).T, strict=True):
            values.update(column.tolist())
        expected = reference.embed(found)
        assert_close(embedded[i], expected)
        assert_close(of_codes[i], reference.pool(expected))
        expected = reference.vae_latents(expected, grid)
        assert_close(vae_latents[i], expected)
        with torch.inference_mode():
            pixels = tokenizer.vae().decode(vae_latents[i][None])[0]
        assert_close(pixels, reference.decode(expected))
        assert float(pixels.std()) > 0.01
    assert compared > 0.95 * total
    assert tuple(map(len, digits)) == sizes.levels
