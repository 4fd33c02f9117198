"""Stage proximal (2-1): features become compact before they become discrete.

Each code token passes a narrow bottleneck and is confined to the surface of the unit hypercube,
so that the rounding to come loses less. All of the tokenizer is there already but the rounding
and the attention among code tokens; language model, pool and latent head read what comes out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from viq.checkpoint import VisionTower, load_vision_tower
from viq.data.sample import Sample
from viq.errors import InputError, ModelError
from viq.image import ImageConfig
from viq.model.axes import pixel_map
from viq.model.fold import fold
from viq.model.head import QuantizerConfig
from viq.model.network import Network, NetworkConfig
from viq.model.packing import Packing
from viq.model.quantizers import Limit
from viq.model.shape import CodeBlocks, Shape, network_config
from viq.tokenizer import Tokenizer
from viq.training.handover import (
    carry_over,
    find,
    gather,
    images_alone,
    load_teacher,
    with_skip,
)
from viq.training.stage import Inputs
from viq.training.stages.text_aligned import (
    Company,
    Seen,
    Target,
    TextAlignedConfig,
    TextAlignedStage,
)


@dataclass(frozen=True, kw_only=True)
class CodesConfig(TextAlignedConfig):
    """What the stages 2-1 and 2-2 have in common."""

    shape: Shape
    bottleneck: int = 128  # numbers that each code token passes through
    limit: Limit = "l_inf"
    target: Target = "vae"  # what the latent head regresses
    recon_weight: float = 1.0
    patch_weight: float = 0.0  # of the pixels of each patch, by a linear map beside the latents

    def __post_init__(self) -> None:
        for name, value in (
            ("bottleneck", self.bottleneck),
            ("shape.code_heads", self.shape.code_heads),
        ):
            if value < 1:
                raise ValueError(f"{name} is {value}; it must be 1 or more.")
        if self.patch_weight and (self.target == "none" or not self.recon_weight):
            raise ValueError("patch_weight needs a latent head: target and recon_weight.")


@dataclass(frozen=True, kw_only=True)
class ProximalConfig(CodesConfig):
    """One run of the stage."""

    skip: int = 0  # directions of a patch's pixels that the encoder hands on by a new skip

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.skip < 0:
            raise ValueError(f"skip is {self.skip}; it must be 0 or more.")


class CodesStage(TextAlignedStage):
    """Base of the two: a whole network, of which the embedded features are read."""

    def __init__(
        self,
        config: CodesConfig,
        network: Network,
        carried: set[str],
        company: Company,
        **weights: float,
    ) -> None:
        """``weights``: of losses that the other stage has not."""
        super().__init__(
            config,
            network,
            carried,
            company,
            text=config.text_weight,
            distil=config.distil_weight,
            recon=config.recon_weight,
            patch=config.patch_weight,
            **weights,
        )

    def see(self, pixels: Tensor, packing: Packing) -> Seen:
        """The features behind limit or rounding."""
        return Seen(self.network(pixels, packing).embedded, {})

    def export(self, folder: Path) -> None:
        """Writes ``tokenizer/`` with the VAE beside it, and ``mllm/`` if there is such a model."""
        multiple = self.patch_size * self.config.data.phases[-1].pool
        image = ImageConfig(patch_size=self.patch_size, pad_multiple=multiple)
        vae = None if self.vae is None else self.vae()
        tokenizer = Tokenizer.from_network(fold(self.network), image, vae)
        tokenizer.save_pretrained(folder / "tokenizer")
        self.export_mllm(folder)
        self.export_readers(folder)


class ProximalStage(CodesStage):
    """Trains a new head, embedder and latent head on a tower that learns on."""

    config: ProximalConfig

    def __init__(self, config: ProximalConfig, start: VisionTower, company: Company) -> None:
        """``start`` is left as it is.

        Raises:
            ModelError: the start does not fit the config.
        """
        lays_skip = config.skip > 0 and not start.encoder.config.skip
        if lays_skip:
            encoder = start.encoder.config
            most = min(encoder.width, 3 * encoder.patch_size**2)
            if config.skip > most:
                raise ModelError(
                    f"skip is {config.skip}, but pixels and features have no more than {most}"
                    " directions"
                )
            start = VisionTower(with_skip(start.encoder), start.pool)
        quantizer = QuantizerConfig(levels=None, bottleneck=config.bottleneck, limit=config.limit)
        network = Network(codes_network(config, start, quantizer, None, company))
        carried = carry_over(network, tensors_of(start))
        super().__init__(config, network, carried, company)
        self._lays_skip = lays_skip

    def begin(self, samples: Sequence[Sample]) -> None:
        """Lays a new skip along what pixels vary most in.

        An encoder that was aligned with text has forgotten most of how things look, and would take
        long to learn it again (docs/LOG.md, 2026-11-23).

        Raises:
            InputError: the samples have too few patches.
        """
        if not self._lays_skip:
            return
        count, phase = self.config.skip, self.config.data.phases[-1]
        batch = images_alone(samples, phase, self.patch_size)
        if len(batch.rows) <= count:
            raise InputError(
                f"a skip of {count} directions is taken from the first training samples, which have"
                f" {len(batch.rows)} patches; give --skip 0"
            )
        encoder = self.network.encoder
        assert encoder.skip is not None
        with torch.no_grad():
            features = encoder(batch.pixels, batch.packing)
        encoder.skip.load_state_dict(pixel_map(features, batch.pixels, count).state_dict())


def codes_network(
    config: CodesConfig,
    tower: VisionTower,
    quantizer: QuantizerConfig,
    code_blocks: CodeBlocks | None,
    company: Company,
) -> NetworkConfig:
    """The network on a tower; the latent head is as wide as what it regresses."""
    encoder = tower.encoder.config
    regresses = config.target != "none" and config.recon_weight != 0
    channels, upscale = 3, encoder.patch_size
    if regresses and (config.target == "vae") != (company.vae is not None):
        raise ValueError(f"target {config.target!r} and the autoencoder do not go together.")
    if company.vae is not None:
        blank = torch.zeros(1, 3, 4 * encoder.patch_size, 4 * encoder.patch_size)
        with torch.no_grad():
            latents = company.vae.encode(blank.to(next(company.vae.parameters())))
        channels, upscale = latents.shape[1], latents.shape[2] // 4
    return network_config(
        encoder,
        tower.pool.config,
        config.shape,
        quantizer,
        code_blocks,
        latent_channels=channels if regresses else None,
        upscale=upscale,
    )


def tensors_of(tower: VisionTower) -> dict[str, Tensor]:
    """A tower's tensors by the names that they have inside a network."""
    parts = tower._asdict().items()
    return {f"{part}.{k}": t for part, module in parts for k, t in module.state_dict().items()}


def build(config: ProximalConfig, inputs: Inputs, validation: Sequence[Sample]) -> ProximalStage:
    """The stage of a run.

    Raises:
        InputError: an input is missing, or does not load; one line with the flag.
    """
    start = load_vision_tower(find(inputs.start, "tower", "--start", "the tower to start from"))
    company = gather(
        config,
        inputs,
        start.encoder.config,
        validation,
        teacher=load_teacher(config.distil_weight, inputs),
        target=config.target if config.recon_weight else "none",
    )
    return ProximalStage(config, start, company)
