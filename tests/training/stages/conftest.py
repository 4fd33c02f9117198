"""A tower, a language model, an autoencoder and eight samples, all as small as can be."""

import colorsys
from dataclasses import dataclass, replace

import pytest
import torch
from PIL import Image, ImageDraw

from viq.checkpoint import VisionTower, save_vision_tower
from viq.data.config import PhaseConfig, TextDataConfig
from viq.data.conversation import question_messages
from viq.data.packing import TextPacking
from viq.data.readers import patch_reader
from viq.data.sample import Sample
from viq.data.sources import SourceConfig
from viq.external.language_model import load_language_model, tiny_language_model
from viq.external.vae import Vae
from viq.mllm.model import AdapterConfig, MultimodalConfig, MultimodalModel
from viq.model.encoder import AttentionPool, Encoder, EncoderConfig, PoolConfig
from viq.model.shape import CodeBlocks, Shape
from viq.training.loop import LoopConfig
from viq.training.stages.text_aligned import Company

WIDTH = 64
ANSWERS = ("red", "fox", "sky", "oak", "ink", "dew", "jam", "bee")
SIZES = ((48, 48), (64, 32), (32, 64), (96, 32))  # W, H; 48 is padded to 64
PHASE = PhaseConfig(
    area=96 * 96, pool=2, seq_len=256, max_patches=128, weights={"toy": 1.0}, tokens=256
)


@dataclass(frozen=True, kw_only=True)
class Toys:
    """What text-aligned stages are made of."""

    lm: str
    tower: VisionTower
    vae: Vae
    common: dict  # settings of every stage
    shape: Shape
    code_blocks: CodeBlocks
    adapter: AdapterConfig

    def mllm(self, **changes):
        """A new multimodal model with adapters."""
        torch.manual_seed(0)
        config = MultimodalConfig(lm=self.lm, width=WIDTH, adapter=self.adapter, **changes)
        return MultimodalModel.build(config)

    def batch(self, samples):
        """The samples in one batch."""
        return TextPacking(
            PHASE, load_language_model(self.lm).tokenizer, patch_reader(PHASE, 16)
        ).pack_one(samples)

    def company(self, **changes):
        """All that a stage can train with."""
        company = Company(mllm=self.mllm(), teacher=self.tower, vae=self.vae)
        return replace(company, **changes)


def picture(number):
    """A picture of its own colours."""
    red, green, blue = colorsys.hsv_to_rgb(number / 8, 0.8, 0.9)
    colour = tuple(round(255 * part) for part in (red, green, blue))
    image = Image.new("RGB", SIZES[number % len(SIZES)], colour)
    ImageDraw.Draw(image).ellipse((8, 8, 12 + 2 * number, 28), tuple(255 - c for c in colour))
    return image


@pytest.fixture(scope="session")
def samples():
    """Eight pictures with a word each."""
    return [
        Sample(
            id=f"toy/{number}",
            images=(picture(number),),
            messages=question_messages("Which?", answer, 1),
        )
        for number, answer in enumerate(ANSWERS)
    ]


@pytest.fixture(scope="session")
def tower():
    """A random tower for images of 64 x 64 pixels."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        encoder = Encoder(
            EncoderConfig(width=WIDTH, depth=1, attention_heads=2, mlp_width=WIDTH, position_side=4)
        )
        pool = AttentionPool(PoolConfig(width=WIDTH, attention_heads=2, mlp_width=WIDTH))
    return VisionTower(encoder.eval(), pool.eval())


@pytest.fixture(scope="session")
def tiny_vae():
    """A random autoencoder, 8 pixels a latent."""
    from diffusers import AutoencoderKL

    with torch.random.fork_rng():
        torch.manual_seed(2)
        autoencoder = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(8, 8, 8, 8),
            layers_per_block=1,
            latent_channels=4,
            norm_num_groups=4,
            mid_block_add_attention=False,
        )
    return Vae(autoencoder.eval().requires_grad_(False))


@pytest.fixture(scope="session")
def toys(tmp_path_factory, tower, tiny_vae):
    folder = tmp_path_factory.mktemp("lm")
    tiny_language_model(folder, hidden=WIDTH)
    adapter = AdapterConfig(rank=16, alpha=32, dropout=0.0)
    data = TextDataConfig(sources=(SourceConfig(name="toy", kind="synthetic"),), phases=(PHASE,))
    return Toys(
        lm=str(folder),
        tower=tower,
        vae=tiny_vae,
        adapter=adapter,
        common={"data": data, "loop": LoopConfig(), "adapter": adapter, "answer_tokens": 6},
        shape=Shape(
            code_width=32,
            depth=1,
            mlp_width=WIDTH,
            expand_width=None,
            refine=False,
            merge_width=None,
            embedder_mlp_width=None,
            residual_depth=1,
            residual_width=WIDTH,
            latent_depth=1,
            adapter_width=None,
        ),
        code_blocks=CodeBlocks(depth=1, mlp_width=64, attention_width=32),
    )


@pytest.fixture
def tower_run(tmp_path, tower):
    """A run's folder with a tower."""
    save_vision_tower(tower, tmp_path / "start" / "tower")
    return str(tmp_path / "start")


@pytest.fixture
def overfit():
    """Trains a stage on one batch, as the loop does."""

    def run(stage, batch, steps, lr):
        stage.train()
        parameters = [p for group in stage.groups().values() for p in group]
        optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.0)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
        counts = stage.counts(batch)
        for _ in range(steps):
            sums = stage(batch).sums
            total = sum(w * sums[name] / counts[name] for name, w in stage.weights.items())
            optimizer.zero_grad()
            total.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            schedule.step()
        stage.eval()
        return stage.evaluate()

    return run
