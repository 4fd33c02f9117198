import pytest
import torch

from viq.model.attention import attention, attention_backend, backend_for, has_varlen
from viq.model.packing import Packing

PACKING = Packing.of([(2, 3), (2, 3), (3, 2), (1, 1), (4, 4)])


def inputs(dtype=torch.float32, device="cpu", channels=16):
    torch.manual_seed(0)
    shape = (3, sum(PACKING.lengths), 4, channels)
    return torch.randn(shape, device=device).to(dtype).unbind(0)


@pytest.mark.parametrize("channels", [6, 16, 72])
def test_attention_stays_inside_each_image(channels):
    query, key, value = inputs(channels=channels)
    out = attention(query, key, value, PACKING)
    for start, end in zip(PACKING.offsets, PACKING.offsets[1:], strict=False):
        scores = torch.einsum("qad,kad->aqk", query[start:end], key[start:end]) * channels**-0.5
        expected = torch.einsum("aqk,kad->qad", scores.softmax(-1), value[start:end])
        torch.testing.assert_close(out[start:end], expected)


def test_neighbours_of_equal_length_are_one_run():
    assert PACKING.runs == [(0, 3, 6), (18, 1, 1), (19, 1, 16)]


def test_cu_seqlens_are_int32_from_zero():
    offsets = PACKING.cu_seqlens(torch.device("cpu"))
    assert offsets.dtype == torch.int32
    assert offsets.tolist() == PACKING.offsets == [0, 6, 12, 18, 19, 35]
    assert PACKING.max_seqlen == 16


def test_float32_takes_sdpa():
    assert backend_for(inputs()[0]) == "sdpa"


def test_an_unknown_backend_is_named_with_those_that_there_are():
    with pytest.raises(ValueError, match=r"'flash'.*auto, sdpa, varlen, flash_attn"):
        attention_backend("flash").__enter__()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("backend", ["varlen", "flash_attn"])
def test_cuda_backends_agree_with_sdpa(backend):
    if backend == "varlen" and not has_varlen():
        pytest.skip("this torch has no varlen attention")
    if backend == "flash_attn":
        pytest.importorskip("flash_attn")
    half = inputs(torch.bfloat16, "cuda", channels=64)
    with attention_backend("sdpa"):
        expected = attention(*half, PACKING)
    with attention_backend(backend):
        out = attention(*half, PACKING)
    torch.testing.assert_close(out, expected, atol=2e-2, rtol=2e-2)
