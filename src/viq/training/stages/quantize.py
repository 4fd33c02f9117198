"""Stage quantize (2-2): the proximal representation's limit gives way to rounding.

Everything that both stages have goes on as it was, and what is new adds nothing at first: blocks
in which code tokens attend to each other, with rotary positions. With the limit in the place of
the rounding this network is still the proximal one.

Axes: N patches, Q code heads, D bottleneck.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from viq.checkpoint import VisionTower, load_vision_tower
from viq.data.batch import Batch
from viq.data.sample import Sample
from viq.errors import InputError, ModelError
from viq.model.axes import principal_maps
from viq.model.fold import chain
from viq.model.head import QuantizerConfig
from viq.model.layers import Linear
from viq.model.network import Network
from viq.model.packing import Packing
from viq.model.quantizers import CODEBOOKS, FSQ, Limit, apply_limit
from viq.model.shape import CodeBlocks
from viq.model.simvq import SimVQ
from viq.training.handover import (
    carry_over,
    find,
    gather,
    has,
    images_alone,
    load_network,
    load_teacher,
)
from viq.training.losses import commitment, unevenness
from viq.training.stage import Inputs
from viq.training.stages.proximal import CodesConfig, CodesStage, codes_network, tensors_of
from viq.training.stages.text_aligned import Company, Seen

NOISE = 0.01  # standard deviation, on pixels in [-1, 1], under which few codes should flip


@dataclass(frozen=True, kw_only=True)
class QuantizeConfig(CodesConfig):
    """One run of the stage."""

    code_blocks: CodeBlocks | None
    levels: tuple[int, ...] = CODEBOOKS["64k"]
    codebook_size: int | None = None  # SimVQ of so many entries takes the place of FSQ
    nested: bool = True  # FSQ lies inside the bottleneck, else it takes its place
    principal_axes: bool = True  # FSQ begins along the axes of the start's representation
    even_weight: float = 0.0  # of a loss that spreads FSQ's latents evenly over their cube

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.codebook_size is not None and self.codebook_size < 2:
            raise ValueError(f"codebook_size is {self.codebook_size}; it must be 2 or more.")
        if self.even_weight and self.codebook_size is not None:
            raise ValueError("even_weight is for FSQ's latents; SimVQ has none, so give 0.")


class QuantizeStage(CodesStage):
    """Trains the whole network with its codes."""

    config: QuantizeConfig
    network: Network

    def __init__(
        self, config: QuantizeConfig, start: Network | VisionTower, company: Company
    ) -> None:
        """``start`` is left as it is.

        One that has codes goes on with them, and with its own quantizer. A tower, without the stage
        before, is an ablation.
        """
        quantizer = _quantizer(config)
        if isinstance(start, VisionTower):
            tower, tensors, origin = start, tensors_of(start), None
        else:
            assert start.pool is not None
            tower, tensors = VisionTower(start.encoder, start.pool), start.state_dict()
            own, origin = start.config.head.quantizer, None
            if own.code_levels is None:
                into, out = start.head.project_in, start.embedder.project_out
                origin = _Bottleneck(into, own.limit, out)
            else:
                quantizer = own
        network = Network(codes_network(config, tower, quantizer, config.code_blocks, company))
        # Of codes without a bottleneck, what led into and out of the start's is of no use.
        is_direct = origin is not None and quantizer.bottleneck is None
        direct = ("head.project_in.", "embedder.project_out.")
        carried = carry_over(network, tensors, new=direct if is_direct else ())
        commit = 0.0 if config.codebook_size is None else 1.0
        super().__init__(config, network, carried, company, commit=commit, even=config.even_weight)
        self._start = origin
        self._seen: Tensor | None = None

    def begin(self, samples: Sequence[Sample]) -> None:
        """Lays the codes along the start's principal axes, where the config asks for them.

        Raises:
            InputError: the samples have no images.
        """
        if not self.config.principal_axes or self._start is None:
            return
        batch = images_alone(samples, self.config.data.phases[-1], self.patch_size)
        if not batch.images:
            raise InputError(
                "principal axes are taken from the first training samples, but they have no"
                " images; give --no-principal-axes"
            )
        device = "cuda" if torch.cuda.is_available() else "cpu"
        for module in (self.network, self._start.into, self._start.out):
            module.to(device)
        self.initialise_from([batch.to(device)])

    @torch.no_grad()
    def initialise_from(self, batches: Iterable[Batch]) -> None:
        """Lays the codes along what the start's representation of some batches varies most in.

        From a random projection the language model and the latent head would at first read
        noise, and pull all that is carried over out of shape before the codes mean anything.
        FSQ begins along the principal axes (``viq.model.axes``), and SimVQ's codebook with the
        representation's own second moments.

        Raises:
            ValueError: the stage was started from a tower, which has no such representation.
        """
        if self._start is None:
            raise ValueError("a tower has no proximal representation whose axes could be taken.")
        head, embedder = self.network.head, self.network.embedder
        tokens = [
            head.tokens(self.network.encoder(batch.pixels, batch.packing), batch.packing)
            for batch in batches
            if batch.images
        ]
        bottleneck = self._start.into(torch.cat(tokens).flatten(0, 1))
        if isinstance(head.quantizer, SimVQ):
            head.quantizer.match(bottleneck)
            return
        assert isinstance(head.quantizer, FSQ)
        limited = apply_limit(bottleneck, self._start.limit)
        reduce, expand = principal_maps(bottleneck, limited, head.quantizer)
        if head.reduce is not None and embedder.expand is not None:
            head.reduce.load_state_dict(reduce.state_dict())
            embedder.expand.load_state_dict(expand.state_dict())
        else:
            head.project_in.load_state_dict(chain(self._start.into, reduce))
            embedder.project_out.load_state_dict(chain(expand, self._start.out))

    def see(self, pixels: Tensor, packing: Packing) -> Seen:
        """The features behind the rounding, and the quantizer's own loss."""
        output, quantizer = self.network(pixels, packing), self.network.head.quantizer
        if self.training:
            self._count(output.codes)
        if not isinstance(quantizer, SimVQ):
            if not self.config.even_weight:
                return Seen(output.embedded, {})
            assert isinstance(quantizer, FSQ)
            # One number of all patches together; each image counts the same of it.
            even = unevenness(quantizer.shares(output.latents)).expand(len(packing))
            return Seen(output.embedded, {"even": even})
        entries = quantizer.entries(output.codes)
        return Seen(output.embedded, {"commit": commitment(output.latents, entries, packing)})

    @torch.no_grad()
    def observe(self, batch: Batch) -> dict[str, float]:
        """Use and entropy (bits) of each code head's codes since the last time, in this process.

        And the share of codes that a little noise on this batch's pixels changes.
        """
        figures: dict[str, float] = {}
        if batch.images:
            codes, pixels = self._codes(batch.pixels, batch.packing), batch.pixels
            # A generator of its own: training must not depend on what is observed.
            generator = torch.Generator(pixels.device).manual_seed(0)
            noise = torch.randn(pixels.shape, generator=generator, device=pixels.device) * NOISE
            noisy = self._codes(pixels + noise, batch.packing)
            figures["code_flips"] = float((codes != noisy).float().mean())
        if self._seen is not None:
            shares = self._seen / self._seen.sum(1, keepdim=True)
            bits = -torch.special.xlogy(shares, shares).sum(1) / math.log(2)
            used = (shares > 0).float().mean(1)
            for head, (share, entropy) in enumerate(zip(used, bits, strict=True)):
                figures[f"code_usage_{head}"] = float(share)
                figures[f"code_entropy_{head}"] = float(entropy)
            self._seen = None
        return figures

    def _count(self, codes: Tensor) -> None:
        """How often each code head (rows) gave each code."""
        if self._seen is None:
            size = math.prod(self.network.config.head.quantizer.code_levels or ())
            self._seen = torch.zeros(codes.shape[1], size, device=codes.device)
        self._seen.scatter_add_(1, codes.T, torch.ones_like(codes.T, dtype=torch.float32))

    def _codes(self, pixels: Tensor, packing: Packing) -> Tensor:
        codes: Tensor = self.network(pixels, packing).codes
        return codes


