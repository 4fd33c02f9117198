import json
import subprocess
import sys
from collections import Counter

import pytest

from viq.data.mixture import Mixture, largest_remainder, permutation


@pytest.mark.parametrize("length", [*range(1, 40), 97, 256, 257, 1000, 1021])
def test_every_number_has_one_place(length):
    places = [permutation(index, length, 5, "epoch", 3) for index in range(length)]
    assert sorted(places) == list(range(length))


def test_the_permutation_is_the_same_everywhere_and_for_ever():
    assert [permutation(index, 10, 0) for index in range(10)] == [5, 4, 7, 9, 8, 1, 6, 3, 2, 0]
    assert permutation(123_456, 10**6, 3, "epoch", "a", 2) == 107321
    assert permutation(10**15, 10**18, "é") == 840112330148816538


def test_another_key_gives_another_order():
    keys = [(0,), (1,), ("0",), (0, 0), (0, "epoch"), (0, "epoch", 1)]
    orders = {tuple(permutation(index, 50, *key) for index in range(50)) for key in keys}
    assert len(orders) == len(keys)


def test_all_orders_of_four_are_equally_likely():
    orders = Counter(tuple(permutation(index, 4, key) for index in range(4)) for key in range(2400))
    assert len(orders) == 24
    assert sum((count - 100) ** 2 / 100 for count in orders.values()) < 60  # 23 on average


def test_index_outside_is_an_error():
    with pytest.raises(ValueError, match=r"index 3 is outside of 0 to 2\."):
        permutation(3, 3)
    with pytest.raises(ValueError, match=r"index -1 is outside of 0 to 2\."):
        permutation(-1, 3)


def test_every_sample_comes_once_an_epoch_and_epochs_differ():
    mixture = Mixture({"a": 7, "b": 1000}, {"a": 3, "b": 1}, 0, block=4)
    draws = [draw for draw in map(mixture.draw, range(4 * 70)) if draw.source == "a"]
    epochs = {}
    for draw in draws:
        epochs.setdefault(draw.epoch, []).append(draw.number)
    assert sorted(epochs) == list(range(30))
    assert all(sorted(numbers) == list(range(7)) for numbers in epochs.values())
    assert len({tuple(numbers) for numbers in epochs.values()}) > 25


def test_every_block_has_whole_shares_exactly():
    mixture = Mixture({"a": 5, "b": 5, "c": 5}, {"a": 0.5, "b": 0.3, "c": 0.2}, 1, block=10)
    for block in range(50):
        sources = Counter(mixture.draw(10 * block + place).source for place in range(10))
        assert sources == {"a": 5, "b": 3, "c": 2}


def test_fractions_of_draws_are_met_over_many_blocks():
    weights = {"a": 1, "b": 1 / 2, "c": 1 / 3, "d": 0.01}
    mixture = Mixture(dict.fromkeys(weights, 100), weights, 2, block=16)
    total = sum(weights.values())
    counts = Counter()
    for block in range(400):
        sources = Counter(mixture.draw(16 * block + place).source for place in range(16))
        counts += sources
        for name, weight in weights.items():
            assert abs(sources[name] - 16 * weight / total) < 1  # in the block
            assert abs(counts[name] - 16 * (block + 1) * weight / total) < 3  # in all so far


def test_shares_and_epochs_go_on_over_the_end_of_a_cycle_of_blocks():
    mixture = Mixture({"a": 11, "b": 10**9}, {"a": 1, "b": 2}, 3, block=1)
    end = 4096
    draws = [mixture.draw(n) for n in range(end - 300, end + 300)]
    numbers = [draw.epoch * 11 for draw in draws if draw.source == "a"]
    assert 199 <= len(numbers) <= 201
    seen = Counter((draw.epoch, draw.number) for draw in draws if draw.source == "a")
    assert set(seen.values()) == {1}
    epochs = Counter(draw.epoch for draw in draws if draw.source == "a")
    assert set(list(epochs.values())[1:-1]) == {11}


