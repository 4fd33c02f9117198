"""Every stage in seconds on one core: what tests and CI train. The results are of no use.

All but sft reads synthetic images, made on the fly, so there is nothing to download.
"""

from viq.data.config import ImageDataConfig, PairDataConfig, PhaseConfig, TextDataConfig
from viq.data.crops import CropConfig
from viq.data.pairs import PairConfig
from viq.data.sources import SourceConfig
from viq.mllm.model import AdapterConfig
from viq.model.discriminator import DiscriminatorConfig
from viq.model.encoder import EncoderConfig, PoolConfig
from viq.model.presets import nano as nano_network
from viq.model.shape import CodeBlocks, Shape
from viq.model.text_tower import TextTowerConfig
from viq.training.launch import DATA, HELD_OUT
from viq.training.loop import LoopConfig
from viq.training.optim import OptimConfig
from viq.training.stages.align import AlignConfig
from viq.training.stages.contrast import ContrastConfig
from viq.training.stages.decoder import DecoderConfig
from viq.training.stages.proximal import ProximalConfig
from viq.training.stages.quantize import QuantizeConfig
from viq.training.stages.reconstruct import ReconstructConfig
from viq.training.stages.sft import SftConfig
from viq.training.stages.vae import VaeConfig

_TRAIN = (SourceConfig(name="synthetic", kind="synthetic", tasks=("shapes", "words")),)
_HELD_OUT = (
    SourceConfig(name="synthetic", kind="synthetic", tasks=("shapes", "words"), split="validation"),
)
_CROPS = ImageDataConfig(
    sources=_TRAIN,
    validation=_HELD_OUT,
    crops=CropConfig(sizes=((64, 64), (32, 64)), pixels=4 * 64 * 64),
    workers=0,
)
_TEXT = TextDataConfig(
    sources=_TRAIN,
    validation=_HELD_OUT,
    phases=(
        PhaseConfig(
            area=64**2,
            pool=4,
            seq_len=512,
            max_patches=512,
            weights={"synthetic": 1.0},
            tokens=1024,
        ),
        PhaseConfig(
            area=96**2,
            pool=2,
            seq_len=512,
            max_patches=512,
            weights={"synthetic": 1.0},
            tokens=1024,
        ),
    ),
    workers=0,
    validation_samples=2,
)
_WIDTH = 64
_POOL = PoolConfig(width=_WIDTH, attention_heads=2, mlp_width=_WIDTH)
_SHAPE = Shape(
    code_width=16,
    depth=1,
    mlp_width=_WIDTH,
    expand_width=None,
    refine=False,
    merge_width=None,
    embedder_mlp_width=None,
    residual_depth=1,
    residual_width=_WIDTH,
    latent_depth=1,
    adapter_width=None,
)
_ADAPTER = AdapterConfig(rank=2, alpha=2, dropout=0.0, dora=False)


def _loop(steps: int | None = None, **lr_scale: float) -> LoopConfig:
    return LoopConfig(
        steps=steps,
        optim=OptimConfig(lr=1e-3, lr_scale=lr_scale, warmup=0.0),
        dtype="float32",
        log_steps=1,
        eval_steps=100,
    )


def vae() -> VaeConfig:
    """viq train vae --recipe debug --out RUN"""
    return VaeConfig(data=_CROPS, loop=_loop(4))


def contrast() -> ContrastConfig:
    """viq train contrast --recipe debug --out RUN"""
    data = PairDataConfig(
        sources=_TRAIN, validation=_HELD_OUT, pairs=PairConfig(side=64, batch=8), workers=0
    )
    encoder = EncoderConfig(
        width=_WIDTH, depth=1, attention_heads=2, mlp_width=_WIDTH, position_side=4
    )
    text = TextTowerConfig(width=32, depth=1, attention_heads=2, mlp_width=32)
    return ContrastConfig(data=data, loop=_loop(4), encoder=encoder, pool=_POOL, text_tower=text)


def align() -> AlignConfig:
    """viq train align --recipe debug --start CONTRAST --out RUN"""
    return AlignConfig(data=_TEXT, loop=_loop(), adapter=_ADAPTER, position_side=8)


def proximal() -> ProximalConfig:
    """viq train proximal --recipe debug --start ALIGN --vae VAE --out RUN"""
    return ProximalConfig(
        data=_TEXT,
        loop=_loop(carried=0.5, lm=0.25),
        adapter=_ADAPTER,
        shape=_SHAPE,
        bottleneck=8,
    )


def quantize() -> QuantizeConfig:
    """viq train quantize --recipe debug --start PROXIMAL --out RUN"""
    blocks = CodeBlocks(depth=1, mlp_width=16, attention_width=16)
    return QuantizeConfig(
        data=_TEXT,
        loop=_loop(carried=0.5, new=0.5, projector=1.0, lm=1.0),  # all named, as nano's
        adapter=_ADAPTER,
        shape=_SHAPE,
        bottleneck=8,
        code_blocks=blocks,
    )


def decoder() -> DecoderConfig:
    """viq train decoder --recipe debug --start QUANTIZE --out RUN

    Without perceptual and REPA networks, which have to be installed.
    """
    return DecoderConfig(
        data=_CROPS,
        loop=_loop(4),
        perceptual_weight=0.0,
        repa_weight=0.0,
        discriminator=DiscriminatorConfig(width=8),
    )


def sft() -> SftConfig:
    """viq train sft --recipe debug --start QUANTIZE --data CODES --out RUN

    $ viq extract PICTURES --model QUANTIZE/tokenizer --max-pixels 9216 --out CODES
    """
    data = TextDataConfig(
        sources=(SourceConfig(name="data", path=DATA),),
        validation=(SourceConfig(name="data", path=HELD_OUT),),
        phases=(
            PhaseConfig(
                area=96**2,
                pool=2,
                seq_len=512,
                max_patches=512,
                weights={"data": 1.0},
                tokens=2048,
            ),
        ),
        workers=0,
        validation_samples=2,
    )
    return SftConfig(data=data, loop=_loop(), adapter=_ADAPTER)


def reconstruct() -> ReconstructConfig:
    """viq train reconstruct --recipe debug --vae VAE --out RUN"""
    return ReconstructConfig(data=_CROPS, loop=_loop(4), network=nano_network())
