import os

import pytest
import torch

from viq import Tokenizer, load
from viq.errors import InputError
from viq.evaluation import cost, flops
from viq.evaluation.coding import why_no_decoder
from viq.evaluation.cost import Cost, in_process, operations, parameters
from viq.evaluation.memory import Memory
from viq.evaluation.samples import Samples
from viq.evaluation.timing import Measurement, measure, prepared_square, square_grid
from viq.image import ImageConfig
from viq.model.head import QuantizerConfig
from viq.model.network import Network
from viq.model.presets import released


def saved(folder, quantizer):
    """A tokenizer without a decoder."""
    network = Network(released(64, 1, 64, quantizer, attention_heads=4, rope_width=32)).eval()
    Tokenizer.from_network(network, ImageConfig()).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def proximal(tmp_path_factory):
    quantizer = QuantizerConfig(levels=None, bottleneck=16, limit="l_inf")
    return saved(tmp_path_factory.mktemp("proximal"), quantizer)


@pytest.fixture(scope="module")
def blind(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("blind"), QuantizerConfig(levels=(8, 5)))


def asked(tokenizers, sizes=(64, 96), **changed):
    return Cost(
        models={str(where): load(where) for where in tokenizers},
        where={str(where): str(where) for where in tokenizers},
        **{"sizes": sizes, "dtypes": ["float32"], "device": "cpu", "threads": 1, "repeats": 2}
        | changed,
    )


def measurement(model, **changed):
    what = {"side": 64, "dtype": "float32", "device": "cpu", "threads": 1, "repeats": 3}
    return Measurement(model=str(model), **what | changed)


def test_parameters_are_those_of_the_loaded_parts(tiny_tokenizer):
    found = parameters(tiny_tokenizer)
    for name in ("encoder", "head", "embedder", "latent_head"):
        part = tiny_tokenizer.part(name)
        assert found[name] == sum(p.numel() for p in part.parameters()) > 0
    autoencoder = tiny_tokenizer.vae().autoencoder
    decoder = [autoencoder.decoder, autoencoder.post_quant_conv]
    assert found["vae"] == sum(p.numel() for part in decoder for p in part.parameters())


def test_operations_are_those_of_the_padded_picture(tiny_tokenizer):
    config = tiny_tokenizer.config.network
    found, padded = operations(tiny_tokenizer, 70), operations(tiny_tokenizer, 96)
    assert found == padded
    assert found["encoder"] == flops.encoder(config.encoder, [36]).forward
    assert found["embedder"] == flops.embedder(config.embedder, 36).forward
    assert found["vae"] == flops.vae_decoder(tiny_tokenizer.vae(), (16, 12, 12)).forward


def test_a_picture_is_never_scaled_down_to_be_measured(tiny_tokenizer):
    assert prepared_square(tiny_tokenizer, 2080).grid_size == (130, 130)
    assert prepared_square(tiny_tokenizer, 5).grid_size == (2, 2)
    for side in (1, 5, 32, 33, 100, 2080):
        assert square_grid(tiny_tokenizer, side) == prepared_square(tiny_tokenizer, side).grid_size
    assert square_grid(tiny_tokenizer, 2**40) == (2**36, 2**36)  # takes no memory


def test_time_and_memory_of_each_piece_of_work_are_measured(tiny_tokenizer_folder):
    threads = torch.get_num_threads()
    try:
        found = measure(measurement(tiny_tokenizer_folder, side=256))
    finally:
        torch.set_num_threads(threads)
    assert list(found["seconds"]) == list(found["bytes"]) == ["encode", "embed", "decode"]
    assert all(len(some) == 3 and min(some) > 0 for some in found["seconds"].values())
    assert found["bytes"]["decode"] > 256 * 256 * 3 * 4  # the picture itself
    assert found["process_bytes"] > 2**27


def test_what_a_model_cannot_do_is_not_measured(proximal, blind):
    threads = torch.get_num_threads()
    try:
        assert list(measure(measurement(proximal))["seconds"]) == ["encode"]
        assert list(measure(measurement(blind))["seconds"]) == ["encode", "embed"]
    finally:
        torch.set_num_threads(threads)
    assert "without a VAE" in why_no_decoder(Tokenizer.from_network(*network_of(blind)))
    table = asked([proximal, blind])
    assert parameters(load(blind))["vae"] is None
    notes = table.notes()
    assert "is proximal" in notes[0]
    assert "does not decode" in notes[1]


