"""Packed texts give any language model what each text alone gives it, and no mask is made."""

import pytest
import torch
import torch.nn.functional as F
import transformers
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM

from viq.errors import ModelError
from viq.mllm.packed_attention import (
    Segments,
    no_mask,
    packed_attention,
    packed_logits,
    use_packed_attention,
)

LENGTHS = [5, 1, 9, 9, 3]
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 50,
}
SHARED = {"num_key_value_heads": 2}
WINDOW = {**SHARED, "head_dim": 8, "sliding_window": 16}
FAMILIES = {
    "Llama": SHARED,
    "Qwen2": SHARED,
    "Qwen3": {**SHARED, "head_dim": 8},
    "GPTNeoX": {},
    "Gemma": {**SHARED, "head_dim": 8},
    "Gemma3Text": WINDOW,
    "Mistral": WINDOW,
    "Phi": SHARED,
}


def random_lm(family, **sizes):
    config = getattr(transformers, f"{family}Config")(
        **SIZES | sizes, pad_token_id=0, bos_token_id=1, eos_token_id=2
    )
    return AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()


def losses(logits, labels):
    """Of each text, where each token predicts the next."""
    parts = zip(logits.split(LENGTHS), labels.split(LENGTHS), strict=True)
    return torch.stack([F.cross_entropy(x[:-1], y[1:], reduction="sum") for x, y in parts])


def alone(lm, embedded):
    """The logits of each text by itself, by transformers' own attention."""
    outs = [lm(inputs_embeds=x[None], use_cache=False).logits[0] for x in embedded.split(LENGTHS)]
    return torch.cat(outs)


@pytest.mark.parametrize("family", FAMILIES)
def test_losses_and_gradients_are_those_of_one_text_at_a_time(family):
    lm = random_lm(family, **FAMILIES[family])
    embedded = torch.randn(sum(LENGTHS), 32, requires_grad=True)
    labels = torch.randint(50, (sum(LENGTHS),))
    expected = losses(alone(lm, embedded), labels)
    (expected_gradient,) = torch.autograd.grad(expected.sum(), embedded)
    use_packed_attention(lm)
    found = losses(packed_logits(lm, embedded, LENGTHS, torch.arange(len(embedded))), labels)
    (gradient,) = torch.autograd.grad(found.sum(), embedded)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(gradient, expected_gradient, rtol=0, atol=1e-5)


def test_only_the_places_asked_for_get_logits():
    lm, embedded = random_lm("Llama"), torch.randn(sum(LENGTHS), 32)
    use_packed_attention(lm)
    with torch.no_grad():
        all_logits = packed_logits(lm, embedded, LENGTHS, torch.arange(len(embedded)))
        for places in ([3, 8, 9], []):
            places = torch.tensor(places, dtype=torch.int64)
            some = packed_logits(lm, embedded, LENGTHS, places)
            assert some.shape == (len(places), 50)
            torch.testing.assert_close(some, all_logits[places])


def test_gradient_checkpointing_hands_the_texts_down_again():
    lm, embedded = random_lm("Llama"), torch.randn(sum(LENGTHS), 32, requires_grad=True)
    use_packed_attention(lm)
    gradients, places = [], torch.arange(len(embedded))
    for checkpointing in (False, True):
        if checkpointing:
            lm.train()
            lm.activation_checkpointing_enable({"use_reentrant": False})
        out = packed_logits(lm, embedded, LENGTHS, places).square().sum()
        gradients.append(torch.autograd.grad(out, embedded)[0])
    torch.testing.assert_close(gradients[1], gradients[0])


class Largest(TorchDispatchMode):
    """Notes the bytes of the largest tensor."""

    nbytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, torch.Tensor):
                self.nbytes = max(self.nbytes, tensor.untyped_storage().nbytes())
        return out


