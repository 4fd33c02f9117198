"""The checkpoints of the paper's authors (https://github.com/yuxumin/ViQ), as a ``Tokenizer``.

They come in two forms: the three released files of one size, in a folder, and the single file that
training writes, ``vision_tower.pth``. Neither says its own architecture, so all sizes are read off
the tensors; only the numbers of attention heads and of code heads leave no trace there, and are
the same in all of them.

Axes: K codebook size, d code dimensions, S patches on a side of the position grid, C width,
P pixels on a side of a patch.
"""

from math import isqrt, prod
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from viq.convert.resize import resize_kernel
from viq.convert.tensors import Rules, Tensors, load_parts, read_tensors, rename
from viq.errors import ConversionError
from viq.external.vae import Vae
from viq.image import ImageConfig
from viq.model.embedder import EmbedderConfig
from viq.model.encoder import EncoderConfig, PoolConfig
from viq.model.head import HeadConfig, QuantizerConfig
from viq.model.latent_head import LatentHeadConfig
from viq.model.network import Network, NetworkConfig
from viq.model.quantizers import FSQ
from viq.tokenizer import Tokenizer

ATTENTION_HEADS = 16
CODE_HEADS = 4
PATCH_SIZE = 16

# The released files. The first has everything; the others repeat what their users need.
MODEL, EMBEDDER, DRAWER = "model_viq_fsq_*.pth", "embedder.pth", "index_drawer.pth"
CODEBOOK = "ori_codebook.weight"

# What a training checkpoint's names begin with, with and without adapters in the language model.
PREFIXES = (
    "base_model.model.model.vision_tower.vision_tower.",
    "model.vision_tower.vision_tower.",
)
# What training calls by other names than the released files; in this order.
RENAMED = (("dualvq_head.", "fusion_block."), ("movq", "vae"), ("vq_low.fsq.", "vq_low."))
# Buffers of a training checkpoint that no result depends on.
DROPPED = {
    "zero",
    "fusion_block.zero",
    "fusion_block.vq_high.zero",
    "fusion_block.vq_low.zero",
    "fusion_block.vq_low._basis",
    "vae_head.global_step",
}

# The encoder and the pool have timm's names.
TIMM_RULES: Rules = (
    ("encoder.positions.weight", "pos_embed"),
    ("encoder.patch_embed.", "patch_embed.proj."),
    ("encoder.blocks.", "blocks."),
    ("pool.norm.", "norm."),
    ("pool.mlp_norm.", "attn_pool.norm."),
    ("pool.", "attn_pool."),
)


class _Blank(NamedTuple):
    """A network of the right sizes, without weights."""

    network: Network
    vae: Vae

    @property
    def parts(self) -> dict[str, nn.Module]:
        return {**dict(self.network.named_children()), "vae": self.vae.autoencoder}


def convert_official(path: Path | str, *, dtype: torch.dtype = torch.float32) -> Tokenizer:
    """Converts a folder with the three released files, or a ``vision_tower.pth``.

    Args:
        path: the folder, whose other files do not matter, or the file.
        dtype: of the result.

    Raises:
        ConversionError: a file is missing or damaged; or a tensor is missing, left over, of the
            wrong shape, or not the same in all released files.
    """
    path = Path(path)
    blank, tensors = _released(path) if path.is_dir() else _trained(path)
    load_parts(blank.parts, tensors)
    # The authors pad with zeros, which are mid-grey.
    image = ImageConfig(patch_size=PATCH_SIZE, padding="zero")
    return Tokenizer.from_network(blank.network.to(dtype), image, blank.vae.to(dtype))


