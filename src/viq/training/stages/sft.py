"""Stage sft: a language model learns to answer about images, which it sees as codes.

Codes were extracted once, so no encoder runs here (https://arxiv.org/abs/2606.27313, section on
training from codes). To compare, the same training sees through a frozen network in the loop: the
whole tokenizer, which gives the same codes, a tower's continuous features, or any vision model of
transformers with tiles. What trains is the projector, with adapters in the language model or all
of it, and if asked for the code embedder.

Axes: N patches of all images, Q code heads, C width.
"""

from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from viq.data.batch import Batch
from viq.data.config import PhaseConfig, TextDataConfig
from viq.data.packing import TextPacking
from viq.data.readers import ImageReader
from viq.data.sample import Sample
from viq.data.sources import SourceConfig
from viq.errors import InputError, ModelError
from viq.external.language_model import LanguageModel
from viq.external.tiling import TilingConfig
from viq.mllm.config import AdapterConfig, MultimodalConfig
from viq.mllm.files import MLLM, load_part, read_config, read_tensors
from viq.mllm.model import MultimodalModel, TextLoss
from viq.mllm.projector import ProjectorKind
from viq.mllm.vision import FeatureNetwork, find_tokenizer, load_features
from viq.model.fold import fold_embedder
from viq.store import CodeDataset, data_files, is_code_dataset
from viq.tokenizer import Tokenizer
from viq.training.answers import answers
from viq.training.handover import has
from viq.training.letters import letter_count, spelling_loss
from viq.training.loop import LoopConfig
from viq.training.stage import Evaluation, Frozen, Inputs, Losses, Stage
from viq.training.vision import (
    CodesVision,
    FeaturesVision,
    QuantizedVision,
    Vision,
    VisionKind,
    load_foreign,
    load_tokenizer,
)


@dataclass(frozen=True, kw_only=True)
class SftConfig:
    """One run of the stage."""

    data: TextDataConfig
    loop: LoopConfig
    vision: VisionKind = "codes"
    projector: ProjectorKind = "official"  # of a new one; else it is the start's
    adapter: AdapterConfig | None = field(default_factory=AdapterConfig)  # None: no adapters
    train_lm: bool = False  # the whole language model, in float32, instead of adapters
    train_embedder: bool = False  # of codes; it begins as the tokenizer's
    fresh: bool = False  # projector and language model begin anew, whatever the start has
    fresh_lm: bool = False  # the language model alone does: another of the same width, for example
    tiling: TilingConfig = field(default_factory=TilingConfig)  # of a foreign vision model
    layer: int | None = -2  # whose features it gives; None: its output
    spelling_weight: float = 0.0  # of image tokens like their letters, where pictures know them
    answer_tokens: int = 32  # that the language model may write for each validation sample

    def __post_init__(self) -> None:
        if self.train_lm and self.adapter is not None:
            raise ValueError("train_lm trains all weights; give --adapter none, too.")
        if self.fresh and self.fresh_lm:
            raise ValueError("fresh begins all anew, fresh_lm keeps the projector; give one.")
        if self.answer_tokens < 1:
            raise ValueError(f"answer_tokens is {self.answer_tokens}; it must be 1 or more.")
        if self.spelling_weight and self.vision in ("codes", "foreign"):
            raise ValueError(
                f"spelling_weight is for patches of pictures, but vision is {self.vision}; leave"
                " it out."
            )
        if self.train_embedder and self.vision not in ("codes", "quantized"):
            raise ValueError(
                f"train_embedder is for codes, but vision is {self.vision}; give --vision codes or"
                " quantized, or leave it out."
            )


