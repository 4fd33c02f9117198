"""What the language model reads: the embeddings of words, with images' tokens between them.

Axes: N patches of all images, L tokens of all texts, (B, T) padded texts, V tokens of images, C
channels of features, D of the language model.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from viq.mllm.images import Images
from viq.model.packing import Packing

if TYPE_CHECKING:
    from viq.mllm.model import MultimodalModel


def embed_packed(
    model: "MultimodalModel",
    features: Tensor,
    packing: Packing,
    pool: int,
    input_ids: Tensor,
    image_positions: Tensor,
) -> Tensor:
    """The language model's input (L, D): embeddings, and images' tokens in their places.

    Raises:
        ValueError: the images give more or fewer tokens than there are places.
    """
    tokens = model.projector(features, packing, pool)
    if len(tokens) != len(image_positions):
        raise ValueError(
            f"{len(packing)} images give {len(tokens)} tokens, but the texts have"
            f" {len(image_positions)} places for them."
        )
    embedded: Tensor = model.get_input_embeddings()(input_ids)
    return embedded.index_copy(0, image_positions, tokens.to(embedded.dtype))


def embed_padded(
    model: "MultimodalModel", images: Images, input_ids: Tensor, mm_token_type_ids: Tensor | None
) -> Tensor:
    """The language model's input (B, T, D); see ``MultimodalModel.embed_inputs``."""
    if mm_token_type_ids is None:
        places = input_ids.new_zeros(0)
    elif mm_token_type_ids.shape != input_ids.shape:
        raise ValueError(
            f"mm_token_type_ids have shape {tuple(mm_token_type_ids.shape)}, but input_ids"
            f" {tuple(input_ids.shape)}."
        )
    else:
        places = mm_token_type_ids.flatten().nonzero().flatten()
    # In training projector and embedder run on no images, too: distributed training wants
    # gradients of all parameters.
    if not (len(images.packing) or len(places) or model.training):
        embedded: Tensor = model.get_input_embeddings()(input_ids)
        return embedded
    if images.features is not None:
        features = images.features.to(model.device)
    elif images.codes is not None:
        features = model.embed_codes(images.codes)
    else:
        features = no_features(model)
    pool = model.config.pool
    flat = embed_packed(model, features, images.packing, pool, input_ids.flatten(), places)
    return flat.unflatten(0, input_ids.shape)


def no_features(model: "MultimodalModel") -> Tensor:
    """(0, C), by which gradients of zero reach the embedder: distributed training wants all."""
    if model.embedder is None:
        return torch.zeros(0, model.projector.config.width, device=model.device)
    one = torch.zeros(1, model.embedder.config.code_heads, dtype=torch.int32)
    features: Tensor = model.embedder(one.to(model.device))
    return features[:0]