def _released(folder: Path) -> tuple[_Blank, dict[str, Tensor]]:
    """The three files, each of which must be whole and repeat what the others say."""
    model_path = _model_file(folder)
    model = with_own_layout(read_tensors(model_path))
    embedder, drawer = read_tensors(folder / EMBEDDER), read_tensors(folder / DRAWER)
    levels = _take_levels(embedder, CODEBOOK)
    if _take_levels(drawer, CODEBOOK) != levels:
        raise drawer.error(f"not the same as in {EMBEDDER}", [CODEBOOK])
    blank = _blank(model, levels)
    tensors = model.match(blank.parts, model_rules(blank.network.config))
    for file, names in (drawer, ("embedder", "latent_head", "vae")), (embedder, ("embedder",)):
        rules = _short_rules(blank.network.config)
        copies = file.match({name: blank.parts[name] for name in names}, rules)
        # The other files are stored in bfloat16, this one may be in float32.
        differ = [
            rename(name, rules)
            for name, copy in copies.items()
            if not torch.equal(copy.bfloat16(), tensors[name].bfloat16())
        ]
        if differ:
            raise file.error(f"not the same as in {model_path.name}", differ)
        tensors |= copies
    return blank, tensors


def _model_file(folder: Path) -> Path:
    """The largest of the three files, all of which must be there."""
    found = sorted(folder.glob(MODEL))
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise ConversionError(f"several released sizes ({names}); keep one a folder", folder)
    missing = [] if found else [MODEL]
    missing += [name for name in (EMBEDDER, DRAWER) if not (folder / name).is_file()]
    if missing:
        raise ConversionError(f"no {' and no '.join(missing)} here", folder)
    return found[0]


def _trained(path: Path) -> tuple[_Blank, dict[str, Tensor]]:
    """The file that training writes, which has more in it than the tokenizer."""
    tensors = _vision_tower(read_tensors(path))
    kernel = "patch_embed.proj.weight"
    tensors[kernel] = resize_kernel(tensors.with_axes(kernel, 4), PATCH_SIZE)
    levels = _take_levels(tensors, "fusion_block.vq_low.implicit_codebook")
    tensors = with_own_layout(tensors)
    for name in DROPPED & set(tensors):
        del tensors[name]
    blank = _blank(tensors, levels)
    return blank, tensors.match(blank.parts, model_rules(blank.network.config))


def _vision_tower(file: Tensors) -> Tensors:
    """The tokenizer's tensors of a training checkpoint, by their released names."""
    prefix = next((p for p in PREFIXES if any(name.startswith(p) for name in file)), None)
    if prefix is None:
        raise ConversionError(
            f"not a training checkpoint: no tensor's name begins with {PREFIXES[0]};"
            " released files are converted by the folder that they are in",
            file.source,
        )
    originals: dict[str, str] = {}
    for original in file:
        name = original.removeprefix(prefix)
        if name == original or "perceptual_loss" in name:
            continue  # the teacher, the projector, the language model; a network for a loss
        for theirs, released in RENAMED:
            name = name.replace(theirs, released)
        if "vae_cpu" in name:
            continue
        if name in originals:
            # Whether the bottleneck around the inner quantizer is normalised is not in the file.
            raise file.error(
                "of a nested quantizer, which is not known", [originals[name], original]
            )
        originals[name] = original

    def original_name(name: str) -> str:
        if name in originals:
            return originals[name]
        for theirs, released in (("dualvq_head.", "fusion_block."), ("movq_", "vae_")):
            if name.startswith(released):
                name = theirs + name.removeprefix(released)
        return prefix + name

    tensors = {name: file[original] for name, original in originals.items()}
    return Tensors(tensors, file.source, original_name)


def with_own_layout(tensors: Tensors) -> Tensors:
    """Gives three of timm's tensors the shapes that they have in this package.

    The position grid (1, S * S, C) becomes (S, S, C), the patch kernel (C, 3, P, P) becomes
    (C, 3 * P * P), and the pool's query (1, 1, C) becomes (1, C).

    Raises:
        ConversionError: one of them is missing or has other axes.
    """
    positions = tensors.with_axes("pos_embed", 3)
    side = isqrt(positions.shape[1])
    if positions.shape[:2] != (1, side**2):
        raise tensors.error(f"not a square grid, {tuple(positions.shape)}", ["pos_embed"])
    tensors["pos_embed"] = positions.unflatten(1, (side, side))[0]
    kernel = "patch_embed.proj.weight"
    tensors[kernel] = tensors.with_axes(kernel, 4).flatten(1)
    tensors["attn_pool.latent"] = tensors.with_axes("attn_pool.latent", 3).flatten(0, 1)
    return tensors


