"""What codes save of a training step of a language model: the paper's Figure 4.

python benchmarks/mllm_step.py --scale proportional --json benchmarks/results/mllm_step.json

Two ways to train the same Qwen2.5 with random weights on the same samples, in turns: "pixels", an
encoder of SigLIP 2 giant's size that is frozen and runs in every step, and "codes", which were
extracted once and are read from a code data set on disk. A sample is one 768^2 image (2,304
patches, 602 tokens at 2 x 2 patches a token, of which 26 mark rows and ends) and 192 tokens of
text, half of them answers; as many samples as fit are packed into 4,096 or 16,384 tokens. Pixels
lie decoded in memory, so that the encoder's way has its images for nothing.

Encoder and embedder are frozen, the latter folded (``viq.model.fold``). Everything else trains,
without checkpointing of activations. Counted are the FLOPs of all matrix products
(``viq.evaluation.flops``).
"""

import argparse
import gc
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import mllm_sizes
import numpy as np
import torch
from measure import Marks, keep_memory, size_of
from mllm_cases import (
    BESIDE,
    FORWARD,
    GRID,
    IMAGE_TOKENS,
    MAIN,
    PARTS,
    PATCH,
    PATCHES,
    POOL,
    RANK,
    WAYS,
    Case,
    code_batches,
    counted_savings,
    saved,
    write_codes,
)
from products import Products, Speed
from report import arguments, report
from torch import Tensor, nn

from viq.chat import IGNORED
from viq.evaluation.memory import Memory
from viq.image import to_range
from viq.mllm.model import AdapterConfig, MultimodalConfig, MultimodalModel
from viq.model.embedder import CodeEmbedder
from viq.model.encoder import Encoder
from viq.model.fold import fold_embedder
from viq.model.head import QuantizationHead
from viq.model.packing import Packing
from viq.store import CodeDataset

Clock = Callable[[], float]


@dataclass(frozen=True, kw_only=True)
class Training:
    """How the language model's weights are held and changed."""

    optimizer: str
    weights: torch.dtype
    autocast: bool


# The first that fits is taken.
TRAININGS = (
    Training(optimizer="AdamW", weights=torch.float32, autocast=True),
    Training(optimizer="SGD, bfloat16 weights", weights=torch.bfloat16, autocast=False),
)


class Step:
    """Training steps of one case, by either way, with the same language model."""

    def __init__(
        self,
        case: Case,
        scale: str,
        training: Training,
        dataset: CodeDataset,
        device: torch.device,
        clock: Clock = time.perf_counter,
    ) -> None:
        self.case, self.training, self.device, self.clock = case, training, device, clock
        network = mllm_sizes.vision(scale)
        self.marks, self.memory = Marks(device, clock), Memory(device)
        with torch.device(device):
            encoder = Encoder(network.encoder).to(torch.bfloat16).requires_grad_(False)
            embedder: nn.Module = CodeEmbedder(network.embedder)
            if case.train_embedder:
                embedder.to(training.weights)
            else:
                frozen = embedder.requires_grad_(False)
                embedder = fold_embedder(frozen).to(torch.bfloat16)  # type: ignore[arg-type]
        self.vision = {"pixels": encoder, "codes": embedder}
        self.model = build_model(case, scale, network.encoder.width, training, device)
        self.model.projector.register_forward_hook(lambda *_: self.marks.mark("projector"))
        parts = [self.model, embedder] if case.train_embedder else [self.model]
        trained = [p for part in parts for p in part.parameters() if p.requires_grad]
        if training.optimizer == "AdamW":
            self.optimizer: Any = torch.optim.AdamW(trained, lr=1e-5, fused=True)
        else:
            self.optimizer = torch.optim.SGD(trained, lr=1e-5)
        for parameter in trained:
            parameter.grad = torch.zeros_like(parameter)
        self._update()  # from here on the optimizer has its states
        self.codes = code_batches(dataset, case.samples)
        rng = np.random.default_rng(0)
        self.pixels = [
            rng.integers(256, size=(PATCHES, 3 * PATCH**2), dtype=np.uint8)
            for _ in range(case.samples)
        ]
        self.texts = _texts(case, device)
        self.packing = Packing.of([GRID] * case.samples)

    def run(self, way: str) -> dict[str, float]:
        """One step: the seconds of each part."""
        self.marks.start()
        rows = next(self.codes) if way == "codes" else torch.from_numpy(np.concatenate(self.pixels))
        rows = rows.to(self.device, non_blocking=True)
        if way == "pixels":
            rows = to_range(rows)
        self.marks.mark("reading")
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.training.autocast):
            features = self._features(way, rows)
            self.marks.mark("vision")
            loss = self.model.packed_loss(features, self.packing, POOL, *self.texts)
            mean = loss.sum / loss.count
        self.marks.mark("language model")
        mean.backward()
        self.marks.mark("backward")
        self._update()
        self.marks.mark("optimizer")
        return self.marks.seconds()

    def peak_memory(self, way: str) -> int:
        """Bytes that a step holds at most, without the weights of the other way."""
        self.memory.reset()
        self.run(way)
        other = self.vision["codes" if way == "pixels" else "pixels"]
        return self.memory.peak() - size_of(other)

    def products_alone(self, way: str) -> dict[str, Speed] | None:
        """The matrix products and attentions of a step by themselves, on a CPU."""
        if self.device.type != "cpu":
            return None
        with Products() as products:
            self.run(way)
        return products.replay(self.clock)

    def _update(self) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def _features(self, way: str, rows: Tensor) -> Tensor:
        vision = self.vision[way]
        if way == "codes" and self.case.train_embedder:
            return vision(rows)
        # What is frozen is bfloat16 throughout; autocast would only have norms in float32.
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            if way == "codes":
                return vision(rows)
            return vision(rows.to(torch.bfloat16), self.packing)


