"""SigLIP 2 vision towers (https://arxiv.org/abs/2502.14786), as an encoder and its pool.

With one of them training begins, and the same one, frozen, is the teacher. Read are folders of
``transformers`` (its fixed-resolution class, ``Siglip``, and its NaFlex class, ``Siglip2``) and
checkpoint files of ``timm`` and ``open_clip``.

An encoder here resizes its position grid to each image's bilinearly, without antialiasing. NaFlex
towers do the same with antialiasing, which differs where an image's grid is smaller than the
learned one along an axis; fixed-resolution towers were trained with the learned grid alone.

Axes: S patches on a side of the position grid, P pixels on a side of a patch, C width.
"""

import json
from math import isqrt
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from viq.checkpoint import VisionTower, VisionTowerConfig
from viq.convert.official import TIMM_RULES, with_own_layout
from viq.convert.resize import resize_kernel, resize_positions
from viq.convert.tensors import Rules, Tensors, load_parts, read_tensors, rename
from viq.errors import ConversionError
from viq.model.encoder import EncoderConfig, PoolConfig
from viq.model.layers import Activation

_MODEL_TYPES = ("siglip", "siglip_vision_model", "siglip2", "siglip2_vision_model")
_ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
}
# timm's files do not say how many attention heads there are. SigLIP's, by width:
_ATTENTION_HEADS = {768: 12, 1024: 16, 1152: 16, 1536: 16}

# Names of transformers, and timm's: beginnings, and inside a block.
_BEGINNINGS: Rules = (
    ("embeddings.position_embedding.weight", "pos_embed"),
    ("embeddings.patch_embedding.", "patch_embed.proj."),
    ("encoder.layers.", "blocks."),
    ("post_layernorm.", "norm."),
    ("head.probe", "attn_pool.latent"),
    ("head.layernorm.", "attn_pool.norm."),
    ("head.mlp.", "attn_pool.mlp."),
    ("head.attention.out_proj.", "attn_pool.proj."),
    ("head.attention.", "attn_pool."),
)
_SPLIT: Rules = (
    ("head.attention.in_proj_", "attn_pool.q."),
    ("head.attention.in_proj_", "attn_pool.kv."),
)
_IN_BLOCKS: Rules = (
    (".layer_norm1.", ".norm1."),
    (".layer_norm2.", ".norm2."),
    (".self_attn.out_proj.", ".attn.proj."),
    (".self_attn.", ".attn."),
)


class _Settings(NamedTuple):
    """What tensors do not say."""

    attention_heads: int
    activation: Activation = "gelu_tanh"
    norm_eps: float = 1e-6


def convert_siglip2(
    path: Path | str,
    *,
    position_side: int | None = None,
    patch_size: int | None = None,
    attention_heads: int | None = None,
) -> VisionTower:
    """Converts the vision half of a SigLIP or SigLIP 2 model, in the dtype that it is stored in.

    Args:
        path: a folder of ``transformers`` (``config.json`` and ``model.safetensors``), or a file
            of ``timm`` or ``open_clip``.
        position_side: resizes the learned position grid to this many patches on a side.
        patch_size: resizes the patch kernel to this many pixels on a side.
        attention_heads: of a ``timm`` file; by default what SigLIP has at its width.

    Raises:
        ConversionError: a file is missing or damaged, or is no such model; or a tensor is
            missing, left over or of the wrong shape.
    """
    path = Path(path)
    if path.is_dir():
        tensors, settings = _from_transformers(path)
    else:
        tensors = _from_timm(path)
        width = tensors.size("patch_embed.proj.weight", 0)
        heads = attention_heads or _ATTENTION_HEADS.get(width)
        if heads is None:
            known = ", ".join(map(str, _ATTENTION_HEADS))
            raise ConversionError(
                f"no SigLIP model is {width} wide (but {known}); say how many attention heads", path
            )
        settings = _Settings(heads)
    return _tower(tensors, settings, position_side, patch_size)