def _take_levels(tensors: Tensors, codebook: str) -> tuple[int, ...]:
    """Takes out the codebook (K, d), and reads the quantizer's levels off its columns."""
    stored = tensors.pop("fusion_block.vq_low._levels", None)
    if stored is not None and codebook not in tensors:
        return tuple(int(level) for level in stored.flatten().tolist())
    values = tensors.with_axes(codebook, 2).float()
    del tensors[codebook]
    levels = tuple(len(column.unique()) for column in values.T)
    if stored is not None and tuple(stored.flatten().tolist()) != levels:
        raise tensors.error(f"not {levels}, as the codebook", ["fusion_block.vq_low._levels"])
    fits = min(levels, default=0) > 1 and prod(levels) == len(values)
    if fits:
        grid = FSQ(levels).values(torch.arange(len(values)))
        fits = torch.equal(grid.bfloat16(), values.bfloat16())  # where a third is not a third
    if not fits:
        raise tensors.error("not the codebook of an FSQ", [codebook])
    return levels


def _blank(tensors: Tensors, levels: tuple[int, ...]) -> _Blank:
    """Builds a network of the sizes that the tensors have."""
    from diffusers import AutoencoderKLQwenImage

    try:
        with torch.device("meta"):
            vae = AutoencoderKLQwenImage(**_vae_config(tensors))
            return _Blank(Network(_config(tensors, levels)), Vae(vae))
    except ValueError as error:
        raise ConversionError(f"sizes do not fit together: {error}", tensors.source) from error


def _config(t: Tensors, levels: tuple[int, ...]) -> NetworkConfig:
    """The architecture; where two tensors must agree, one is asked and ``match`` checks both."""
    width = t.size("pos_embed", 2)
    head, quantizer = "fusion_block.vq_low", QuantizerConfig(levels=levels)
    code_depth = t.count(f"{head}.fsq_pre_attn.")
    code_width = t.size(f"{head}.project_in.weight", 1)
    first = f"{head}.fsq_pre_attn.0"
    upscale = PATCH_SIZE // 2 ** len(_vae_downsamples(t))
    return NetworkConfig(
        encoder=EncoderConfig(
            width=width,
            depth=t.count("blocks."),
            attention_heads=ATTENTION_HEADS,
            mlp_width=t.size("blocks.0.mlp.fc1.weight", 0),
            position_side=t.size("pos_embed", 0),
            patch_size=PATCH_SIZE,
        ),
        pool=PoolConfig(
            width=width,
            attention_heads=ATTENTION_HEADS,
            mlp_width=t.size("attn_pool.mlp.fc1.weight", 0),
        ),
        head=HeadConfig(
            width=width,
            attention_heads=ATTENTION_HEADS,
            mlp_width=t.size(f"{head}_preprocess_layers.0.mlp.fc1.weight", 0),
            depth=t.count(f"{head}_preprocess_layers."),
            code_heads=CODE_HEADS,
            code_width=code_width,
            expand_width=t.size(f"{head}_pre_token_shuffle_head.fc1.weight", 0),
            refine=True,
            code_depth=code_depth,
            code_mlp_width=t.size(f"{first}.mlp.fc1.weight", 0),
            rope_width=t.size(f"{first}.attn.proj.weight", 0),
            quantizer=quantizer,
            rope_dtype="model",
        ),
        embedder=EmbedderConfig(
            width=width,
            code_heads=CODE_HEADS,
            code_width=code_width,
            merge_width=t.size(f"{head}_inverse_token_shuffle_head.fc1.weight", 0),
            mlp_width=t.size(f"{head}_postprocess_layers.0.fc1.weight", 0),
            depth=t.count(f"{head}_postprocess_layers.") - 1,
            residual_width=t.size(f"{head}_postprocess_layers.1.mlp.fc1.weight", 0),
            quantizer=quantizer,
        ),
        latent_head=LatentHeadConfig(
            width=width,
            attention_heads=ATTENTION_HEADS,
            mlp_width=t.size("vae_preprocess_layers.2.mlp.fc1.weight", 0),
            depth=t.count("vae_preprocess_layers.") - 2,
            adapter_width=t.size("vae_preprocess_layers.0.fc1.weight", 0),
            latent_channels=t.size("vae_head.vae.post_quant_conv.weight", 0),
            upscale=upscale,
        ),
    )


