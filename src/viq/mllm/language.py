"""The language model inside: where its answers end, and one of random weights."""

import copy
from typing import Any

from transformers import AutoModelForCausalLM, GenerationConfig

from viq.errors import ModelError
from viq.mllm.config import MultimodalConfig


def random_language_model(config: MultimodalConfig) -> Any:
    """A model of the config's ``text_config``, its weights as transformers draws them.

    Raises:
        ModelError: the config has none.
    """
    if config.text_config is None:
        raise ModelError("the config has no text_config; make the model by build()", config.lm)
    text_config = copy.deepcopy(config.text_config)
    make: Any = AutoModelForCausalLM.from_config
    return make(text_config, attn_implementation="sdpa")


def ends_of_answers(model: Any, tokenizer: Any) -> list[int]:
    """Tokens after which there is no more: the model's, the tokenizer's, the chat template's.

    Raises:
        ModelError: there is a tokenizer, but no such token.
    """
    ends = [getattr(tokenizer, "eos_token_id", None)]
    of_model: Any = getattr(model.generation_config, "eos_token_id", None)
    ends += of_model if isinstance(of_model, list) else [of_model]
    chat = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "answer"}]
    if tokenizer is not None and tokenizer.chat_template is not None:
        # Base models' own end is that of a document; a turn ends by what the template writes.
        text = tokenizer.apply_chat_template(chat, tokenize=False)
        after = tokenizer(text.rpartition("answer")[2], add_special_tokens=False)["input_ids"]
        special = {
            number for number, token in tokenizer.added_tokens_decoder.items() if token.special
        }
        ends += special.intersection(after[:1])
    known = sorted({end for end in ends if end is not None})
    if tokenizer is not None and not known:
        raise ModelError(f"{type(model).__name__} has no token that ends an answer")
    return known


def generation_config(model: Any, tokenizer: Any) -> GenerationConfig:
    """The language model's own, with all ends of answers.

    Raises:
        ModelError: see ``ends_of_answers``.
    """
    config: GenerationConfig = copy.deepcopy(model.generation_config)
    if ends := ends_of_answers(model, tokenizer):
        config.eos_token_id, config.pad_token_id = ends, ends[0]
    return config
