"""From one stage to the next: what a run folder holds, and how a new network takes it over."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from viq.checkpoint import VisionTower, load_vision_tower
from viq.convert.resize import resize_positions
from viq.data.batch import Batch
from viq.data.config import PhaseConfig
from viq.data.packing import TextPacking
from viq.data.readers import joined_letters, patch_reader, read_all
from viq.data.sample import Sample, usable
from viq.errors import InputError, ModelError
from viq.external.vae import load_vae
from viq.mllm.model import MultimodalConfig, MultimodalModel
from viq.model.encoder import Encoder, EncoderConfig
from viq.model.network import PARTS, Network
from viq.model.packing import Packing
from viq.tokenizer import Tokenizer, load
from viq.training.letters import LetterReader
from viq.training.stage import Inputs
from viq.training.stages.text_aligned import (
    LETTERS,
    PATCHES,
    Company,
    Target,
    TextAlignedConfig,
)


def find(where: str | None, part: str, flag: str, why: str) -> Path:
    """The folder of one part: inside a run's folder, or the folder that is named itself.

    Args:
        where: what the flag gave.
        part: "tower", "tokenizer" or "vae", as runs name what they export.
        flag: which names it.
        why: what the part is for.

    Raises:
        InputError: nothing is named, or there is no such part; one line with the flag.
    """
    if where is None:
        raise InputError(
            f"{why} is missing: give {flag}, a run's folder with {part}/ in it, or that folder"
        )
    for folder in (Path(where) / part, Path(where)):
        if (folder / "config.json").is_file():
            return folder
    raise InputError(f"no {part}/ and no config.json here; {flag} names {why}", where)


def has(where: str | None, part: str) -> bool:
    """Whether a run's folder holds a part."""
    return where is not None and (Path(where) / part / "config.json").is_file()


def load_network(folder: Path | str) -> Network:
    """All parts of a saved tokenizer in one float32 network, to be trained on.

    Raises:
        ModelError: files are missing or damaged.
    """
    return network_of(load(folder))


def network_of(tokenizer: Tokenizer) -> Network:
    """A tokenizer's parts, the same tensors, in one network to be trained on."""
    config = tokenizer.config.network
    with torch.device("meta"):
        network = Network(config)
    for name in PARTS:
        if getattr(config, name) is not None:
            state = tokenizer.part(name).state_dict()
            getattr(network, name).load_state_dict(state, assign=True)
    return network.requires_grad_()


def carry_over(
    network: nn.Module, tensors: Mapping[str, Tensor], *, new: tuple[str, ...] = ()
) -> set[str]:
    """Loads into ``network`` all that ``tensors`` has of it; returns the names.

    Args:
        network: keeps its own start for what ``tensors`` does not have.
        tensors: by the names inside the network. A latent head may be left behind.
        new: beginnings of names that are not taken over.

    Raises:
        ModelError: a tensor has another shape, or has no place here.
    """
    own = network.state_dict()
    carried = {name: t for name, t in tensors.items() if not name.startswith(new)}
    for name in [name for name in carried if name not in own]:
        if not name.startswith("latent_head."):
            raise ModelError(
                f"the start has {name}, which has no place in this run's network; give both"
                " stages the same shape"
            )
        del carried[name]
    for name, tensor in carried.items():
        if tensor.shape != own[name].shape:
            raise ModelError(
                f"the start's {name} is {_by(tensor)}, this run's is {_by(own[name])}; give both"
                " stages the same shape"
            )
    network.load_state_dict(carried, strict=False)
    return set(carried)


def _by(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape))


def with_positions(encoder: Encoder, side: int) -> Encoder:
    """A copy whose learned position grid is ``side`` patches high and wide."""
    with torch.device("meta"):
        resized = Encoder(replace(encoder.config, position_side=side))
    state = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    state["positions.weight"] = resize_positions(state["positions.weight"], side)
    resized.load_state_dict(state, assign=True)
    return resized


def with_skip(encoder: Encoder) -> Encoder:
    """A copy with a skip, which adds nothing yet."""
    extended = Encoder(replace(encoder.config, skip=True))
    extended.load_state_dict(encoder.state_dict(), strict=False)
    return extended


