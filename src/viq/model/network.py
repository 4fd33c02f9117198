"""The whole network, and the config that is saved with its weights.

Axes: N patches of all images, B images, P patch side, C width.
"""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

from viq.model.embedder import CodeEmbedder, EmbedderConfig
from viq.model.encoder import AttentionPool, Encoder, EncoderConfig, PoolConfig
from viq.model.head import HeadConfig, QuantizationHead
from viq.model.latent_head import LatentHead, LatentHeadConfig
from viq.model.layers import Residual
from viq.model.packing import Packing
from viq.model.simvq import SimVQ


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """Shapes of all parts. A part that is None is not there: it has not been trained."""

    encoder: EncoderConfig
    head: HeadConfig
    embedder: EmbedderConfig
    pool: PoolConfig | None = None
    latent_head: LatentHeadConfig | None = None

    def __post_init__(self) -> None:
        if self.head.quantizer != self.embedder.quantizer:
            raise ValueError(
                f"head and embedder must share a quantizer, but they have {self.head.quantizer}"
                f" and {self.embedder.quantizer}."
            )


class NetworkOutput(NamedTuple):
    """One pass up to the features that everything after reads."""

    features: Tensor  # (N, C) of the encoder
    latents: Tensor  # (N, Q, K) before rounding
    embedded: Tensor  # (N, C) from the rounded values
    codes: Tensor | None  # (N, Q); None while the representation is proximal


class Network(nn.Module):
    """Encoder, head, embedder, pool and latent head in one module, for training.

    Gradients pass straight through the rounding. ``viq.Tokenizer`` holds the same parts, but
    loads each only when it is used.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config.encoder)
        self.head = QuantizationHead(config.head)
        self.embedder = CodeEmbedder(config.embedder)
        self.pool = AttentionPool(config.pool) if config.pool else None
        self.latent_head = LatentHead(config.latent_head) if config.latent_head else None
        if isinstance(self.head.quantizer, SimVQ):
            self.embedder.quantizer = self.head.quantizer  # one codebook learns
        self._initialise()

    def _initialise(self) -> None:
        """See ``keep_scale``; all that a stage adds after the encoder adds nothing at first."""
        for name, part in self.named_children():
            keep_scale(part)
            if name in ("head", "embedder", "latent_head"):
                for module in part.modules():
                    if isinstance(module, Residual):
                        module.start_as_identity()
        if self.head.positions is not None:
            nn.init.zeros_(self.head.positions.weight)

    def forward(self, patches: Tensor, packing: Packing) -> NetworkOutput:
        """Runs flat pixels (N, 3 * P * P), in [-1, 1], through encoder, head and embedder."""
        features = self.encoder(patches, packing)
        latents = self.head(features, packing)
        if self.head.quantizer is None:
            return NetworkOutput(features, latents, self.embedder.embed_values(latents), None)
        values, codes = self.head.quantize(latents)
        return NetworkOutput(features, latents, self.embedder.embed_values(values), codes)


def keep_scale(part: nn.Module) -> None:
    """Starts linear maps so that what passes through one keeps its scale; blocks' branches small.

    torch's own start shrinks it a little in each map, and there are so many in a row here that
    all patches would begin as one.
    """
    for name, module in part.named_modules():
        if isinstance(module, nn.Linear):
            last = name.rpartition(".")[2]
            std = module.in_features**-0.5 * (1.6 if last == "fc2" else 1.0)  # 1.6: after GELU
            if name.startswith("blocks."):
                std *= 0.2 if last in ("proj", "fc2") else 1.0
            nn.init.normal_(module.weight, std=std)
            nn.init.zeros_(module.bias)


_KINDS: dict[str, type[nn.Module]] = {
    "encoder": Encoder,
    "pool": AttentionPool,
    "head": QuantizationHead,
    "embedder": CodeEmbedder,
    "latent_head": LatentHead,
}
PARTS = tuple(_KINDS)


def build_part(config: NetworkConfig, name: str) -> nn.Module:
    """One part of a network alone, by its name there; the config must have it."""
    return _KINDS[name](getattr(config, name))
