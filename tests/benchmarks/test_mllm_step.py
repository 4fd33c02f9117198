"""The speed benchmark: its workload, what it counts, and one run of it at a tiny size."""

import json
import math
from dataclasses import replace

import measure
import mllm_cases
import mllm_chart
import mllm_sizes
import mllm_step
import numpy as np
import pytest
import torch
from mllm_cases import IMAGE_TOKENS, PATCHES, WAYS, Case
from mllm_step import TRAININGS, Step
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from viq.evaluation import flops
from viq.evaluation.flops import Flops
from viq.model.head import QuantizationHead, QuantizerConfig
from viq.model.packing import Packing

CPU = torch.device("cpu")


@pytest.fixture
def tiny(monkeypatch):
    """Networks of few channels; the images and texts stay as they are."""
    vision, lm = mllm_sizes.vision("proportional"), mllm_sizes.language_model("proportional", "7B")
    small = replace(
        vision,
        encoder=replace(vision.encoder, width=32, attention_heads=2, mlp_width=48, depth=1),
        head=replace(
            vision.head,
            width=32,
            attention_heads=2,
            code_width=24,
            expand_width=40,
            rope_width=16,
            code_mlp_width=20,
        ),
        embedder=replace(
            vision.embedder,
            width=32,
            code_width=24,
            merge_width=40,
            mlp_width=36,
            residual_width=28,
        ),
    )
    sizes = {
        "hidden_size": 48,
        "num_attention_heads": 3,
        "num_key_value_heads": 1,
        "intermediate_size": 56,
        "num_hidden_layers": 2,
        "vocab_size": 300,
    }
    config = type(lm)(**{**lm.to_dict(), **sizes, "layer_types": None})
    monkeypatch.setattr(mllm_sizes, "vision", lambda scale: small)
    monkeypatch.setattr(mllm_sizes, "language_model", lambda scale, size: config)
    return small


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return mllm_cases.write_codes(tmp_path_factory.mktemp("codes"), 6, (8, 8, 8, 5, 5, 5), 4)


def test_a_sample_is_one_image_and_192_tokens_of_text():
    assert (PATCHES, IMAGE_TOKENS) == (2304, 576 + 24 + 2)
    short, long = Case(lm="0.5B"), Case(lm="7B", tokens=16384)
    assert short.lengths == [794] * 5 + [126]
    assert (sum(long.lengths), long.samples) == (16384, 20)
    assert short.supervised == 5 * 96


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75, 0.9])
def test_a_share_of_image_tokens_is_that_of_the_sequence(share):
    case = Case(lm="0.5B", share=share)
    assert IMAGE_TOKENS * case.samples / sum(case.lengths) == pytest.approx(share, abs=1e-3)
    assert sum(case.lengths) == pytest.approx(4096, rel=0.2)


CASES = [
    Case(lm="0.5B"),
    Case(lm="0.5B", share=0.5),
    Case(lm="0.5B", lora=True),
    Case(lm="0.5B", train_embedder=True),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("way", WAYS)
def test_what_is_counted_is_what_torch_counts_in_a_step(tiny, dataset, monkeypatch, case, way):
    """All but attention, which torch does not count on a CPU."""
    step = Step(case, "tiny", TRAININGS[1], dataset, CPU)
    with FlopCounterMode(display=False) as counter:
        step.run(way)
    monkeypatch.setattr(flops, "attention", lambda *_, **__: Flops())
    counted = Flops().plus(*mllm_cases.counted(case, "tiny")[way].values())
    assert counter.get_total_flops() == counted.both > 0


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("way", WAYS)
def test_products_alone_are_all_that_is_counted(tiny, dataset, monkeypatch, case, way):
    speeds = Step(case, "tiny", TRAININGS[1], dataset, CPU).products_alone(way)
    everything = Flops().plus(*mllm_cases.counted(case, "tiny")[way].values())
    monkeypatch.setattr(flops, "attention", lambda *_, **__: Flops())
    linear = Flops().plus(*mllm_cases.counted(case, "tiny")[way].values())
    assert speeds["linear maps"].flops == linear.both
    assert speeds["attention"].flops == pytest.approx(everything.both - linear.both, rel=0.01)


@pytest.mark.parametrize("bottleneck", [None, 10])
def test_the_heads_products_are_those_torch_counts(tiny, monkeypatch, bottleneck):
    quantizer = QuantizerConfig(levels=(8, 8, 8, 5, 5, 5), bottleneck=bottleneck)
    config = replace(tiny.head, quantizer=quantizer, depth=1)
    head = QuantizationHead(config).double()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        head(torch.randn(300, 32, dtype=torch.float64), Packing.of([(10, 20), (10, 10)]))
    monkeypatch.setattr(flops, "attention", lambda *_, **__: Flops())
    assert counter.get_total_flops() == flops.head(config, [200, 100]).both > 0


def test_attention_is_counted_by_the_scores_that_are_seen():
    query = torch.randn(1, 3, 50, 16)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        torch.nn.functional.scaled_dot_product_attention(query, query, query)
    assert counter.get_total_flops() == flops.attention([50], 48).forward
    assert flops.attention([2, 3], 8, causal=True) == Flops(2 * 2 * 8 * (3 + 6), 0)
    trained = flops.attention([2, 3], 8, causal=True, trains=True)
    assert trained.backward == 2.5 * trained.forward


def test_true_language_models_have_the_parameters_of_qwen():
    from transformers import AutoModelForCausalLM

    for size, millions in {"0.5B": 494.03, "1.5B": 1543.71, "3B": 3085.94, "7B": 7615.62}.items():
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(mllm_sizes.language_model("true", size))
        assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.01)


