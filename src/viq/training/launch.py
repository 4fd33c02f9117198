"""From a stage's name and config to a run: data, stage, loop."""

import json
import logging
from dataclasses import asdict, fields, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from viq.data.config import DataConfig, ImageDataConfig, PairDataConfig, TextDataConfig
from viq.data.crops import CropConfig, centre_crops
from viq.data.curriculum import held_out, image_loader, open_sources, text_loader
from viq.data.loader import TrainingData
from viq.data.pairs import whole_pairs
from viq.data.sources import SourceConfig
from viq.errors import InputError
from viq.external.language_model import load_language_model
from viq.training.loop import check_folder, has_checkpoint, train
from viq.training.plan import describe
from viq.training.stage import Inputs, Stage

PAIRS, CROPS, CROP_SIDE = 256, 64, 128  # of an evaluation; the side is in pixels
BEGINNING = 16  # samples that a stage may start from
PATCH = 16  # pixels on its side; no crop ends within one
DATA = "DATA"  # stands in a recipe's sources for the run's own data, alone or before a "/"
HELD_OUT = "HELD_OUT"  # and this for its own validation data, if there are any

log = logging.getLogger(__name__)


def launch(stage_name: str, config: Any, inputs: Inputs, folder: Path, *, resume: bool) -> None:
    """Trains one stage into ``folder``.

    Raises:
        InputError: an input is missing or cannot be read, or settings do not go together.
        TrainingError: see ``viq.training.loop.train``.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError("is a file, but --out names a folder", folder)
    check_folder(folder, resume=resume)  # before what takes long
    stage, data, run = prepare(stage_name, config, inputs)
    if not (resume and has_checkpoint(folder)):
        stage.begin(held_out(open_sources(run["config"].data.sources), BEGINNING))
    document = {**run, "config": asdict(run["config"]), "inputs": asdict(run["inputs"])}
    train(stage, data, config.loop, folder, resume=resume, run=document)


def plan(stage_name: str, config: Any, inputs: Inputs) -> str:
    """What ``launch`` would train, as a text: parts, groups, losses, steps, memory.

    Of several processes only the first says anything.
    """
    stage, data, _ = prepare(stage_name, config, inputs)
    try:
        return describe(stage, data, config.loop) if _process().is_main_process else ""
    finally:
        data.close()


def with_inputs_of_start(inputs: Inputs) -> Inputs:
    """Fills what is not given from the run that ``start`` names, so a chain says things once."""
    if inputs.start is None or not (path := Path(inputs.start) / "run.json").is_file():
        return inputs
    try:
        before = json.loads(path.read_text())["inputs"]
        # A run of an older version lacks what came later.
        names = [f.name for f in fields(Inputs) if f.name != "start" and f.name in before]
        found = {name: before[name] for name in names}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"not a run's own file ({error!r})", path) from error
    return replace(inputs, **{k: v for k, v in found.items() if getattr(inputs, k) is None})


def prepare(
    stage_name: str, config: Any, inputs: Inputs
) -> tuple[Stage, TrainingData, dict[str, Any]]:
    """The stage, its data, and the whole run's name, config and inputs.

    Raises:
        InputError: as in ``launch``.
    """
    state = _process()
    accumulate = config.loop.accumulate
    first = state.process_index * accumulate
    lanes = {
        "lanes_total": state.num_processes * accumulate,
        "lanes": range(first, first + accumulate),
    }
    config = replace(config, data=_placed(config.data, inputs))
    if isinstance(config.data, ImageDataConfig):
        _check_crops(config.data.crops)
    if stage_name == "align" and inputs.teacher is None:
        inputs = replace(inputs, teacher=inputs.start)  # said here for the stages that follow
    torch.manual_seed(config.loop.seed)  # before the stage draws its first weights
    build = import_module(f"viq.training.stages.{stage_name}").build
    data: TrainingData
    try:
        stage: Any = build(config, inputs, _held_out(config.data))
        if isinstance(config.data, TextDataConfig):
            tokenizer = _tokenizer(stage, inputs)
            data = text_loader(config.data, tokenizer, stage.image_reader, **lanes)
        else:
            data = image_loader(config.data, steps=config.loop.steps, **lanes)
    except ValueError as error:  # settings that are wrong, or do not go together
        raise InputError(str(error)) from error
    if stage_name == "sft" and inputs.vision is None:
        inputs = replace(inputs, vision=inputs.start)  # said here for a run that goes on from it
    return stage, data, {"stage": stage_name, "config": config, "inputs": inputs}


def _process() -> Any:
    """Which process of the run this is."""
    from accelerate import PartialState  # type: ignore[import-untyped]

    return PartialState(cpu=not torch.cuda.is_available())


def _tokenizer(stage: Any, inputs: Inputs) -> Any:
    """What the texts are packed with, also where the text loss is off."""
    if stage.mllm is not None:
        return stage.mllm.tokenizer
    if inputs.lm is None:
        raise InputError("texts are packed by a language model's tokenizer; name one by --lm")
    return load_language_model(inputs.lm).tokenizer


def _held_out(data: DataConfig) -> Any:
    """What a stage evaluates on: samples, pairs or crops, by the kind of data."""
    sources = open_sources(data.validation)
    if isinstance(data, TextDataConfig):
        return held_out(sources, data.validation_samples)
    if not sources:
        raise InputError("there is nothing to evaluate on; name sources by --data.validation")
    if isinstance(data, PairDataConfig):
        return whole_pairs(held_out(sources, PAIRS), data.pairs.side)
    return torch.cat([centre_crops(s, CROP_SIDE, CROPS // len(sources)) for s in sources.values()])


def _check_crops(crops: CropConfig) -> None:
    for height, width in crops.sizes:
        if height % PATCH or width % PATCH:
            raise InputError(
                f"crops of {height} x {width} pixels are no whole patches; give --data.crops.sizes"
                f" in multiples of {PATCH}"
            )


def _placed(data: Any, inputs: Inputs) -> Any:
    """The data config with the run's own data in the places of ``DATA`` and ``HELD_OUT``.

    Both may go on: "DATA/photos". Sources of held-out data that are not named are left out.
    """
    where = {DATA: inputs.data, HELD_OUT: inputs.held_out}
    placed: dict[str, tuple[SourceConfig, ...]] = {}
    for name in ("sources", "validation"):
        placed[name] = ()
        for source in getattr(data, name):
            first, _, rest = (source.path or "").partition("/")
            if first not in where:
                placed[name] += (source,)
            elif root := where[first]:
                path = str(Path(root, rest)) if rest else root
                placed[name] += (replace(source, path=path),)
            elif first == DATA:
                raise InputError("this recipe reads a data set; name it by --data")
    return replace(data, **placed)