def network_of(folder):
    tokenizer = load(folder)
    network = Network(tokenizer.config.network)
    return network, tokenizer.config.image


def test_tables_and_plots_come_from_the_records(tiny_tokenizer_folder, proximal, tmp_path):
    name, other = str(tiny_tokenizer_folder), str(proximal)
    about = asked([tiny_tokenizer_folder, proximal])
    seconds = {"encode": [0.3, 0.1, 0.2], "embed": [0.01, 0.02], "decode": [0.5]}
    held = {"encode": 2**20, "embed": 0, "decode": 2**22}
    record = {"seconds": seconds, "bytes": held, "process_bytes": 2**29}
    with Samples.open(tmp_path, about.asked()) as samples:
        samples.add(name, {"64 float32": record})
        samples.add(other, {"64 float32": {**record, "seconds": {"encode": [1.0]}}})
        tables = {table.title: table for table in about.tables(samples)}
        figures = about.figures(samples, tmp_path)
    time, memory = tables["Time"], tables["Memory"]
    assert time.rows[0][0:3] == (name, "64 × 64", "float32")
    assert time.rows[0][4] == 1
    assert time.rows[0][5:] == pytest.approx((200, 100, 15, 10, 500, 500))
    assert time.rows[1][5:] == (None,) * 6  # not measured yet
    assert time.rows[2][5:] == (1000, 1000, None, None, None, None)
    assert memory.rows[0][5:] == (1, 0, 4, 512)
    counts = tables["Operations"].rows[0]
    assert counts[7] == pytest.approx(sum(counts[2:4]))
    assert counts[8] == pytest.approx(sum(counts[4:7]))
    without = tables["Parameters"].rows[1]  # a proximal model without a VAE
    assert without[5] is without[7] is None
    assert without[6] == pytest.approx(sum(without[1:3]))
    tokens = tables["Tokens and bytes"].rows
    assert tokens[0][2:6] == (16, 64, 128, 0.25)
    assert tokens[2][2:] == (16, None, None, None, None, None)
    assert [figure.file for figure in figures] == ["time.png", "flops.png", "memory.png"]
    for figure in figures:
        assert (tmp_path / figure.file).read_bytes().startswith(b"\x89PNG")


def test_measurements_are_kept_and_done_once(tiny_tokenizer_folder, tmp_path, monkeypatch):
    about = asked([tiny_tokenizer_folder])
    made = []

    def note(what):
        made.append(what.side)
        return {"seconds": {}, "bytes": {}, "process_bytes": 1}

    monkeypatch.setattr(cost, "in_process", note)
    for sizes in ((64, 96), (64, 96, 128)):
        about = asked([tiny_tokenizer_folder], sizes=sizes)
        with Samples.open(tmp_path, about.asked()) as samples:
            assert [error for _, error in about.run(samples)] == [None] * len(sizes)
    assert made == [64, 96, 128]


def test_what_goes_wrong_in_a_process_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(cost, "measure", os._exit)
    with pytest.raises(InputError, match="the process that measured was killed: out of memory"):
        in_process(1)


def test_what_torch_cannot_do_is_said(tiny_tokenizer_folder, monkeypatch):
    with pytest.raises(InputError, match="does not run in float32 at 64 pixels"):
        measure(measurement(tiny_tokenizer_folder, device="meta"))


def test_a_failed_measurement_is_not_the_end(tiny_tokenizer_folder, tmp_path, monkeypatch):
    def fail(what):
        raise InputError("no")

    monkeypatch.setattr(cost, "in_process", fail)
    about = asked([tiny_tokenizer_folder])
    with Samples.open(tmp_path, about.asked()) as samples:
        found = list(about.run(samples))
        assert [str(error) for _, error in found] == ["no", "no"]
        assert found[0][0].endswith("64 pixels, float32")
        assert [figure.file for figure in about.figures(samples, tmp_path)] == ["flops.png"]


def test_peak_memory_is_that_since_the_reset():
    memory = Memory(torch.device("cpu"))
    memory.reset()
    before = memory.now()
    torch.ones(2**26).sum()  # 256 MiB
    peak = memory.peak()
    assert peak - before > 200 * 2**20
    memory.reset()
    assert peak - memory.peak() > 200 * 2**20
