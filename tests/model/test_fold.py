"""The embedder with its first linear maps made one; folding whole networks is in test_network."""

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from viq.model.embedder import CodeEmbedder, EmbedderConfig
from viq.model.fold import fold_embedder
from viq.model.head import QuantizerConfig
from viq.model.presets import giant, nano
from viq.model.quantizers import CODEBOOKS

DIRECT = QuantizerConfig(levels=CODEBOOKS["64k"])
NESTED = QuantizerConfig(levels=CODEBOOKS["16k"], bottleneck=32)
SIMVQ = QuantizerConfig(levels=None, bottleneck=24, codebook_size=500, limit="l2")


def embedder_of(quantizer, *, merge_width=None, mlp_width=None, depth=1, dtype=torch.float32):
    torch.manual_seed(0)
    config = EmbedderConfig(
        width=96,
        code_heads=4,
        code_width=40,
        merge_width=merge_width,
        mlp_width=mlp_width,
        depth=depth,
        residual_width=64,
        quantizer=quantizer,
    )
    embedder = CodeEmbedder(config).to(dtype).eval().requires_grad_(False)
    for parameter in embedder.parameters():  # biases, scale and shift as after some training
        parameter.add_(torch.randn_like(parameter) * 0.1)
    return embedder


def codes_of(embedder, count=600):
    generator = torch.Generator().manual_seed(1)
    size = embedder.quantizer.codebook_size
    return torch.randint(size, (count, 4), generator=generator)


@pytest.mark.parametrize("quantizer", [DIRECT, NESTED, SIMVQ], ids=["direct", "nested", "simvq"])
@pytest.mark.parametrize("merge_width", [None, 160], ids=["linear", "mlp"])
@pytest.mark.parametrize("mlp_width", [None, 80])
def test_features_are_the_embedders(quantizer, merge_width, mlp_width):
    embedder = embedder_of(quantizer, merge_width=merge_width, mlp_width=mlp_width)
    codes = codes_of(embedder)
    folded, expected = fold_embedder(embedder)(codes), embedder(codes)
    assert expected.std() > 0.1
    assert (folded - expected).abs().max() < 1e-5


def test_every_code_has_the_embedders_features():
    embedder = embedder_of(QuantizerConfig(levels=CODEBOOKS["2k"]), merge_width=160)
    every = torch.arange(embedder.quantizer.codebook_size)[:, None].expand(-1, 4)
    assert (fold_embedder(embedder)(every) - embedder(every)).abs().max() < 1e-5


def test_double_precision_stays_exact():
    embedder = embedder_of(NESTED, merge_width=160, dtype=torch.float64)
    codes = codes_of(embedder)
    torch.testing.assert_close(fold_embedder(embedder)(codes), embedder(codes), rtol=0, atol=1e-13)


def test_the_bundled_embedder_folds():
    embedder = CodeEmbedder(nano().embedder).eval().requires_grad_(False)
    codes = codes_of(embedder)
    assert (fold_embedder(embedder)(codes) - embedder(codes)).abs().max() < 1e-5


def test_codes_of_any_integer_type_and_of_no_image():
    embedder = embedder_of(DIRECT, merge_width=160)
    folded, codes = fold_embedder(embedder), codes_of(embedder)
    assert torch.equal(folded(codes.int()), folded(codes))
    assert torch.equal(folded(codes.to(torch.uint16)), folded(codes))
    assert folded(codes[:0]).shape == (0, 96)


def test_a_patch_has_the_same_features_in_any_company():
    embedder = embedder_of(DIRECT, merge_width=160)
    folded, codes = fold_embedder(embedder), codes_of(embedder)
    assert torch.equal(folded(codes[:7]), folded(codes)[:7])


def test_the_rest_is_shared_and_the_embedder_unchanged():
    embedder = embedder_of(NESTED, merge_width=160, mlp_width=80)
    before = {name: tensor.clone() for name, tensor in embedder.state_dict().items()}
    folded = fold_embedder(embedder)
    assert all(torch.equal(before[name], t) for name, t in embedder.state_dict().items())
    own = {id(parameter) for parameter in embedder.parameters()}
    added = [name for name, p in folded.named_parameters() if id(p) not in own]
    assert added == ["first.weight", "first.bias"]
    assert not any(parameter.requires_grad for parameter in folded.parameters())
    assert folded.training is embedder.training is False


def test_half_of_the_giant_embedders_products_go():
    """80 M multiply-adds a patch become 43 M, counted by torch as they are called."""
    with torch.device("meta"):
        embedder = CodeEmbedder(giant().embedder).requires_grad_(False)
        codes = torch.zeros(1000, 4, dtype=torch.int64)
    millions = []
    for module in (embedder, fold_embedder(embedder)):
        with FlopCounterMode(display=False) as counter:
            assert module(codes).shape == (1000, 1536)
        millions.append(counter.get_total_flops() / 2 / 1000 / 1e6)
    assert millions == [pytest.approx(80.3, abs=0.05), pytest.approx(42.6, abs=0.05)]


@pytest.mark.slow
def test_giant_features_are_the_embedders():
    torch.manual_seed(0)
    embedder = CodeEmbedder(giant().embedder).eval().requires_grad_(False)
    codes = codes_of(embedder)
    assert (fold_embedder(embedder)(codes) - embedder(codes)).abs().max() < 1e-5


def test_an_embedder_that_trains_is_not_folded():
    embedder = embedder_of(DIRECT)
    embedder.scale.requires_grad_(True)
    with pytest.raises(ValueError, match="1 tensors of this embedder train; fold one that is froz"):
        fold_embedder(embedder)


def test_a_proximal_embedder_is_not_folded():
    proximal = QuantizerConfig(levels=None, bottleneck=24, limit="l_inf")
    embedder = CodeEmbedder(replace(nano().embedder, quantizer=proximal)).requires_grad_(False)
    with pytest.raises(ValueError, match="a proximal embedder has no codes"):
        fold_embedder(embedder)
