"""SigLIP 2 giant and the paper's hyper-parameters. Not run: meant for 128 to 256 GPUs of 80 GB.

Run by ``accelerate launch -m viq.cli.main`` in the place of ``viq``. The start, which is the
teacher too, is a tower made by ``viq convert siglip2``; --perceptual names a folder with LPIPS
and --features one with DINOv2.
"""

from viq.recipes import paper
from viq.training.stages.align import AlignConfig
from viq.training.stages.decoder import DecoderConfig
from viq.training.stages.proximal import ProximalConfig
from viq.training.stages.quantize import QuantizeConfig

_WIDTH = 1536


def align() -> AlignConfig:
    """viq train align --recipe giant --start TOWER --data DATA --out RUN"""
    return paper.align()


def proximal() -> ProximalConfig:
    """viq train proximal --recipe giant --start ALIGN --vae QWEN_VAE --out RUN"""
    return paper.proximal(_WIDTH)


def quantize() -> QuantizeConfig:
    """viq train quantize --recipe giant --start PROXIMAL --out RUN"""
    return paper.quantize(_WIDTH)


def decoder() -> DecoderConfig:
    """viq train decoder --recipe giant --start QUANTIZE --out RUN"""
    return paper.decoder("lpips", "dinov2")
