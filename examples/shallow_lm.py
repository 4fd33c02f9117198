"""A language model with few of another one's layers, to train a vision tokenizer by.

Stages 1 and 2 need a language model only for the gradients of its answers. On small machines most
of its layers are better left out; the embeddings stay, so what the projector learns fits the whole
model later. What is left over writes nothing sensible before its adapters have trained.

$ python examples/shallow_lm.py --lm smollm2 --layers 0 1 2 10 20 29 --out runs/lm
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import nn

from viq.external.language_model import CHAT_TEMPLATE, load_language_model


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lm", default="smollm2", help="smollm2, a folder or a hub id")
    parser.add_argument("--layers", type=int, nargs="+", default=[0, 1, 2, 10, 20, 29])
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    args = parser.parse_args()
    lm = load_language_model(args.lm, dtype=torch.bfloat16)
    model: Any = lm.model
    model.model.layers = nn.ModuleList(model.model.layers[number] for number in args.layers)
    model.config.num_hidden_layers = len(args.layers)
    if getattr(model.config, "layer_types", None):
        model.config.layer_types = [model.config.layer_types[number] for number in args.layers]
    lm.tokenizer.chat_template = (
        CHAT_TEMPLATE  # without a system's turn, which is a fifth of it all
    )
    model.save_pretrained(args.out)
    lm.tokenizer.save_pretrained(args.out)
    print(f"{args.out}: {sum(p.numel() for p in model.parameters()):,} parameters")


if __name__ == "__main__":
    main()