class SftStage(Stage):
    """Trains a multimodal model by its answers."""

    def __init__(
        self,
        config: SftConfig,
        mllm: MultimodalModel,
        vision: Vision,
        validation: Batch | None = None,
    ) -> None:
        """``mllm`` has an embedder where ``vision`` gives codes."""
        super().__init__()
        self.config, self.mllm, self.validation = config, mllm, validation
        self.weights = {"text": 1.0}
        if config.spelling_weight:
            self.weights["spelling"] = config.spelling_weight
        self.vision = Frozen(vision)
        self.embedder = None  # what makes features of codes, where that does not train
        if mllm.embedder is not None:
            mllm.embedder.requires_grad_(config.train_embedder)
            if vision.gives_codes and not config.train_embedder:
                # A copy: where weights are sharded, the model's own are not whole at all times.
                self.embedder = Frozen(fold_embedder(deepcopy(mllm.embedder)))

    def image_reader(self, phase: PhaseConfig) -> ImageReader:
        """How the batches of a phase are made."""
        vision: Vision = self.vision()
        return vision.image_reader(phase)

    def begin(self, samples: Sequence[Sample]) -> None:
        """Sees that each phase can use images: pictures or this tokenizer's codes, not too large.

        Raises:
            InputError: not one of the first samples' can be used; of the last one, why.
        """
        shown = [sample for sample in samples if sample.images]
        for phase in self.config.data.phases:
            packing = TextPacking(phase, self.mllm.tokenizer, self.image_reader(phase))
            refused = None
            for sample in shown:
                try:
                    packing.prepare(sample, 0)
                except InputError as error:
                    refused = error
                else:
                    break
            else:
                if refused is not None:
                    raise refused

    def gradient_checkpointing(self) -> None:
        """Computes the language model's blocks anew in the backward pass."""
        self.mllm.checkpoint_gradients()

    def groups(self) -> dict[str, Iterable[nn.Parameter]]:
        """The multimodal model's groups."""
        return {"projector": [], "lm": [], "embedder": [], **self.mllm.parameter_groups()}

    def counts(self, batch: Batch) -> dict[str, float]:
        """Supervised tokens, and letters whose places are known."""
        counts = {"text": batch.supervised, "spelling": letter_count(batch.letters)}
        return {name: float(counts[name]) for name in self.weights}

    def size(self, batch: Batch) -> dict[str, float]:
        """Images, and tokens of the language model's sequence."""
        return {"images": float(batch.images), "tokens": float(len(batch.input_ids))}

    def forward(self, batch: Batch) -> Losses:
        """The sums of the losses of one micro-batch."""
        features = self.see(batch)
        sums = {"text": self._loss(features, batch).sum}
        if "spelling" in self.weights:
            sums["spelling"] = spelling_loss(self.mllm, features, batch)
        return Losses(sums)

    def see(self, batch: Batch) -> Tensor:
        """The features (N, C) that the language model reads."""
        seen: Tensor = self.vision()(batch)
        if not self.vision().gives_codes:
            return seen
        if self.embedder is None:
            return self.mllm.embed_codes(seen)
        features: Tensor = self.embedder()(seen)
        return features

    @torch.no_grad()
    def evaluate(self) -> Evaluation:
        """Text loss and answers on the validation samples."""
        if self.validation is None:
            return Evaluation({}, {})
        batch = self.validation.to(self.mllm.device)
        features = self.see(batch)
        loss = self._loss(features, batch)
        exact, text = answers(self.mllm, batch, features, max_new_tokens=self.config.answer_tokens)
        figures = {"eval_text": float(loss.sum) / max(1, loss.count), "eval_exact": exact}
        return Evaluation(figures, {}, text)

    def export(self, folder: Path) -> None:
        """Writes ``mllm/``; with its embedder and the tokenizer's name, where it reads codes."""
        self.mllm.save_pretrained(folder / MLLM)

    def _loss(self, features: Tensor, batch: Batch) -> TextLoss:
        return self.mllm.packed_loss(
            features,
            batch.packing,
            batch.pool,
            batch.input_ids,
            batch.labels,
            batch.lengths,
            batch.image_positions,
        )