def test_16k_tokens_are_packed_without_a_mask():
    lengths = [4096, 4096, 3000, 5000, 100, 92]
    lm = random_lm("Llama", hidden_size=16, num_attention_heads=1)
    use_packed_attention(lm)
    embedded, places = torch.randn(16384, 16), torch.arange(16384)
    with torch.no_grad(), Largest() as largest:
        packed = packed_logits(lm, embedded, lengths, places).split(lengths)
    assert 16384 * 48 * 4 <= largest.nbytes < 16384 * 16384 // 8  # a bit for each pair is more
    with torch.no_grad():
        for rows, found in list(zip(embedded.split(lengths), packed, strict=True))[2:]:
            expected = packed_logits(lm, rows, [len(rows)], torch.arange(len(rows)))
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_transformers_own_packing_makes_a_mask():
    """So the test above would see one."""
    lm = random_lm("Llama", hidden_size=16, num_attention_heads=1)
    lm.set_attn_implementation("sdpa")
    positions = torch.arange(512).repeat(4)[None]
    with torch.no_grad(), Largest() as largest:
        lm(inputs_embeds=torch.randn(1, 2048, 16), position_ids=positions, use_cache=False)
    assert largest.nbytes >= 2048 * 2048


def test_autocast_takes_its_dtype():
    lm, embedded = random_lm("Llama"), torch.randn(sum(LENGTHS), 32)
    use_packed_attention(lm)
    places = torch.arange(len(embedded))
    with torch.no_grad():
        exact = packed_logits(lm, embedded, LENGTHS, places)
        with torch.autocast("cpu", torch.bfloat16):
            rough = packed_logits(lm, embedded, LENGTHS, places)
        lm.bfloat16()
        half = packed_logits(lm, embedded.bfloat16(), LENGTHS, places)
    assert rough.dtype == half.dtype == torch.bfloat16
    torch.testing.assert_close(rough.float(), exact, rtol=0, atol=2e-2)
    torch.testing.assert_close(half.float(), exact, rtol=0, atol=2e-2)


@pytest.mark.parametrize(
    ("family", "sizes", "message"),
    [
        ("Mistral", {"sliding_window": 8}, "window of 8 tokens, but a text has 9"),
        ("Gemma2", {"head_dim": 8}, "asks for softcap"),
        ("GptOss", {"head_dim": 8, "num_local_experts": 2}, "asks for s_aux"),
        ("Nemotron", SHARED, "no segments reach NemotronAttention"),
    ],
)
def test_attention_that_cannot_be_packed_is_named(family, sizes, message):
    lm = random_lm(family, **sizes)
    use_packed_attention(lm)
    with pytest.raises(ModelError, match=message):
        packed_logits(lm, torch.randn(sum(LENGTHS), 32), LENGTHS, torch.arange(2))


def test_dropped_attention_is_refused():
    lm = random_lm("Llama", attention_dropout=0.1).train()
    use_packed_attention(lm)
    with pytest.raises(ModelError, match=r"drops 0\.1 of its attention; set that to 0"):
        packed_logits(lm, torch.randn(sum(LENGTHS), 32), LENGTHS, torch.arange(2))


def test_layers_that_mix_texts_are_refused():
    config = transformers.MambaConfig(hidden_size=16, num_hidden_layers=1, vocab_size=50)
    with pytest.raises(ModelError, match="MambaForCausalLM has layers other than attention"):
        use_packed_attention(AutoModelForCausalLM.from_config(config))
    types = ["conv", "full_attention"]
    with pytest.raises(ModelError, match=r"other than attention \(conv\), in which the texts"):
        use_packed_attention(random_lm("Lfm2", layer_types=types))


def test_attention_that_is_not_on_the_interface_is_refused():
    config = transformers.BloomConfig(hidden_size=16, n_layer=1, n_head=2, vocab_size=50)
    with pytest.raises(ModelError, match="BloomForCausalLM does not take its attention from"):
        use_packed_attention(AutoModelForCausalLM.from_config(config))


def test_layers_with_an_attention_of_their_own_are_noticed():
    lm = random_lm("Llama")
    use_packed_attention(lm)
    own = lm.model.layers[1].self_attn
    own.forward = lambda hidden_states, **_: (hidden_states, None)
    with pytest.raises(ModelError, match="2 layers, of which only 1 take their attention"):
        packed_logits(lm, torch.randn(sum(LENGTHS), 32), LENGTHS, torch.arange(2))


def test_masks_are_refused():
    rows = torch.randn(1, 2, 4, 8)
    with pytest.raises(ModelError, match="has a mask of its own"):
        packed_attention(
            torch.nn.Identity(), rows, rows, rows, torch.ones(4, 4), segments=Segments([4])
        )
    with pytest.raises(ModelError, match="a rule laid over the causal mask"):
        no_mask(use_vmap=True)
    assert no_mask(q_length=4) is None