def test_sources_are_shuffled_within_a_block():
    mixture = Mixture({"a": 1000, "b": 1000}, {"a": 1, "b": 1}, 0, block=100)
    blocks = ["".join(mixture.draw(100 * b + n).source for n in range(100)) for b in range(3)]
    assert len(set(blocks)) == 3
    assert all(10 < block[:50].count("a") < 40 for block in blocks)
    assert not any("a" * 20 in block for block in blocks)


def test_a_draw_depends_on_nothing_but_its_number_and_the_config():
    lengths, weights = {"b": 50, "a": 20}, {"a": 1.5, "b": 0.7}
    forwards = [Mixture(lengths, weights, 4, block=8).draw(n) for n in range(100)]
    other = Mixture({"a": 20, "b": 50, "unused": 3}, {"b": 0.7, "a": 1.5, "unused": 0}, 4, block=8)
    assert [other.draw(n) for n in reversed(range(100))] == forwards[::-1]
    assert [Mixture(lengths, weights, 5, block=8).draw(n) for n in range(100)] != forwards


def test_draws_are_the_same_in_another_process():
    code = (
        "import json; from viq.data.mixture import Mixture;"
        "m = Mixture({'a': 20, 'b': 50}, {'a': 1.5, 'b': 0.7}, 4);"
        "print(json.dumps([m.draw(n) for n in range(0, 10**6, 99_991)]))"
    )
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout
    mixture = Mixture({"a": 20, "b": 50}, {"a": 1.5, "b": 0.7}, 4)
    draws = [list(mixture.draw(n)) for n in range(0, 10**6, 99_991)]
    assert json.loads(printed) == draws


def test_draws_stay_what_they_were():
    mixture = Mixture({"a": 20, "b": 50}, {"a": 1.5, "b": 0.7}, 4)
    assert [mixture.draw(n) for n in (0, 1, 2, 10**9)] == [
        ("b", 0, 0),
        ("a", 3, 8),
        ("a", 3, 3),
        ("b", 41, 6363641),
    ]


def test_sources_may_be_given_instead_of_their_lengths():
    mixture = Mixture({"a": ["x", "y"], "b": range(3)}, {"a": 1, "b": 1}, 0)
    by_length = Mixture({"a": 2, "b": 3}, {"a": 1, "b": 1}, 0)
    assert [mixture.draw(n) for n in range(20)] == [by_length.draw(n) for n in range(20)]


def test_largest_remainders_get_what_is_left():
    assert largest_remainder([1, 1, 1], 10) == [4, 3, 3]
    assert largest_remainder([5, 3, 2], 10) == [5, 3, 2]
    assert largest_remainder([0.1, 0.2, 0.7], 9) == [1, 2, 6]


@pytest.mark.parametrize(
    ("lengths", "weights", "message"),
    [
        ({"a": 1}, {"b": 1}, r"weights of unknown sources: b; there are: a\."),
        ({"a": 1, "b": 1}, {"a": 1, "b": -2}, r"not negative, these are: \{'b': -2\}\."),
        ({"a": 1}, {"a": float("nan")}, r"must be finite and not negative, these are: \{'a': nan"),
        ({"a": 1}, {"a": float("inf")}, "must be finite"),
        ({"a": 1, "b": 1}, {"a": 0}, r"all weights are 0, of: a, b\."),
        ({"a": 1, "b": 0}, {"a": 1, "b": 1}, r"have weights but no samples: b\."),
        ({"a": 1, "b": 1}, {"a": 1, "b": 1e-9}, r"below one in 1048576 draws: b\."),
    ],
)
def test_wrong_weights_are_named(lengths, weights, message):
    with pytest.raises(ValueError, match=message):
        Mixture(lengths, weights, 0)


def test_a_block_needs_a_draw():
    with pytest.raises(ValueError, match="a block has 0 draws"):
        Mixture({"a": 1}, {"a": 1}, 0, block=0)
