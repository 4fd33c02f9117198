"""What the three text-aligned stages share: align (1), proximal (2-1) and quantize (2-2).

All train the encoder by the answers of a small language model that reads its features, and hold
on to the start model's semantic token, pooled from the same features. The later two regress an
image too, from the features that the language model reads.

Axes: N patches of all images, B images, C width, (H, W) pixels of an image.
"""

import shutil
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from viq.checkpoint import VisionTower
from viq.data.batch import Batch
from viq.data.config import PhaseConfig, TextDataConfig
from viq.data.readers import ImageReader, patch_reader
from viq.external.vae import Vae
from viq.image import patchify, to_image, unpatchify
from viq.image.sheet import Cell, Row, sheet
from viq.metrics.quality import psnr
from viq.mllm.files import new_content
from viq.mllm.model import AdapterConfig, MultimodalModel
from viq.mllm.projector import ProjectorKind
from viq.model.encoder import AttentionPool
from viq.model.latent_head import LatentHead
from viq.model.layers import gradient_checkpointing
from viq.model.packing import Packing
from viq.training.answers import answers
from viq.training.letters import LetterReader, letter_count, spelling_loss
from viq.training.loop import LoopConfig
from viq.training.losses import distillation, reconstruction
from viq.training.stage import Evaluation, Frozen, Losses, Stage

Target = Literal["vae", "pixels", "none"]
LETTERS = "letters.safetensors"  # in a run's folder
PATCHES = "patches.safetensors"
SHOWN = 8  # images in the picture of an evaluation


@dataclass(frozen=True, kw_only=True)
class TextAlignedConfig:
    """What the three stages have in common. A loss of weight 0 is off, and costs nothing."""

    data: TextDataConfig
    loop: LoopConfig
    adapter: AdapterConfig | None = field(default_factory=AdapterConfig)  # None: the LM is frozen
    projector: ProjectorKind = "official"  # of a new one; else it is the start's
    text_weight: float = 1.0
    distil_weight: float = 10.0
    letters_weight: float = 0.0  # of reading letters, where it is known which stand where
    spelling_weight: float = 0.0  # of image tokens like the embeddings of the letters in them
    answer_tokens: int = 32  # that the language model may write for each validation sample


class Seen(NamedTuple):
    """What became of images."""

    features: Tensor  # (N, C), what language model, pool and latent head read
    losses: Mapping[str, Tensor]  # (B,) each, of the way there


@dataclass(frozen=True, kw_only=True)
class Company:
    """What trains and measures a network, as far as the losses ask for it."""

    mllm: MultimodalModel | None = None
    idle_mllm: Path | None = None  # of the start, where the text loss is off
    teacher: VisionTower | None = None
    vae: Vae | None = None  # whose latents are regressed; without one it is pixels
    validation: Batch | None = None  # held-out samples, none but these
    letters: LetterReader | None = None  # of the stage before
    patches: Mapping[str, Tensor] | None = None  # its map from the latent head's rows to pixels


class Teacher(nn.Module):
    """A tower at the one size that it was trained at; it sees every image squashed to that."""

    def __init__(self, tower: VisionTower) -> None:
        super().__init__()
        self.encoder, self.pool = tower
        config = self.encoder.config
        self.grid = (config.position_side, config.position_side)
        self.side = config.position_side * config.patch_size

    @torch.no_grad()
    def forward(self, images: Sequence[Tensor]) -> Tensor:
        """Semantic tokens (B, C) of images (3, H, W) of any sizes in [-1, 1]."""
        size, patch_size = (self.side, self.side), self.encoder.config.patch_size
        squashed = [F.interpolate(image[None], size, mode="bilinear") for image in images]
        packing = Packing.of([self.grid] * len(images))
        rows = patchify(torch.cat(squashed), patch_size)
        return self.pool(self.encoder(rows, packing), packing)


