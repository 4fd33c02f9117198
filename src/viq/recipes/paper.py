"""The paper's hyper-parameters (https://arxiv.org/abs/2606.27313): recipes so400m and giant.

What the paper leaves open is the official code's (weight decay, adapters, clipping) or ours (the
decoder's weights of KL and critic, its average; AdamW's betas). Not run: they
are meant for 128 to 256 GPUs of 80 GB. The samples are the user's, named by --data; the start of
stage align, which is the teacher too, is a tower made by ``viq convert siglip2``.

$ accelerate launch -m viq.cli.main train align --recipe giant --start TOWER --data DATA --out A
$ ... train proximal --recipe giant --start A --vae QWEN_VAE --out B
$ ... train quantize --recipe giant --start B --out C
$ ... train decoder --recipe giant --start C --perceptual LPIPS --features DINOV2 --out D
$ viq extract DATA --model C/tokenizer --max-pixels 589824 --out CODES
$ ... train sft --recipe giant --start C --data CODES --lm Qwen/Qwen2.5-1.5B-Instruct --out E
$ ... train sft --recipe giant --vision foreign --vision-model SIGLIP2 --data DATA --lm ... --out F
"""

from viq.data.config import ImageDataConfig, PhaseConfig, TextDataConfig
from viq.data.crops import CropConfig
from viq.data.sources import SourceConfig
from viq.model.presets import released_code_blocks, released_shape
from viq.training.launch import DATA, HELD_OUT
from viq.training.loop import LoopConfig
from viq.training.optim import OptimConfig
from viq.training.stages.align import AlignConfig
from viq.training.stages.decoder import DecoderConfig
from viq.training.stages.proximal import ProximalConfig
from viq.training.stages.quantize import QuantizeConfig
from viq.training.stages.sft import SftConfig

_TRAIN = (SourceConfig(name="data", path=DATA),)
_HELD_OUT = (SourceConfig(name="data", path=DATA, split="validation"),)
_BILLION = 10**9


def _phase(side: int, pool: int, tokens: int, seq_len: int = 4096) -> PhaseConfig:
    return PhaseConfig(
        area=side**2,
        pool=pool,
        seq_len=seq_len,
        max_patches=4 * seq_len,
        weights={"data": 1},
        tokens=tokens,
    )


def _data(*phases: PhaseConfig) -> TextDataConfig:
    return TextDataConfig(sources=_TRAIN, validation=_HELD_OUT, phases=phases, workers=8)


def _loop(optim: OptimConfig) -> LoopConfig:
    return LoopConfig(optim=optim, accumulate=2, checkpointing=True, keep_every=10_000)


def align() -> AlignConfig:
    """384^2 pixels and 16 patches a token, then 768^2 and 4; 3 billion tokens each.

    Then native size, for which the paper gives no budget; half a billion is ours.
    """
    optim = OptimConfig(lr=5e-5, min_ratio=0.4, weight_decay=1e-4)  # down to 2e-5
    data = _data(
        _phase(384, 4, 3 * _BILLION),
        _phase(768, 2, 3 * _BILLION),
        _phase(2048, 2, _BILLION // 2, seq_len=16384),
    )
    return AlignConfig(data=data, loop=_loop(optim), position_side=128)


def proximal(width: int) -> ProximalConfig:
    """1 billion tokens; what is new learns twice as fast."""
    halved = dict.fromkeys(("carried", "projector", "lm"), 0.5)
    optim = OptimConfig(lr=1e-4, lr_scale=halved, min_ratio=0.1, weight_decay=1e-4)
    data = _data(_phase(768, 2, _BILLION))
    return ProximalConfig(data=data, loop=_loop(optim), shape=released_shape(width))


def quantize(width: int) -> QuantizeConfig:
    """30 billion tokens at one rate."""
    optim = OptimConfig(lr=5e-5, schedule="constant", weight_decay=1e-4)
    return QuantizeConfig(
        data=_data(_phase(768, 2, 30 * _BILLION)),
        loop=_loop(optim),
        shape=released_shape(width),
        code_blocks=released_code_blocks(width),
    )


def decoder() -> DecoderConfig:
    """50,000 steps of 4096 crops of 256^2: here 16 a GPU, on 128 GPUs, accumulated twice."""
    crops = CropConfig(sizes=((256, 256),), pixels=16 * 256**2)
    optim = OptimConfig(lr=6e-4, schedule="constant", warmup=0.1, weight_decay=1e-4)
    return DecoderConfig(
        data=ImageDataConfig(sources=_TRAIN, validation=_HELD_OUT, crops=crops, workers=8),
        loop=LoopConfig(steps=50_000, optim=optim, accumulate=2, ema=0.9999, keep_every=10_000),
        perceptual="LPIPS",  # folders
        features="DINOV2",
    )


def sft() -> SftConfig:
    """All of a language model on 2 million samples of LLaVA-OneVision, at most 768^2 pixels.

    On codes of those, by viq extract --max-pixels 589824. The paper says no more; the rates are
    LLaVA-NeXT's, the ten times higher one of the new projector and the budget, about one epoch,
    are ours.
    """
    phase = _phase(768, 2, 1_600_000_000, seq_len=16384)
    return SftConfig(
        data=TextDataConfig(
            sources=_TRAIN,
            validation=(SourceConfig(name="data", path=HELD_OUT),),
            phases=(phase,),
            workers=8,
        ),
        loop=_loop(
            OptimConfig(
                lr=1e-5, lr_scale={"projector": 10.0}, warmup=0.03, min_ratio=0.0, weight_decay=0.0
            )
        ),
        adapter=None,
        train_lm=True,
        fresh=True,  # all that are compared start alike
    )