def load_teacher(weight: float, inputs: Inputs) -> VisionTower | None:
    """The frozen start model; None where nothing is distilled.

    Raises:
        InputError: none is named, or it does not load.
    """
    if not weight:
        return None
    why = "the teacher, the tower before stage align,"
    return load_vision_tower(find(inputs.teacher, "tower", "--teacher", why))


def gather(
    config: TextAlignedConfig,
    inputs: Inputs,
    encoder: EncoderConfig,
    validation: Sequence[Sample],
    *,
    teacher: VisionTower | None,
    target: Target = "none",
) -> Company:
    """Loads what a text-aligned stage trains with, as far as its losses are on.

    The multimodal model goes on from the start's, where that has one; so does the VAE.

    Raises:
        InputError: one is missing, or does not load; one line with the flag.
    """
    phase = config.data.phases[-1]
    vae, mllm, idle_mllm, tokenizer = None, None, None, None
    if target == "vae":
        where = inputs.vae
        if where is None and has(inputs.start, "tokenizer/vae"):
            where = f"{inputs.start}/tokenizer"
        vae = load_vae(find(where, "vae", "--vae", "the autoencoder whose latents are regressed"))
    if config.text_weight:
        mllm = _load_mllm(config, inputs, encoder.width, phase.pool)
        tokenizer = mllm.tokenizer
    elif has(inputs.start, "mllm"):
        idle_mllm = Path(str(inputs.start)) / "mllm"
    batch = None
    if validation:
        batch = (
            TextPacking(phase, tokenizer, patch_reader(phase, encoder.patch_size)).pack_one(
                validation
            )
            if tokenizer is not None
            else images_alone(validation, phase, encoder.patch_size)
        )
    letters = _load_letters(inputs.start, encoder.width) if config.letters_weight else None
    patches = Path(inputs.start or "") / PATCHES
    return Company(
        mllm=mllm,
        idle_mllm=idle_mllm,
        teacher=teacher,
        vae=vae,
        validation=batch,
        letters=letters,
        patches=_load_reader(patches) if patches.is_file() else None,
    )


def _load_letters(start: str | None, width: int) -> LetterReader | None:
    path = Path(start or "") / LETTERS
    if not path.is_file():
        return None
    reader = LetterReader(width)
    try:
        reader.load_state_dict(_load_reader(path))
    except RuntimeError as error:
        raise ModelError(f"the reader of letters does not load ({error})", path) from error
    return reader


def _load_reader(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ModelError(f"the reader of {path.stem} does not load ({error})", path) from error


def images_alone(samples: Sequence[Sample], phase: PhaseConfig, patch_size: int) -> Batch:
    """One batch of all images of the samples, without their texts."""
    reader = patch_reader(phase, patch_size)
    read = usable(lambda sample, _: read_all(sample, reader), samples)
    images = [image for one in read for image in one]
    letters = joined_letters(images)
    rows = [reader.no_rows(), *(image.rows for image in images)]
    none = torch.zeros(0, dtype=torch.int64)
    return Batch(
        samples=(),
        rows=torch.from_numpy(np.concatenate(rows)),
        packing=Packing.of(grid for image in images for grid in image.grid_sizes),
        pool=phase.pool,
        input_ids=none,
        labels=none,
        lengths=(),
        image_positions=none,
        letters=None if letters is None else torch.from_numpy(letters),
    )


def _load_mllm(config: TextAlignedConfig, inputs: Inputs, width: int, pool: int) -> MultimodalModel:
    """The start's multimodal model, or a new one."""
    if has(inputs.start, "mllm"):
        mllm = MultimodalModel.from_pretrained(Path(str(inputs.start)) / "mllm", lm=inputs.lm)
        if mllm.config.adapter != config.adapter:
            raise ModelError(
                f"the start's language model has {mllm.config.adapter}, this run's"
                f" {config.adapter}; give both stages the same adapter",
                inputs.start,
            )
        return mllm
    if inputs.lm is None:
        raise InputError(
            "the text loss needs a language model: give --lm (a folder, a hub id or smollm2), or"
            " --text-weight 0"
        )
    return MultimodalModel.build(
        MultimodalConfig(
            lm=inputs.lm,
            width=width,
            pool=pool,
            projector=config.projector,
            adapter=config.adapter,
        )
    )