class TextAlignedStage(Stage):
    """Base of the three; ``network`` has an ``encoder``, a ``pool`` and maybe a ``latent_head``."""

    def __init__(
        self,
        config: TextAlignedConfig,
        network: Any,
        carried: set[str],
        company: Company,
        **weights: float,
    ) -> None:
        """``carried``: names inside the network of what the stage before has trained.

        ``weights``: of the losses; those without company, or of weight 0, are off.
        """
        super().__init__()
        self.config = config
        self.network = network.requires_grad_()
        self.carried = carried
        self.mllm = company.mllm if weights.get("text") else None
        self.idle_mllm = company.idle_mllm
        self.teacher = None
        if company.teacher is not None and weights.get("distil"):
            self.teacher = Frozen(Teacher(company.teacher).float())
        else:
            self.pool.requires_grad_(False)
        self.vae = None if company.vae is None else Frozen(company.vae)
        self.letters: LetterReader | None = None
        if config.letters_weight:
            self.letters = company.letters or LetterReader(network.encoder.config.width)
        self.to_patches: nn.Linear | None = None  # from the latent head's rows to pixels
        if weights.get("patch") and self.latent_head is not None:
            width = self.latent_head.config.width
            self.to_patches = nn.Linear(width, 3 * self.patch_size**2)
            # A new one must not pull at the network before it knows anything.
            nn.init.zeros_(self.to_patches.weight)
            nn.init.zeros_(self.to_patches.bias)
            if company.patches is not None:
                self.to_patches.load_state_dict(company.patches)
        weights |= {"letters": config.letters_weight, "spelling": config.spelling_weight}
        off: dict[str, nn.Module | Frozen | None] = {
            "text": self.mllm,
            "spelling": self.mllm,
            "distil": self.teacher,
            "recon": self.latent_head,
            "patch": self.to_patches,
            "letters": self.letters,
        }
        self.weights = {k: v for k, v in weights.items() if v and off.get(k, True) is not None}
        if not self.weights:
            raise ValueError("every loss is off; give at least one of them a weight.")
        self.validation = company.validation

    @abstractmethod
    def see(self, pixels: Tensor, packing: Packing) -> Seen:
        """Runs flat pixels (N, 3 * P * P), in [-1, 1], through the network."""

    @property
    def pool(self) -> AttentionPool:
        """The attention pool, which a text-aligned network always has."""
        pool: AttentionPool = self.network.pool
        return pool

    @property
    def latent_head(self) -> LatentHead | None:
        """What regresses the image; None where nothing does."""
        head: LatentHead | None = self.network.latent_head
        return head

    @property
    def patch_size(self) -> int:
        """Pixels on a patch's side."""
        size: int = self.network.encoder.config.patch_size
        return size

    def image_reader(self, phase: PhaseConfig) -> ImageReader:
        """How the batches of a phase are made."""
        return patch_reader(phase, self.patch_size)

    def gradient_checkpointing(self) -> None:
        """Computes blocks anew in the backward pass, the language model's as well."""
        gradient_checkpointing(self.network, True)
        if self.mllm is not None:
            self.mllm.checkpoint_gradients()

    def export_mllm(self, folder: Path) -> None:
        """Writes ``mllm/``, the projector and the adapters; without the text loss the start's."""
        if self.mllm is not None:
            self.mllm.save_pretrained(folder / "mllm")
        elif self.idle_mllm is not None:
            with new_content(folder / "mllm") as new:
                shutil.copytree(self.idle_mllm, new, dirs_exist_ok=True)

    def export_readers(self, folder: Path) -> None:
        """Writes what reads letters and pixels of a patch, from which the next stage goes on."""
        for reader, name in ((self.letters, LETTERS), (self.to_patches, PATCHES)):
            if reader is not None:
                save_file(reader.state_dict(), folder / name)

    def groups(self) -> dict[str, Iterable[nn.Parameter]]:
        """The network's "carried" and "new" parameters, and the multimodal model's groups."""
        groups: dict[str, Iterable[nn.Parameter]] = {"projector": [], "lm": []}
        if self.mllm is not None:
            groups |= self.mllm.parameter_groups()
        trained = [(n, p) for n, p in self.network.named_parameters() if p.requires_grad]
        groups["carried"] = [p for n, p in trained if n in self.carried]
        new = [p for n, p in trained if n not in self.carried]
        for part in (self.to_patches, self.letters):
            new += [] if part is None else part.parameters()
        groups["new"] = new
        return groups

    def counts(self, batch: Batch) -> dict[str, float]:
        """Supervised tokens for the text loss, images for all others."""
        counts = dict.fromkeys(self.weights, float(batch.images))
        if "text" in counts:
            counts["text"] = float(batch.supervised)
        for name in {"letters", "spelling"} & counts.keys():
            counts[name] = float(letter_count(batch.letters))
        return counts

    def size(self, batch: Batch) -> dict[str, float]:
        """Images, and tokens of the language model's sequence."""
        return {"images": batch.images, "tokens": len(batch.input_ids)}

    def forward(self, batch: Batch) -> Losses:
        """The sums of all losses that are on."""
        if batch.images:
            pixels = batch.pixels
            images = []
            if self.teacher is not None or self.latent_head is not None:
                images = images_of(pixels, batch.packing, self.patch_size)
            return Losses(self._sums(batch, images, pixels, self.see(pixels, batch.packing)))
        if self.mllm is None:
            return Losses({})
        width = self.network.encoder.config.width
        nothing = torch.zeros(0, width, device=batch.rows.device)
        return Losses({"text": self._text(batch, nothing)})

    def _sums(
        self, batch: Batch, images: Sequence[Tensor], pixels: Tensor, seen: Seen
    ) -> dict[str, Tensor]:
        sums = {name: losses.sum() for name, losses in seen.losses.items()}
        if self.mllm is not None:
            sums["text"] = self._text(batch, seen.features)
        if self.letters is not None:
            sums["letters"] = self.letters.loss(seen.features, batch.letters)
        if "spelling" in self.weights:
            assert self.mllm is not None
            sums["spelling"] = spelling_loss(self.mllm, seen.features, batch)
        if self.teacher is not None:
            student = self.pool(seen.features, batch.packing)
            sums["distil"] = distillation(student, self.teacher()(images)).sum()
        if self.latent_head is not None:
            rows = self.latent_head.to_rows(seen.features, batch.packing)
            predicted = self.latent_head.to_latents(rows, batch.packing)
            sums["recon"] = reconstruction(predicted, self.encode_targets(images)).sum()
            if self.to_patches is not None:
                patches = batch.packing.split(self.to_patches(rows))
                sums["patch"] = reconstruction(patches, batch.packing.split(pixels)).sum()
        return sums

    def _text(self, batch: Batch, features: Tensor) -> Tensor:
        assert self.mllm is not None
        text: Tensor = self.mllm.packed_loss(
            features,
            batch.packing,
            batch.pool,
            batch.input_ids,
            batch.labels,
            batch.lengths,
            batch.image_positions,
        ).sum
        return text

    # What the latent head regresses, and back.

    @torch.no_grad()
    def encode_targets(self, images: Sequence[Tensor]) -> list[Tensor]:
        """The frozen VAE's posterior means of images (3, H, W), or the images themselves."""
        return list(images) if self.vae is None else by_size(self.vae().encode, images)

    @torch.no_grad()
    def decode_targets(self, predicted: Sequence[Tensor]) -> list[Tensor]:
        """Pixels (3, H, W) of what the latent head predicted."""
        return list(predicted) if self.vae is None else by_size(self.vae().decode, predicted)

    # Evaluation.

    @torch.no_grad()
    def evaluate(self) -> Evaluation:
        """Losses, reconstructions and answers on the validation samples, if they have images."""
        if self.validation is None or not self.validation.images:
            return Evaluation({}, {})
        batch = self.validation.to(next(self.network.parameters()).device)
        pixels = batch.pixels
        images = images_of(pixels, batch.packing, self.patch_size)
        seen = self.see(pixels, batch.packing)
        counts = self.counts(batch)
        figures = {
            f"eval_{name}": float(loss) / max(1.0, counts[name])
            for name, loss in self._sums(batch, images, pixels, seen).items()
        }
        pictures: dict[str, Image.Image] = {}
        if self.latent_head is not None:
            predicted = self.latent_head(seen.features, batch.packing)
            rebuilt = [p.float().clamp(-1, 1) for p in self.decode_targets(predicted)]
            quality = [psnr(a, b) for a, b in zip(images, rebuilt, strict=True)]
            figures["eval_psnr"] = sum(quality) / len(quality)
            pictures["reconstruction"] = _side_by_side(images, rebuilt, quality)
        if self.letters is not None:
            figures["eval_letters_right"] = self.letters.right(seen.features, batch.letters)
        text = ""
        if self.mllm is not None:
            figures["eval_exact"], text = answers(
                self.mllm, batch, seen.features, max_new_tokens=self.config.answer_tokens
            )
        return Evaluation(figures, pictures, text)