def _texts(case: Case, device: torch.device) -> tuple[Tensor, Tensor, list[int], Tensor]:
    """Tokens, labels, lengths and places of images: image, question, answer; and the filling."""
    ids = torch.randint(256, (sum(case.lengths),), generator=torch.Generator().manual_seed(0))
    labels, places = torch.full_like(ids, IGNORED), []
    for sample in range(case.samples):
        start = sample * (IMAGE_TOKENS + case.text)
        places.append(torch.arange(start, start + IMAGE_TOKENS))
        end = start + IMAGE_TOKENS + case.text
        labels[end - case.text // 2 : end] = ids[end - case.text // 2 : end]
    return ids.to(device), labels.to(device), case.lengths, torch.cat(places).to(device)


def build_model(
    case: Case, scale: str, width: int, training: Training, device: torch.device
) -> MultimodalModel:
    """A language model of random weights with a projector; the tokenizer is of no matter."""
    from transformers import AutoModelForCausalLM

    from viq.external.language_model import LanguageModel, load_language_model

    adapter = AdapterConfig(rank=RANK, dora=False, dropout=0.0) if case.lora else None
    config = MultimodalConfig(
        lm=case.lm, width=width, pool=POOL, adapter=adapter, train_lm=adapter is None
    )
    tokenizer = load_language_model("tiny").tokenizer
    with torch.device(device):
        lm = AutoModelForCausalLM.from_config(
            mllm_sizes.language_model(scale, case.lm), dtype=training.weights
        )
        model = MultimodalModel(config, LanguageModel(lm, tokenizer))
    model.projector.to(training.weights)
    return model.train()


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Steps of one case."""

    training: Training
    seconds: dict[str, list[dict[str, float]]]  # of each way: of each step, by part
    memory: dict[str, int]
    alone: dict[str, dict[str, Speed] | None]  # see ``Step.products_alone``


def measure(
    case: Case,
    scale: str,
    dataset: CodeDataset,
    device: torch.device,
    repeats: int,
    clock: Clock = time.perf_counter,
) -> Measured | None:
    """Each way's steps, in turns, by the first training that fits; None if none does."""
    for training in TRAININGS:
        step = None
        try:
            step = Step(case, scale, training, dataset, device, clock)
            memory = {way: step.peak_memory(way) for way in WAYS}  # and pays for caches and kernels
            seconds: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
            for _ in range(repeats):
                for way in WAYS:
                    seconds[way].append(step.run(way))
            alone = {way: step.products_alone(way) for way in WAYS}
            return Measured(training=training, seconds=seconds, memory=memory, alone=alone)
        except torch.cuda.OutOfMemoryError:
            continue
        finally:
            del step
            gc.collect()
            if device.type == "cuda":
                torch.cuda.empty_cache()
    return None


class Rows(NamedTuple):
    """What one case adds to the tables."""

    step: dict[str, Any]
    forward: dict[str, Any]
    parts: list[dict[str, Any]]  # one a way
    speeds: list[dict[str, Any]]  # of the products alone, by way and kind


def rows_of(case: Case, scale: str, measured: Measured) -> Rows:
    """What is saved of a step and of a forward pass, and where each way's time goes."""
    forward, step, parts, speeds = {}, {}, [], []
    alone = {
        way: speed and sum(s.seconds for s in speed.values())
        for way, speed in measured.alone.items()
    }
    for way, steps in measured.seconds.items():
        seconds = {part: median(one[part] for one in steps) for part in PARTS}
        forward[way] = median(sum(one[part] for part in FORWARD) for one in steps)
        step[way] = median(sum(one.values()) for one in steps)
        parts.append(
            {
                **_naming(case),
                "way": way,
                "forward s": forward[way],
                "step s": step[way],
                "tokens/s": sum(case.lengths) / step[way],
                "peak GiB": measured.memory[way] / 2**30,
                **{part: seconds[part] / sum(seconds.values()) for part in PARTS},
                "products alone": alone[way] and alone[way] / step[way],
            }
        )
        for kind, speed in (measured.alone[way] or {}).items():
            speeds.append(
                {
                    **_naming(case),
                    "way": way,
                    "products": kind,
                    "GFLOP": speed.flops / 1e9,
                    "GFLOP/s": speed.flops / speed.seconds / 1e9 if speed.seconds else None,
                    "share of their time": speed.seconds / (alone[way] or 1),
                }
            )
    ours, true = counted_savings(case, scale), counted_savings(case, "true")
    paper = mllm_sizes.PAPER[case.lm, case.tokens] if case.name == "full" else (None, None)
    saved_alone = saved(alone) if None not in alone.values() else None
    rows = [
        {
            **_naming(case),
            "image share": IMAGE_TOKENS * case.samples / sum(case.lengths),
            "optimizer": measured.training.optimizer,
            "saved": saved(seconds),
            "by FLOPs": ours[number],
            "points more": 100 * (saved(seconds) - ours[number]),
            "by products alone": saved_alone if seconds is step else None,
            "by FLOPs of true sizes": true[number],
            "paper": paper[number],
        }
        for number, seconds in enumerate((forward, step))
    ]
    return Rows(step=rows[1], forward=rows[0], parts=parts, speeds=speeds)


def _naming(case: Case) -> dict[str, Any]:
    return {"lm": case.lm, "tokens": sum(case.lengths), "images": case.samples, "case": case.name}


def extraction(
    scale: str,
    device: torch.device,
    repeats: int,
    saving: dict[str, float],
    clock: Clock = time.perf_counter,
) -> list[dict[str, Any]]:
    """What codes cost once, of four images at a time, and when that has paid for itself.

    ``saving`` is the seconds an image that codes save in each epoch, by row.
    """
    network = mllm_sizes.vision(scale)
    packing = Packing.of([GRID] * 4)
    patches = torch.randn(PATCHES * 4, 3 * PATCH**2, device=device)
    rows = []
    for dtype in (torch.bfloat16, torch.float32):
        with torch.device(device):
            encoder, head = Encoder(network.encoder).to(dtype), QuantizationHead(network.head)
        head.to(dtype)
        marks, runs = Marks(device, clock), []
        with torch.no_grad():
            for _ in range(repeats + 1):
                marks.start()
                features = encoder(patches.to(dtype), packing)
                marks.mark("encoder")
                head.quantize(head(features, packing)).codes.cpu()
                marks.mark("head")
                runs.append(marks.seconds())
        seconds = {key: median(run[key] for run in runs[1:]) / 4 for key in runs[0]}
        total = sum(seconds.values())
        rows += [
            {
                "weights": str(dtype).removeprefix("torch."),
                "encoder, s an image": seconds["encoder"],
                "head, s an image": seconds["head"],
                "beside": name,
                "saved a step, s an image": per_image,
                "epochs to pay": total / per_image if per_image > 0 else None,
            }
            for name, per_image in saving.items()
        ]
        del encoder, head
    return rows


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--scale", choices=mllm_sizes.SCALES, required=True)
    parser.add_argument("--rows", choices=("all", "main", "beside"), default="all")
    parser.add_argument("--lm", choices=mllm_sizes.LMS, nargs="+", default=mllm_sizes.LMS)
    parser.add_argument("--tokens", type=int, nargs="+", default=(4096, 16384))
    parser.add_argument(
        "--cpu-time", action="store_true", help="of one thread, where others use the machine, too"
    )
    parser.set_defaults(repeats=3)
    args = parser.parse_args()
    if args.cpu_time and args.threads != 1:
        parser.error("--cpu-time is of one thread; add --threads 1")
    clock = time.thread_time if args.cpu_time else time.perf_counter
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    keep_memory()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    cases = {"all": MAIN + BESIDE, "main": MAIN, "beside": BESIDE}[args.rows]
    cases = [case for case in cases if case.lm in args.lm and case.tokens in args.tokens]

    embedder = mllm_sizes.vision(args.scale).embedder
    done: list[Rows] = []
    saving, failed = {}, []
    with tempfile.TemporaryDirectory() as folder:
        assert embedder.quantizer.levels is not None
        levels, heads = embedder.quantizer.levels, embedder.code_heads
        dataset = write_codes(Path(folder) / "codes", 200, levels, heads)
        for case in cases:
            measured = measure(case, args.scale, dataset, device, args.repeats, clock)
            if measured is None:
                failed.append({**_naming(case), "result": "does not fit into memory"})
                continue
            done.append(rows_of(case, args.scale, measured))
            row = done[-1].step
            print(f"{case.lm}, {row['tokens']}, {case.name}: {row['saved']:.1%}", file=sys.stderr)
            if case.name == "full":
                pixels, codes = (row["step s"] for row in done[-1].parts)
                saving[f"{case.lm}, {case.tokens}"] = (pixels - codes) / case.samples
    paid = extraction(args.scale, device, args.repeats, saving, clock) if saving else []
    title = f"codes against pixels, {args.scale} sizes, {name}{', CPU time' * args.cpu_time}"
    tables = {
        "forward pass": [rows.forward for rows in done],
        "share of each part of the step": [row for rows in done for row in rows.parts],
        "speed of the products alone": [row for rows in done for row in rows.speeds],
        "extraction": paid,
        "not measured": failed,
    }
    report(title, [rows.step for rows in done], args, **tables)


if __name__ == "__main__":
    main()