def _from_transformers(folder: Path) -> tuple[Tensors, _Settings]:
    """Tensors by timm's names and in its layouts, from a folder of transformers."""
    try:
        config: Any = json.loads((folder / "config.json").read_bytes())
        model_type = config["model_type"]
        vision = config.get("vision_config", config)
        activation = vision.get("hidden_act", "gelu_pytorch_tanh")
        settings = _Settings(
            int(vision.get("num_attention_heads", 12)),
            _ACTIVATIONS.get(activation, "gelu_tanh"),
            float(vision.get("layer_norm_eps", 1e-6)),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConversionError(f"no config.json of transformers here ({error!r})", folder) from error
    if model_type not in _MODEL_TYPES:
        raise ConversionError(
            f"a model of type {model_type!r}; known are: {', '.join(_MODEL_TYPES)}", folder
        )
    if activation not in _ACTIVATIONS:
        raise ConversionError(
            f"activation {activation!r}; known are: {', '.join(_ACTIVATIONS)}", folder
        )
    return _as_timm(_read_shards(folder)), settings


def _read_shards(folder: Path) -> Tensors:
    """All tensors of a folder, which are in one file or in several with an index."""
    index = folder / "model.safetensors.index.json"
    if (folder / "model.safetensors").is_file() or not index.is_file():
        return read_tensors(folder / "model.safetensors")
    try:
        names = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConversionError(f"not an index of files ({error!r})", index) from error
    tensors: dict[str, Tensor] = {}
    for name in names:
        tensors |= read_tensors(folder / name)
    return Tensors(tensors, folder)


def _as_timm(file: Tensors) -> Tensors:
    """Renames transformers' tensors, fuses queries, keys and values, and undoes NaFlex's layout."""
    prefix = "vision_model." if any(name.startswith("vision_model.") for name in file) else ""

    def original_name(name: str) -> str:
        if name in file:
            return name
        for theirs, timm in _IN_BLOCKS:
            name = name.replace(timm, theirs)
        back = [(timm, theirs) for theirs, timm in (*_SPLIT, *_BEGINNINGS)]
        return prefix + rename(name, back)

    tensors = Tensors({}, file.source, original_name)
    for name, tensor in file.items():
        if name.startswith(("text_model.", "logit_")) or name.endswith(".position_ids"):
            continue
        if name.startswith(prefix):
            name = rename(name.removeprefix(prefix), _BEGINNINGS)
            for theirs, timm in _IN_BLOCKS:
                name = name.replace(theirs, timm)
        tensors[name] = tensor
    _fuse(tensors)
    kernel = tensors["patch_embed.proj.weight"]
    if kernel.ndim == 2:  # NaFlex: rows are ordered y, x, channel
        side = isqrt(kernel.shape[1] // 3)
        if kernel.shape[1] != 3 * side**2:
            raise tensors.error(
                f"of the wrong shape {tuple(kernel.shape)}", ["patch_embed.proj.weight"]
            )
        kernel = kernel.unflatten(1, (side, side, 3)).permute(0, 3, 1, 2).contiguous()
        tensors["patch_embed.proj.weight"] = kernel
    tensors["pos_embed"] = tensors.with_axes("pos_embed", 2).unsqueeze(0)
    return tensors


def _fuse(tensors: Tensors) -> None:
    """Makes one tensor of the queries, keys and values of each block, and splits the pool's."""
    for end in ("weight", "bias"):
        for block in range(tensors.count("blocks.")):
            names = [f"blocks.{block}.attn.{one}_proj.{end}" for one in "qkv"]
            if len({tensors[name].shape for name in names}) > 1:
                raise tensors.error("not of one shape", names)
            tensors[f"blocks.{block}.attn.qkv.{end}"] = torch.cat([tensors.pop(n) for n in names])
        joint = f"attn_pool.in_proj_{end}"
        width = tensors.size(joint, 0) // 3
        tensors[f"attn_pool.q.{end}"], tensors[f"attn_pool.kv.{end}"] = (
            part.clone() for part in tensors.pop(joint).tensor_split([width])
        )


def _from_timm(path: Path) -> Tensors:
    """The vision tower of a file of timm, or of open_clip, which has a text tower too."""
    file = read_tensors(path)
    prefix = "visual.trunk." if any(name.startswith("visual.trunk.") for name in file) else ""
    return Tensors(
        {
            name.removeprefix(prefix): tensor
            for name, tensor in file.items()
            if not name.startswith(("text.", "logit_"))
        },
        path,
        lambda name: name if name in file else prefix + name,
    )


def _tower(
    tensors: Tensors, settings: _Settings, position_side: int | None, patch_size: int | None
) -> VisionTower:
    """Builds the tower of tensors that have timm's names and layouts."""
    kernel = tensors.with_axes("patch_embed.proj.weight", 4)
    if patch_size is not None:
        kernel = resize_kernel(kernel, patch_size)
    tensors["patch_embed.proj.weight"] = kernel
    tensors = with_own_layout(tensors)
    if position_side is not None:
        tensors["pos_embed"] = resize_positions(tensors["pos_embed"], position_side)
    width = tensors.size("pos_embed", 2)
    shared: dict[str, Any] = {"width": width, **settings._asdict()}
    config = VisionTowerConfig(
        encoder=EncoderConfig(
            **shared,
            depth=tensors.count("blocks."),
            mlp_width=tensors.size("blocks.0.mlp.fc1.weight", 0),
            position_side=tensors.size("pos_embed", 0),
            patch_size=kernel.shape[-1],
        ),
        pool=PoolConfig(**shared, mlp_width=tensors.size("attn_pool.mlp.fc1.weight", 0)),
    )
    try:
        tower = config.build()
    except ValueError as error:
        raise ConversionError(f"sizes do not fit together: {error}", tensors.source) from error
    load_parts(tower._asdict(), tensors.match(tower._asdict(), TIMM_RULES))
    return tower
