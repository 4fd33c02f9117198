"""Seconds on one core: what the tests and CI train. The results are of no use."""

from dataclasses import replace

from viq.data.crops import CropConfig
from viq.model.presets import nano as nano_network
from viq.training.loop import LoopConfig
from viq.training.stages.reconstruct import ReconstructConfig
from viq.training.stages.vae import VaeConfig

_CROPS = CropConfig(sizes=((64, 64), (32, 64)), pixels=4 * 64 * 64)
_LOOP = LoopConfig(steps=6, log_steps=1, eval_steps=3, workers=0, dtype="float32")


def vae() -> VaeConfig:
    """viq train vae --recipe debug --data CORPUS --out RUN"""
    return VaeConfig(crops=_CROPS, loop=_LOOP)


def reconstruct() -> ReconstructConfig:
    """viq train reconstruct --recipe debug --data CORPUS --vae RUN/vae --out RUN2"""
    network = nano_network()
    small = replace(network, encoder=replace(network.encoder, depth=1))
    return ReconstructConfig(crops=_CROPS, loop=_LOOP, network=small)
