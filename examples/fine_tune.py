"""Fine-tunes a small language model on a data set of codes, in a plain loop; no encoder runs.

The data set needs conversations: `viq extract` keeps them from LLaVA's JSON, or from Parquet with a
column `messages`, such as examples/synthetic_data.py writes.
Run as: python examples/fine_tune.py codes/ --lm smollm2 --steps 200 --out tuned/
"""

import argparse
import random
from pathlib import Path

import torch
from tqdm import tqdm

from viq.codes import Codes
from viq.mllm import AdapterConfig, MultimodalConfig, MultimodalModel
from viq.store import CodeDataset

Sample = tuple[list[dict], list[Codes]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("codes", type=Path, metavar="DIR", help="a data set of codes")
    parser.add_argument("--tokenizer", default="nano", help="that made them (default: nano)")
    parser.add_argument("--lm", default="tiny", help="smollm2, a folder, a hub id; or a random one")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch", type=int, default=4, help="conversations of a step")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    samples = conversations(args.codes)
    config = MultimodalConfig(
        lm=args.lm, tokenizer=args.tokenizer, adapter=AdapterConfig(rank=8, alpha=8, dropout=0.0)
    )
    model = MultimodalModel.build(config)
    first, last = train(model, samples, args.steps, args.batch, random.Random(args.seed))
    model.eval().save_pretrained(args.out)
    print(f"{len(samples)} conversations: loss {first:.3f} at first, {last:.3f} at last")
    print(f"ask it: viq ask PICTURE QUESTION --model {args.out}")


def conversations(where: Path) -> list[Sample]:
    """Each row's messages, and the codes of its images, in memory."""
    data = CodeDataset(where)
    if "messages" not in data.schema.names:
        raise SystemExit(f"{where} has no column 'messages'; it has {data.schema.names}")
    messages = [
        message
        for batch in data.batches(columns=["messages"])
        for message in batch.column("messages").to_pylist()
    ]
    return [(turns(some), images) for some, images in zip(messages, data.images(), strict=True)]


def turns(messages: list[dict]) -> list[dict]:
    """Without the keys that Parquet adds to what has others: text of an image is None."""
    return [
        {
            "role": message["role"],
            "content": [{k: v for k, v in part.items() if v is not None} for part in content],
        }
        if isinstance(content := message["content"], list)
        else message
        for message in messages
    ]


def train(
    model: MultimodalModel, samples: list[Sample], steps: int, batch: int, chance: random.Random
) -> tuple[float, float]:
    """Trains projector and adapters; returns the mean losses of the first and the last steps."""
    processor = model.processor()
    groups = model.parameter_groups()
    rates = {"projector": 1e-3, "lm": 5e-4}
    optimizer = torch.optim.AdamW(
        [{"params": parameters, "lr": rates[name]} for name, parameters in groups.items()]
    )
    model.train()
    losses = []
    for _ in tqdm(range(steps), unit="step"):
        texts, images = zip(*chance.sample(samples, min(batch, len(samples))), strict=True)
        inputs = processor(list(texts), [list(some) for some in images], labels=True)
        loss = model(**inputs).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    few = max(1, steps // 5)
    return sum(losses[:few]) / few, sum(losses[-few:]) / few


if __name__ == "__main__":
    main()
