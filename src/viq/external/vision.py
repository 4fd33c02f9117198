"""Any vision model of transformers as one that sees squares: CLIP, SigLIP, DINOv2 and their like.

It is frozen, and gives a feature for each patch: those of the last layer but one, unless another
is asked for. Tokens that are no patches (class, registers) are left out.

Axes: T tiles, S pixels on a tile's side, s patches on it, C channels of a patch's feature.
"""

import inspect
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from viq.errors import ModelError

_SETTINGS = "preprocessor_config.json"


class SquareVision(nn.Module):
    """A frozen network of squares; ``load_square_vision`` gets one."""

    width: int  # C
    side: int  # S
    grid: int  # s
    resample: int  # how pictures are scaled, by Pillow's number
    mean: Tensor
    std: Tensor

    def __init__(
        self, network: nn.Module, settings: dict[str, Any], *, side: int | None, layer: int | None
    ) -> None:
        """For ``load_square_vision``.

        Raises:
            ValueError: the network or its settings are not of the kind that can be used here.
        """
        super().__init__()
        self.network: Any = network
        self.layer = layer
        self.patch = _one_side(network.config, "patch_size")
        own = _one_side(network.config, "image_size")
        self.side = side or own // self.patch * self.patch  # no network reads parts of patches
        if self.side % self.patch:
            raise ValueError(
                f"tiles of {self.side} pixels are no whole patches; take a multiple of {self.patch}"
            )
        self.grid = self.side // self.patch
        self._options: dict[str, Any] = {}
        asked = inspect.signature(self.network.forward).parameters
        if self.side != own and "interpolate_pos_encoding" in asked:
            self._options["interpolate_pos_encoding"] = True
        mean, std = ([0.0] * 3, [1.0] * 3)
        if settings.get("do_normalize", True):
            mean, std = settings["image_mean"], settings["image_std"]
        scale = settings.get("rescale_factor", 1 / 255) if settings.get("do_rescale", True) else 1.0
        # (value * scale - mean) / std of bytes, in one subtraction and one division.
        self.register_buffer("mean", torch.tensor(mean).div(scale).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).div(scale).view(3, 1, 1), persistent=False)
        self.resample = int(Image.Resampling(settings.get("resample", 3)))
        trial = self._hidden(torch.zeros(1, 3, self.side, self.side))
        if trial.ndim != 3 or trial.shape[1] < self.grid**2:
            raise ValueError(
                f"its features have shape {tuple(trial.shape)}, not one for each of"
                f" {self.grid} x {self.grid} patches"
            )
        self.width = trial.shape[2]

    @torch.no_grad()
    def forward(self, tiles: Tensor) -> Tensor:
        """Features (T, s * s, C), patches row by row, of uint8 tiles (T, 3, S, S)."""
        hidden = self._hidden((tiles.float() - self.mean) / self.std)
        return hidden[:, hidden.shape[1] - self.grid**2 :]  # what is no patch comes first

    @torch.no_grad()
    def _hidden(self, pixels: Tensor) -> Tensor:
        output = self.network(
            pixel_values=pixels, output_hidden_states=self.layer is not None, **self._options
        )
        chosen = output.last_hidden_state
        if self.layer is not None:
            states = output.hidden_states or ()
            if not -len(states) <= self.layer < len(states):
                raise ValueError(
                    f"layer {self.layer} is asked for, but it has {len(states)} hidden states"
                )
            chosen = states[self.layer]
        assert isinstance(chosen, Tensor)
        return chosen


def load_square_vision(
    where: str, *, side: int | None = None, layer: int | None = -2
) -> SquareVision:
    """Loads a vision model, or the vision part of a model of images and texts; frozen, float32.

    Args:
        where: a folder in transformers' layout, or a hub id.
        side: pixels on a tile's side, if not what the model was trained with.
        layer: which of its hidden states; None for its output.

    Raises:
        ModelError: there is no such model, it needs code of its own, its features are not one a
            patch, or nothing says how its pixels are to be normalised.
    """
    if not find_spec("transformers"):
        raise ModelError('vision models need transformers; pip install "viq[train]"', where)
    if not Path(where).is_dir() and ("/" not in where or where.startswith((".", "/"))):
        raise ModelError("no such vision model: not a folder, not a hub id (owner/name)", where)
    from transformers import AutoModel

    try:
        model: Any = AutoModel.from_pretrained(
            where, dtype=torch.float32, trust_remote_code=False, use_safetensors=True
        )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise ModelError(f"the vision model does not load ({_first_line(error)})", where) from error
    if hasattr(model.config, "vision_config"):  # a model of images and texts
        model = getattr(model, "vision_model", None) or getattr(model, "vision_tower", None)
    if model is None or not hasattr(model.config, "patch_size"):
        raise ModelError("has no vision model that sees patches", where)
    settings = _settings(where)
    try:
        loaded = SquareVision(model.eval(), settings, side=side, layer=layer)
    except KeyError as error:
        raise ModelError(f"its {_SETTINGS} has no {error.args[0]}", where) from error
    except (ValueError, TypeError, RuntimeError) as error:
        raise ModelError(f"cannot be used for tiles: {_first_line(error)}", where) from error
    return loaded.eval().requires_grad_(False)


def _settings(where: str) -> dict[str, Any]:
    """What the model's makers say of its pixels."""
    from huggingface_hub import hf_hub_download

    path = Path(where) / _SETTINGS
    try:
        if not Path(where).is_dir():
            path = Path(hf_hub_download(where, _SETTINGS))
        settings = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise ModelError(
            f"no {_SETTINGS}, which says how pixels are normalised; save it beside the weights",
            where,
        ) from error
    except (OSError, ValueError) as error:
        reason = f"its {_SETTINGS} cannot be read ({_first_line(error)})"
        raise ModelError(reason, where) from error
    if not isinstance(settings, dict):
        raise ModelError(f"its {_SETTINGS} is no JSON object", where)
    return settings


def _one_side(config: Any, name: str) -> int:
    """A size of squares, which some models keep twice."""
    if (value := getattr(config, name, None)) is None:
        raise ValueError(f"its config has no {name}, so it is not for squares of one size")
    sides = set(value) if isinstance(value, (list, tuple)) else {value}
    if len(sides) != 1 or not isinstance(side := sides.pop(), int):
        raise ValueError(f"{name} is {value!r}; only squares are seen here")
    return side


def _first_line(error: BaseException) -> str:
    says = repr(error) if isinstance(error, KeyError) else str(error).strip()
    return (says or repr(error)).splitlines()[0]
