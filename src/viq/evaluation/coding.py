"""Pictures to codes, and codes to records and back, as all evaluations do it.

It imports little: what is measured in processes of their own needs it, too.
"""

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
from PIL import Image
from torch import nn

from viq.codes import STORED_CODEBOOK_SIZE, Codes
from viq.errors import ImageError, ModelError
from viq.image import scaled_size
from viq.tokenizer import Tokenizer


def scaled(image: Image.Image, max_pixels: int) -> Image.Image:
    """The picture, scaled down if it has more pixels: what evaluations call the original."""
    height, width = scaled_size((image.height, image.width), max_pixels)
    if (width, height) == image.size:
        return image
    return image.resize((width, height), Image.Resampling.LANCZOS)


def encode(tokenizer: Tokenizer, image: Image.Image, name: str) -> Codes:
    """The codes of a picture as large as it is, even above the tokenizer's own limit.

    Raises:
        ImageError: it cannot be encoded; names it.
    """
    most = max(tokenizer.config.image.max_pixels, math.prod(image.size))
    try:
        return tokenizer.encode(tokenizer.prepare(image, max_pixels=most))
    except ImageError as error:
        raise ImageError(error.reason, name) from error


def to_record(codes: Codes) -> dict[str, Any]:
    """Codes as JSON takes them, to be part of a picture's record: {"codes": ...}."""
    values = codes.values.astype(codes.values.dtype.newbyteorder("<"))
    found = {field.name: getattr(codes, field.name) for field in fields(codes)}
    return {"codes": found | {"values": base64.b64encode(values.tobytes()).decode()}}


def codes_of(record: Mapping[str, Any]) -> Codes:
    """The codes that a picture's record holds."""
    found = record["codes"]
    large = math.prod(found["levels"]) > STORED_CODEBOOK_SIZE
    dtype = np.dtype("<u4" if large else "<u2")
    values = np.frombuffer(base64.b64decode(found["values"]), dtype)
    values = values.astype(dtype.newbyteorder("="))
    return Codes(**{**found, "values": values.reshape(math.prod(found["grid_size"]), -1)})


def why_no_decoder(tokenizer: Tokenizer) -> str | None:
    """Why a tokenizer gives no pictures back; None where it does."""
    try:
        tokenizer.part("latent_head")
        tokenizer.vae()
    except ModelError as error:
        return error.reason
    return None


def digest(parts: Sequence[nn.Module]) -> str:
    """Of the weights of networks, whatever their dtype and device."""
    found = hashlib.sha256()
    for part in parts:
        for key, tensor in sorted(part.state_dict().items()):
            found.update(f"{key} {tuple(tensor.shape)}\n".encode())
            found.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
    return found.hexdigest()
