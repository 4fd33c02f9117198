import numpy as np
import pytest
import torch
from PIL import Image

from viq.codes import Codes
from viq.evaluation.codes.equality import Setup, compare, equality_table, ways

SLOW = "in another process"  # which the test of the command has


@pytest.fixture(scope="module")
def setup(tiny_tokenizer, tiny_tokenizer_folder):
    rng = np.random.default_rng(0)
    sizes = [(40, 56), (64, 32), (40, 56), (100, 90)]
    images = [Image.fromarray(rng.integers(0, 256, (*s, 3), dtype=np.uint8)) for s in sizes]
    return Setup(str(tiny_tokenizer_folder), tiny_tokenizer, images, "cpu")


def codes_of(values):
    return Codes(
        values=np.array([values], np.uint16).T,
        grid_size=(1, len(values)),
        original_size=(16, 16 * len(values)),
        encoded_size=(16, 16 * len(values)),
        levels=(8, 5),
        fingerprint="0" * 64,
    )


@pytest.mark.parametrize("way", [w for w in ways("cpu") if w.name != SLOW], ids=lambda w: w.name)
def test_codes_in_float32_on_a_cpu_are_equal_however_they_are_encoded(way, setup):
    if way.why_not is not None:
        pytest.skip(way.why_not)
    threads = torch.get_num_threads()
    found, expected = way.encode(setup)
    assert torch.get_num_threads() == threads
    assert [c.grid_size for c in found] == [c.grid_size for c in expected]
    record = compare(found, expected)
    assert record["codes"] == sum(c.values.size for c in setup.alone) > 0
    if not any(word in way.name for word in ("bfloat16", "kernel", "GPU")):
        assert record["differ"] == 0


def test_bfloat16_is_compared_with_itself(setup):
    way = next(w for w in ways("cpu") if w.name.startswith("bfloat16, all"))
    _, expected = way.encode(setup)
    assert compare(expected, setup.alone)["differ"] > 0


def test_what_differs_is_counted():
    found = compare([codes_of([0, 9]), codes_of([3])], [codes_of([0, 14]), codes_of([3])])
    assert found == {"pictures": 2, "codes": 3, "differ": 1, "furthest": 5}


def test_what_cannot_be_run_is_an_empty_row_and_a_note():
    record = {"pictures": 3, "codes": 200, "differ": 1, "furthest": 2}
    table, notes = equality_table({"m": {"once more": record}}, "cpu")
    assert table.rows[0] == ("m", "once more", 200, 1, 0.5, 2)
    assert len(table.rows) == len(ways("cpu"))
    assert all(row[2:] == (None,) * 4 for row in table.rows[1:])
    assert "3 pictures, spread over all" in table.note
    if not torch.cuda.is_available():
        assert "Not run: on a GPU against a CPU: no GPU." in notes
