"""Stage align (1): text-aligned pre-training at any resolution.

A tower of one size becomes one of any size: its position grid is made as large as the images will
be and resized to each, and images keep their shape. It learns by the answers of a language model,
and the frozen tower that it was at the start keeps it from forgetting what it knew of language.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from viq.checkpoint import VisionTower, load_vision_tower, save_vision_tower
from viq.data.sample import Sample
from viq.model.encoder import AttentionPool, Encoder
from viq.model.packing import Packing
from viq.training.handover import find, gather, load_teacher, with_positions
from viq.training.stage import Inputs
from viq.training.stages.text_aligned import Company, Seen, TextAlignedConfig, TextAlignedStage


@dataclass(frozen=True, kw_only=True)
class AlignConfig(TextAlignedConfig):
    """One run of the stage."""

    position_side: int  # patches on a side of the position grid, as large as images will be

    def __post_init__(self) -> None:
        if self.position_side < 1:
            raise ValueError(f"position_side is {self.position_side}; it must be 1 or more.")


class TowerNetwork(nn.Module):
    """An encoder and its pool: what there is before any codes."""

    latent_head = None

    def __init__(self, encoder: Encoder, pool: AttentionPool) -> None:
        super().__init__()
        self.encoder, self.pool = encoder, pool


class AlignStage(TextAlignedStage):
    """Trains a tower; the language model reads the encoder's features as they are."""

    def __init__(self, config: AlignConfig, start: VisionTower, company: Company) -> None:
        """``start`` is left as it is."""
        encoder = with_positions(start.encoder, config.position_side)
        network = TowerNetwork(encoder, deepcopy(start.pool)).float()
        super().__init__(
            config,
            network,
            set(network.state_dict()),
            company,
            text=config.text_weight,
            distil=config.distil_weight,
        )

    def see(self, pixels: Tensor, packing: Packing) -> Seen:
        """The encoder's features."""
        return Seen(self.network.encoder(pixels, packing), {})

    def export(self, folder: Path) -> None:
        """Writes ``tower/``, and ``mllm/`` where there is a language model."""
        save_vision_tower(VisionTower(self.network.encoder, self.network.pool), folder / "tower")
        self.export_mllm(folder)
        self.export_readers(folder)


def build(config: AlignConfig, inputs: Inputs, validation: Sequence[Sample]) -> AlignStage:
    """The stage of a run.

    Its teacher is the start tower itself, unless another is named.

    Raises:
        InputError: an input is missing, or does not load; one line with the flag.
    """
    start = load_vision_tower(find(inputs.start, "tower", "--start", "the tower to start from"))
    teacher: VisionTower | None = start
    if inputs.teacher not in (None, inputs.start):
        teacher = load_teacher(config.distil_weight, inputs)
    company = gather(config, inputs, start.encoder.config, validation, teacher=teacher)
    return AlignStage(config, start, company)