@pytest.mark.parametrize("case", mllm_cases.MAIN, ids=lambda case: f"{case.lm}-{case.tokens}")
def test_the_twin_has_the_ratios_of_the_true_sizes(case):
    ratios = {}
    for scale in mllm_sizes.SCALES:
        ways = mllm_cases.counted(case, scale)
        encoder = ways["pixels"].pop("vision").forward
        trains = Flops().plus(*ways["pixels"].values())
        head = flops.head(mllm_sizes.vision(scale).head, [PATCHES] * case.samples)
        parts = (trains.both, ways["codes"]["vision"].forward, head.forward)
        ratios[scale] = [part / encoder for part in parts]
    true, twin = ratios["true"], ratios["proportional"]
    assert twin == pytest.approx(true, rel=0.02)
    saved = [mllm_cases.counted_savings(case, scale)[1] for scale in mllm_sizes.SCALES]
    assert saved[0] == pytest.approx(saved[1], abs=0.005)


def test_codes_are_read_back_as_written_again_and_again(dataset):
    written = np.concatenate([one.values for (one,) in dataset.images()])
    batches = mllm_cases.code_batches(dataset, 2)
    read = torch.cat([next(batches) for _ in range(3)])
    assert read.dtype == torch.int32
    assert np.array_equal(read.numpy(), written)
    assert np.array_equal(next(batches).numpy(), written[: 2 * PATCHES])


def test_parts_of_a_step_are_timed_one_after_another():
    marks = measure.Marks(CPU)
    marks.start()
    marks.mark("one")
    torch.randn(500, 500) @ torch.randn(500, 500)
    marks.mark("two")
    found = marks.seconds()
    assert list(found) == ["one", "two"]
    assert 0 <= found["one"] < found["two"]


def test_one_run_writes_its_tables_and_a_chart(tiny, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(mllm_step, "keep_memory", lambda: None)  # it is for the whole process
    results, chart = tmp_path / "results.json", tmp_path / "chart.png"
    arguments = ["--scale", "proportional", "--rows", "main", "--lm", "0.5B", "--repeats", "1"]
    flags = [*arguments, "--tokens", "4096", "--threads", str(torch.get_num_threads())]
    monkeypatch.setattr("sys.argv", ["mllm_step.py", *flags, "--json", str(results)])
    mllm_step.main()
    document = json.loads(results.read_text())
    (row,), parts = document["rows"], document[mllm_chart.SHARES]
    assert (row["lm"], row["tokens"], row["paper"]) == ("0.5B", 4096, 0.497)
    assert [way["way"] for way in parts] == list(WAYS)
    for way in parts:
        assert math.isclose(sum(way[part] for part in mllm_step.PARTS), 1)
        assert way["products alone"] > 0
        assert 0.1 < way["peak GiB"] < 20
    assert row["saved"] == pytest.approx(1 - parts[1]["step s"] / parts[0]["step s"])
    assert [one["weights"] for one in document["extraction"]] == ["bfloat16", "float32"]
    assert document["not measured"] == []
    assert "by FLOPs" in capsys.readouterr().out.splitlines()[1]
    monkeypatch.setattr("sys.argv", ["mllm_chart.py", str(results), str(chart)])
    mllm_chart.main()
    assert chart.read_bytes().startswith(b"\x89PNG")
    assert f"| {100 * row['saved']:.1f} % |" in capsys.readouterr().out


def test_cpu_time_is_of_one_thread(monkeypatch, capsys):
    flags = ["--scale", "proportional", "--cpu-time", "--threads", "2"]
    monkeypatch.setattr("sys.argv", ["mllm_step.py", *flags])
    with pytest.raises(SystemExit):
        mllm_step.main()
    assert "--cpu-time is of one thread; add --threads 1" in capsys.readouterr().err


def test_a_case_that_does_not_fit_takes_the_next_training_and_at_last_says_so(
    tiny, dataset, monkeypatch
):
    asked = []

    class Full(Step):
        def __init__(self, case, scale, training, *rest):
            asked.append(training.optimizer)
            raise torch.cuda.OutOfMemoryError

    monkeypatch.setattr(mllm_step, "Step", Full)
    assert mllm_step.measure(Case(lm="7B"), "tiny", dataset, CPU, 1) is None
    assert asked == [training.optimizer for training in TRAININGS]
