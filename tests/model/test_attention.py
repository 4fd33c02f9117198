import math

import pytest
import torch

from viq.model.attention import attention, attention_backend, backend_for, has_varlen
from viq.model.packing import Packing

PACKING = Packing.of([(2, 3), (2, 3), (3, 2), (1, 1), (4, 4)])


def inputs(dtype=torch.float32, device="cpu", channels=16, heads=4, shared=4):
    torch.manual_seed(0)
    rows = sum(PACKING.lengths)
    return [
        torch.randn(rows, count, channels).to(device, dtype) for count in (heads, shared, shared)
    ]


def plainly(query, key, value, causal=False, scale=None):
    """Attention inside each segment by its definition, head by head of keys and values."""
    key, value = (x.repeat_interleave(query.shape[1] // x.shape[1], 1) for x in (key, value))
    parts = []
    for start, end in zip(PACKING.offsets, PACKING.offsets[1:], strict=False):
        scores = torch.einsum("qad,kad->aqk", query[start:end], key[start:end])
        scores = scores * (query.shape[-1] ** -0.5 if scale is None else scale)
        if causal:
            later = torch.ones_like(scores[0], dtype=torch.bool).triu(1)
            scores = scores.masked_fill(later, -math.inf)
        parts.append(torch.einsum("aqk,kad->qad", scores.softmax(-1), value[start:end]))
    return torch.cat(parts)


@pytest.mark.parametrize("channels", [6, 16, 72])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("shared", [1, 2, 4])
def test_attention_stays_inside_each_segment(channels, causal, shared):
    query, key, value = inputs(channels=channels, shared=shared)
    out = attention(query, key, value, PACKING, causal=causal)
    torch.testing.assert_close(out, plainly(query, key, value, causal))
    out = attention(query, key, value, PACKING, causal=causal, scale=0.7)
    torch.testing.assert_close(out, plainly(query, key, value, causal, 0.7))


@pytest.mark.parametrize("causal", [False, True])
def test_gradients_are_those_of_the_definition(causal):
    tensors = [x.requires_grad_() for x in inputs(channels=6, shared=2)]
    weights = torch.randn_like(tensors[0])
    found = torch.autograd.grad(
        (attention(*tensors, PACKING, causal=causal) * weights).sum(), tensors
    )
    expected = torch.autograd.grad((plainly(*tensors, causal) * weights).sum(), tensors)
    torch.testing.assert_close(found, expected)


def test_values_may_be_narrower_than_keys():
    query, key, value = inputs(channels=24)
    out = attention(query, key, value[..., :10], PACKING)
    torch.testing.assert_close(out, plainly(query, key, value)[..., :10])


def test_no_segments_give_no_rows():
    empty = torch.zeros(0, 4, 16)
    assert attention(empty, empty, empty, Packing.of([])).shape == (0, 4, 16)


def test_heads_that_cannot_be_shared_evenly_are_refused():
    query, key, value = inputs(heads=4, shared=3)
    with pytest.raises(ValueError, match="4 heads of queries do not share 3 heads of keys"):
        attention(query, key, value, PACKING)


def test_rows_of_other_segments_are_refused():
    with pytest.raises(ValueError, match="35 rows, but segments of 6 in all"):
        attention(*inputs(), Packing.of([(2, 3)]))


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


@pytest.mark.parametrize("backend", ["varlen", "flash_attn"])
@pytest.mark.parametrize("causal", [False, True])
def test_the_kernels_of_a_gpu_are_asked_for_the_same(monkeypatch, backend, causal):
    """Without a GPU their functions are replaced by the definition, with their own signatures."""
    asked = []

    def kernel(query, key, value, causal, scale, offsets, longest):
        assert offsets[0] is offsets[1]
        assert offsets[0].tolist() == PACKING.offsets
        assert longest == (16, 16)
        asked.append(query.shape)
        return plainly(query, key, value, causal, scale)

    def varlen_attn(q, k, v, cu_q, cu_k, max_q, max_k, *, scale, window_size, enable_gqa):
        assert enable_gqa
        is_causal = {(-1, 0): True, (-1, -1): False}[window_size]
        return kernel(q, k, v, is_causal, scale, (cu_q, cu_k), (max_q, max_k))

    def flash_attn_varlen_func(q, k, v, cu_q, cu_k, max_q, max_k, *, softmax_scale, causal):
        return kernel(q, k, v, causal, softmax_scale, (cu_q, cu_k), (max_q, max_k))

    if backend == "varlen":
        if not has_varlen():
            pytest.skip("this torch has no varlen attention")
        monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", varlen_attn)
    else:
        import sys
        from types import SimpleNamespace

        module = SimpleNamespace(flash_attn_varlen_func=flash_attn_varlen_func)
        monkeypatch.setitem(sys.modules, "flash_attn", module)
    query, key, value = inputs(channels=6, shared=2)
    with attention_backend(backend):
        out = attention(query, key, value, PACKING, causal=causal)
    torch.testing.assert_close(out, plainly(query, key, value, causal))
    assert asked == [(35, 4, 16)]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("shared", [2, 4])
@pytest.mark.parametrize("backend", ["varlen", "flash_attn"])
def test_cuda_backends_agree_with_sdpa(backend, shared, causal):
    if backend == "varlen" and not has_varlen():
        pytest.skip("this torch has no varlen attention")
    if backend == "flash_attn":
        pytest.importorskip("flash_attn")
    half = [x.requires_grad_() for x in inputs(torch.bfloat16, "cuda", channels=64, shared=shared)]
    results = []
    for name in ("sdpa", backend):
        with attention_backend(name):
            out = attention(*half, PACKING, causal=causal)
        results.append((out, *torch.autograd.grad(out.float().square().sum(), half)))
    torch.testing.assert_close(results[1], results[0], atol=2e-2, rtol=2e-2)


def test_training_on_a_cpu_in_bfloat16_gives_what_inference_gives():
    tensors = inputs(torch.bfloat16)
    fused = attention(*tensors, PACKING)
    trained = [x.float().requires_grad_() for x in tensors]
    out = attention(*(x.bfloat16() for x in trained), PACKING)
    torch.testing.assert_close(out, fused, rtol=0.02, atol=0.02)
    weights = torch.randn_like(out)
    found = torch.autograd.grad((out * weights).sum(), trained)
    expected = torch.autograd.grad((plainly(*trained) * weights.float()).sum(), trained)
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0.05)