class _Bottleneck(NamedTuple):
    """The start's way into its proximal representation and out again."""

    into: Linear
    limit: Limit
    out: Linear


def _quantizer(config: QuantizeConfig) -> QuantizerConfig:
    if config.codebook_size is not None:
        return QuantizerConfig(
            levels=None,
            bottleneck=config.bottleneck,
            limit=config.limit,
            codebook_size=config.codebook_size,
        )
    return QuantizerConfig(
        levels=config.levels, bottleneck=config.bottleneck if config.nested else None
    )


def build(config: QuantizeConfig, inputs: Inputs, validation: Sequence[Sample]) -> QuantizeStage:
    """The stage of a run, from a run of stage proximal or of this one, or from a tower.

    Raises:
        InputError: an input is missing, or does not load; one line with the flag.
    """
    start: Network | VisionTower
    own: tuple[int, ...] | None = None  # levels of codes that the start has already
    if has(inputs.start, "tower"):
        start = load_vision_tower(find(inputs.start, "tower", "--start", "the tower"))
        encoder = start.encoder.config
    else:
        why = "the proximal tokenizer to start from"
        folder = find(inputs.start, "tokenizer", "--start", why)
        start = load_network(folder)
        if start.pool is None:
            raise ModelError("it has no attention pool, so no text-aligned stage made it", folder)
        own, asked = start.config.head.quantizer.code_levels, _quantizer(config).code_levels
        if own not in (None, asked):
            raise ModelError(f"it has codes of levels {own}, this run of {asked}", folder)
        encoder = start.config.encoder
    company = gather(
        config,
        inputs,
        encoder,
        validation,
        teacher=load_teacher(config.distil_weight, inputs),
        target=config.target if config.recon_weight else "none",
    )
    takes_axes = config.principal_axes and config.codebook_size is None
    if takes_axes and isinstance(start, Network) and own is None:
        width = start.config.head.quantizer.bottleneck
        if width is not None and width < len(config.levels):
            raise InputError(
                f"the start's bottleneck is {width} wide, too narrow for axes of"
                f" {len(config.levels)} levels; give fewer --levels, or --no-principal-axes"
            )
    return QuantizeStage(config, start, company)