def _vae_config(t: Tensors) -> dict[str, object]:
    """Arguments of diffusers' ``AutoencoderKLQwenImage``."""
    blocks = "vae_head.vae.encoder.down_blocks"
    base = t.size("vae_head.vae.encoder.conv_in.weight", 0)
    downsamples = _vae_downsamples(t)
    starts = [0, *(index + 1 for index in downsamples)]
    return {
        "base_dim": base,
        "z_dim": t.size("vae_head.vae.post_quant_conv.weight", 0),
        "dim_mult": [t.size(f"{blocks}.{i}.conv1.weight", 0) // base for i in starts],
        "num_res_blocks": t.count(f"{blocks}.") - starts[-1],
        "temperal_downsample": [f"{blocks}.{i}.time_conv.weight" in t for i in downsamples],
    }


def _vae_downsamples(t: Tensors) -> list[int]:
    """Which of the VAE encoder's blocks halve the size; the others are residual blocks."""
    blocks = "vae_head.vae.encoder.down_blocks."
    return [i for i in range(t.count(blocks)) if f"{blocks}{i}.resample.1.weight" in t]


def model_rules(config: NetworkConfig) -> Rules:
    """Names in the largest released file."""
    head, embedder = config.head, config.embedder
    low, blocks = "fusion_block.vq_low", "fusion_block.vq_low.fsq_pre_attn"
    narrow = [
        (f"head.code_blocks.{i}.attn.{ours}.", f"{blocks}.{i}.attn.{theirs}.")
        for i in range(head.code_depth)
        for ours, theirs in (("reduce", "decrease_dim"), ("expand", "increase_dim"))
    ]
    residual = [
        (f"embedder.residual_mlps.{i}.", f"{low}_postprocess_layers.{i + 1}.")
        for i in range(embedder.depth)
    ]
    return (
        *TIMM_RULES,
        ("head.blocks.", f"{low}_preprocess_layers."),
        ("head.expand.", f"{low}_pre_token_shuffle_head."),
        ("head.refine.", f"{low}_post_token_shuffle_head."),
        *narrow,
        ("head.code_blocks.", f"{blocks}."),
        ("head.project_in.", f"{low}.project_in."),
        ("embedder.project_out.", f"{low}.project_out."),
        ("embedder.merge.", f"{low}_inverse_token_shuffle_head."),
        ("embedder.mlp.", f"{low}_postprocess_layers.0."),
        *residual,
        ("embedder.scale", f"{low}_norm_trick_post_quantize_affine_weight"),
        ("embedder.shift", f"{low}_norm_trick_post_quantize_affine_bias"),
        *_decoder_rules(config),
    )


def _short_rules(config: NetworkConfig) -> Rules:
    """Names in the two smaller released files."""
    residual = [
        (f"embedder.residual_mlps.{i}.", f"projector_3.{i + 1}.")
        for i in range(config.embedder.depth)
    ]
    return (
        ("embedder.project_out.", "projector_1."),
        ("embedder.merge.", "projector_2."),
        ("embedder.mlp.", "projector_3.0."),
        *residual,
        ("embedder.scale", "_weight"),
        ("embedder.shift", "_bias"),
        *_decoder_rules(config),
    )


def _decoder_rules(config: NetworkConfig) -> Rules:
    assert config.latent_head is not None
    blocks = [
        (f"latent_head.blocks.{i}.", f"vae_preprocess_layers.{i + 2}.")
        for i in range(config.latent_head.depth)
    ]
    return (
        ("latent_head.adapter.", "vae_preprocess_layers.0."),
        ("latent_head.norm.", "vae_preprocess_layers.1."),
        *blocks,
        ("latent_head.conv_norm.", "vae_head.conv_norm_out."),
        ("latent_head.conv.", "vae_head.conv_out."),
        ("vae.", "vae_head.vae."),
    )