def build(config: SftConfig, inputs: Inputs, validation: Sequence[Sample]) -> SftStage:
    """The stage of a run.

    What it sees with is ``inputs.vision``, or else ``inputs.start``; the multimodal model goes on
    from the start's, where that has one.

    Raises:
        InputError: an input is missing, or does not load, or does not fit; one line with the flag.
    """
    where = inputs.vision or inputs.start
    tokenizer: Tokenizer | None = None
    network: FeatureNetwork | None = None
    vision: Vision
    if config.vision in ("continuous", "proximal"):
        network = load_features(config.vision, where)
        vision = FeaturesVision(network, network.image if config.vision == "proximal" else None)
    elif config.vision == "foreign":
        vision = load_foreign(inputs.vision, config.tiling, config.layer)
    else:
        where = find_tokenizer(where)
        tokenizer = load_tokenizer(where)
        vision = (CodesVision if config.vision == "codes" else QuantizedVision)(tokenizer)
    for source in (*config.data.sources, *config.data.validation):
        check_source(source, config.vision, tokenizer)
    reader = vision.image_reader(config.data.phases[-1])  # refuses what does not go together
    mllm = _multimodal_model(config, inputs, vision.width, tokenizer)
    mllm.config.pool = config.data.phases[-1].pool
    if tokenizer is not None:
        mllm.read_codes_of(str(where), tokenizer)
    elif network is not None:
        mllm.read_features_of(str(where), network)
    else:
        mllm.read_features()
    batch = None
    if validation:
        packing = TextPacking(config.data.phases[-1], mllm.tokenizer, reader)
        batch = packing.pack_one(validation)
    return SftStage(config, mllm, vision, batch)


def check_source(source: SourceConfig, kind: VisionKind, tokenizer: Tokenizer | None) -> None:
    """Refuses at once what could not be read sample by sample.

    Raises:
        FingerprintError: the source's codes are another tokenizer's.
        InputError: it has codes where pictures are read, or pictures where codes are.
    """
    path = Path(source.path or "").expanduser()
    is_codes = source.path is not None and is_code_dataset(path)
    name = source.path or source.name
    if kind != "codes" and is_codes:
        raise InputError(
            f"has codes, but --vision {kind} reads pictures; give --vision codes, or the pictures",
            name,
        )
    if kind == "codes" and source.kind in ("synthetic", "folder"):
        raise InputError(
            "has pictures, but --vision codes reads codes; extract them first (viq extract), or"
            " give --vision quantized",
            name,
        )
    if kind == "codes" and is_codes:
        assert tokenizer is not None
        # Of one file: that the others agree with it is seen when the source is opened.
        CodeDataset(data_files(path)[:1], fingerprint=tokenizer.fingerprint)


def _multimodal_model(
    config: SftConfig, inputs: Inputs, width: int, tokenizer: Tokenizer | None
) -> MultimodalModel:
    """The start's, after seeing that this run can go on from it; or a new one."""
    dtype = torch.float32 if config.train_lm else None  # small steps are lost in bfloat16
    folder = Path(str(inputs.start)) / MLLM
    if config.fresh or config.fresh_lm or not has(inputs.start, MLLM):
        if inputs.lm is None:
            raise InputError(
                "the language model is missing: give --lm (a folder, a hub id, smollm2)"
            )
        new = MultimodalConfig(
            lm=inputs.lm,
            width=width,
            projector=config.projector,
            adapter=config.adapter,
            train_lm=config.train_lm,
        )
        if config.fresh_lm:
            new.projector = read_config(folder).projector
        built = MultimodalModel.build(new, dtype=dtype)
        if config.fresh_lm:
            tensors = read_tensors(folder / "model.safetensors")
            load_part(built.projector, "projector", tensors, folder)
        return built
    before = MultimodalModel.from_pretrained(folder, lm=inputs.lm, dtype=dtype)
    own = before.config
    settings: list[tuple[str, Any, Any]] = [("features of width", own.width, width)]
    if own.sees == "codes" and own.fingerprint is not None and tokenizer is not None:
        settings.append(("codes of tokenizer", own.fingerprint[:12], tokenizer.fingerprint[:12]))
    if own.adapter is not None or own.train_lm:  # otherwise the projector alone has trained
        settings.append(("adapters", own.adapter, config.adapter))
        settings.append(("train_lm", own.train_lm, config.train_lm))
    for what, found, expected in settings:
        if found != expected:
            raise ModelError(
                f"the start's language model has {what} {found}, this run {expected}; give both"
                " the same, or --fresh to begin with a new projector",
                inputs.start,
            )
    if (own.adapter, own.train_lm) == (config.adapter, config.train_lm):
        return before
    own = deepcopy(own)
    own.adapter, own.train_lm = config.adapter, config.train_lm
    # Around the language model that is there: another one in memory may be one too many.
    mllm = MultimodalModel(own, LanguageModel(before.lm, before.tokenizer), before.embedder)
    mllm.projector.load_state_dict(before.projector.state_dict())
    return mllm
