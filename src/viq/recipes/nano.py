"""The bundled model's recipe, for two CPU cores."""

from viq.data.crops import CropConfig
from viq.training.loop import LoopConfig, OptimConfig
from viq.training.stages.reconstruct import ReconstructConfig
from viq.training.stages.vae import VaeConfig

# Photographs and what looks like them are what a tokenizer is judged by.
_WEIGHTS = {"photo": 6, "aigen": 3, "art": 3, "render": 3, "screenshot": 1, "map": 2}


def vae() -> VaeConfig:
    """viq train vae --recipe nano --data CORPUS --out RUN"""
    return VaeConfig(
        crops=CropConfig(sizes=((128, 128),), pixels=2**18, weights=_WEIGHTS),
        loop=LoopConfig(steps=700, optim=OptimConfig(lr=2e-3, weight_decay=0.0)),
    )


def reconstruct() -> ReconstructConfig:
    """viq train reconstruct --recipe nano --data CORPUS --vae RUN/vae --out RUN2"""
    wide, large = ((96, 160), (160, 96), (192, 128), (128, 192)), ((256, 256), (256, 384))
    sizes = ((128, 128),) * 4 + wide + large + ((384, 256), (512, 512))
    return ReconstructConfig(
        crops=CropConfig(sizes=sizes, pixels=2**19, weights=_WEIGHTS),
        loop=LoopConfig(steps=4000, optim=OptimConfig(lr=1e-3)),
        latent_weight=0.1,
    )
