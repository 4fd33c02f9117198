"""Two linear maps in a row made one.

``fold`` is for a trained tokenizer, so that it ships in the released layout: quantisation is
trained inside the proximal bottleneck, C -> D -> K and K -> D -> C. Nothing lies between the maps
of a pair, so the plain C -> K and K -> C give the same codes and features.

``fold_embedder`` is for an embedder that does not train: all is one linear map from the Q * K
numbers that the codes of a patch stand for to where its code tokens merge. That spares half of the
products at giant size.

Axes: N patches, Q code heads, K code dimensions, C width, T width of a code token, H of the first
map of the merge.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from viq.model.embedder import CodeEmbedder
from viq.model.head import QuantizerConfig
from viq.model.layers import Linear, Mlp
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


def fold_embedder(embedder: CodeEmbedder) -> nn.Module:
    """Codes (N, Q) to features (N, C) as by ``embedder``, with fewer products.

    All but the first map is the embedder's own, shared with it and not copied.

    Raises:
        ValueError: the embedder trains, so that what is folded now would soon be another one; or
            it is proximal, and has no codes.
    """
    if trains := sum(parameter.requires_grad for parameter in embedder.parameters()):
        raise ValueError(
            f"{trains} tensors of this embedder train; fold one that is frozen"
            " (embedder.requires_grad_(False))."
        )
    if embedder.quantizer is None:
        raise ValueError("a proximal embedder has no codes, so there is nothing to fold.")
    return FoldedEmbedder(embedder).train(embedder.training)


class FoldedEmbedder(nn.Module):
    """What ``fold_embedder`` makes."""

    def __init__(self, embedder: CodeEmbedder) -> None:
        super().__init__()
        merge = embedder.merge
        self.config, self.quantizer = embedder.config, embedder.quantizer
        self.first = _values_to_merge(embedder, merge.fc1 if isinstance(merge, Mlp) else merge)
        rest = [merge.act, merge.fc2] if isinstance(merge, Mlp) else []
        rest += [] if embedder.mlp is None else [embedder.mlp]
        self.rest = nn.Sequential(*rest, *embedder.residual_mlps)
        self.scale, self.shift = embedder.scale, embedder.shift

    def forward(self, codes: Tensor) -> Tensor:
        """Features (N, C) of integer codes (N, Q)."""
        assert self.quantizer is not None
        values = self.quantizer.values(codes).flatten(1).to(self.first.weight.dtype)
        rows: Tensor = self.rest(self.first(values))
        return rows * self.scale + self.shift


def _values_to_merge(embedder: CodeEmbedder, merge: Linear) -> Linear:
    """All linear maps from values (N, Q * K) to where the code tokens meet (N, H), as one."""
    inner, offset = _product(embedder.expand, embedder.project_out)  # (T, K), (T,)
    heads = embedder.config.code_heads
    outer = merge.weight.detach().double()  # (H, Q * T)
    weight = torch.cat([part @ inner for part in outer.chunk(heads, 1)], 1)
    bias = outer @ offset.repeat(heads) + merge.bias.detach().double()
    with torch.device("meta"):
        folded = Linear(weight.shape[1], weight.shape[0])
    tensors = {"weight": weight.to(merge.weight.dtype), "bias": bias.to(merge.bias.dtype)}
    folded.load_state_dict(tensors, assign=True)
    return folded.requires_grad_(False)


def chain(first: Linear, second: Linear) -> dict[str, Tensor]:
    """Weight and bias of ``second`` after ``first``, in their dtype; multiplied in float64."""
    weight, bias = _product(first, second)
    dtype = first.weight.dtype
    return {"weight": weight.to(dtype), "bias": bias.to(dtype)}


def _product(first: Linear | None, second: Linear) -> tuple[Tensor, Tensor]:
    """Weight and bias, float64, of ``second`` after ``first``, if there is one."""
    weight, bias = second.weight.detach().double(), second.bias.detach().double()
    if first is None:
        return weight, bias
    return weight @ first.weight.detach().double(), weight @ first.bias.detach().double() + bias
