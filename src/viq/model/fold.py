"""Two linear maps in a row made one, so that a trained tokenizer ships in the released layout.

Quantisation is trained inside the proximal bottleneck, C -> D -> K and K -> D -> C. Nothing lies
between the maps of a pair, so the plain C -> K and K -> C give the same codes and features.
"""

from dataclasses import replace

import torch
from torch import Tensor

from viq.model.head import QuantizerConfig
from viq.model.layers import Linear
from viq.model.network import Network


def fold(network: Network) -> Network:
    """The same network with FSQ direct instead of nested; itself where there is none to fold."""
    config = network.config
    if not config.head.quantizer.is_nested:
        return network
    quantizer = QuantizerConfig(levels=config.head.quantizer.levels)
    plain = replace(
        config,
        head=replace(config.head, quantizer=quantizer),
        embedder=replace(config.embedder, quantizer=quantizer),
    )
    head, embedder = network.head, network.embedder
    assert head.reduce is not None
    assert embedder.expand is not None
    tensors = {
        name: tensor
        for name, tensor in network.state_dict().items()
        if not name.startswith(("head.reduce.", "embedder.expand."))
    }
    for name, first, second in (
        ("head.project_in", head.project_in, head.reduce),
        ("embedder.project_out", embedder.expand, embedder.project_out),
    ):
        tensors |= {f"{name}.{key}": tensor for key, tensor in chain(first, second).items()}
    with torch.device("meta"):
        folded = Network(plain)
    folded.load_state_dict(tensors, assign=True)
    return folded.train(network.training)


def chain(first: Linear, second: Linear) -> dict[str, Tensor]:
    """Weight and bias of ``second`` after ``first``, in their dtype; multiplied in float64."""
    outer = second.weight.detach().double()
    weight = outer @ first.weight.detach().double()
    bias = outer @ first.bias.detach().double() + second.bias.detach().double()
    dtype = first.weight.dtype
    return {"weight": weight.to(dtype), "bias": bias.to(dtype)}