def images_of(pixels: Tensor, packing: Packing, patch_size: int) -> list[Tensor]:
    """Padded images (3, H, W) of flat pixels (N, 3 * P * P)."""
    rows = packing.split(pixels)
    return [unpatchify(one, size, patch_size) for one, size in zip(rows, packing, strict=True)]


def by_size(function: Callable[[Tensor], Tensor], images: Sequence[Tensor]) -> list[Tensor]:
    """A batched function of images of any sizes; those of equal size go through it together."""
    places = defaultdict(list)
    for place, image in enumerate(images):
        places[image.shape].append(place)
    done: dict[int, Tensor] = {}
    for same in places.values():
        results = function(torch.stack([images[place] for place in same]))
        done |= dict(zip(same, results.unbind(0), strict=True))
    return [done[place] for place in range(len(images))]


def _side_by_side(
    images: Sequence[Tensor], rebuilt: Sequence[Tensor], quality: Sequence[float]
) -> Image.Image:
    """The first few images beside what was made of them."""
    rows = [
        Row(
            f"{image.shape[1]} x {image.shape[2]}",
            (Cell(to_image(image), ""), Cell(to_image(other), f"{decibels:.2f} dB")),
        )
        for image, other, decibels in zip(images[:SHOWN], rebuilt, quality, strict=False)
    ]
    return sheet(("original", "reconstruction"), rows)
