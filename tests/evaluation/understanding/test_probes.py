import numpy as np
import pytest
from PIL import Image

from viq.errors import InputError
from viq.evaluation.understanding.linear import classify, held_out, regress
from viq.evaluation.understanding.pictures import Labelled
from viq.evaluation.understanding.probes import (
    PROBES,
    LabelProbe,
    RetrievalProbe,
    Seen,
    firsts,
    ranks,
    similarities,
)

ANSWERS = ("bar", "line", "pie")
LETTERS = PROBES["probe-letters"]
KIND = LabelProbe(name="kind", title="Kind", pictures="toy", label="kind")


def seen(name, labels, features):
    blank = Image.new("RGB", (1, 1))
    pictures = [Labelled(f"{name}-{i}", blank, one) for i, one in enumerate(labels)]
    return Seen(pictures, np.asarray(features, np.float32))


def drawn(name, count, seed):
    """Labels, and features that are nothing but noise."""
    rng = np.random.default_rng(seed)
    labels = [{"kind": ANSWERS[k]} for k in rng.integers(0, 3, count)]
    return seen(name, labels, rng.normal(size=(count, 12)))


def no_captions(captions):
    raise AssertionError("this probe reads no captions")


def scores(records):
    return [record["score"] for record in records.values()]


def test_a_label_that_is_in_the_features_is_always_told():
    train, test = drawn("train", 200, 0), drawn("test", 100, 1)
    for some in (train, test):
        places = [ANSWERS.index(label) for label in some.labels("kind")]
        some.features[:, :3] += 8 * np.eye(3)[places]
    records = KIND.records(train, test, no_captions)
    assert [*records] == [one.id for one in test.pictures]
    assert scores(records) == [1.0] * 100
    assert records["test-0"] == {
        "score": 1.0,
        "answer": test.labels("kind")[0],
        "right": test.labels("kind")[0],
    }


def test_noise_tells_no_more_than_chance():
    records = KIND.records(drawn("train", 600, 2), drawn("test", 600, 3), no_captions)
    chance = KIND.chance(records)
    assert 1 / 3 <= chance < 0.4
    assert abs(np.mean(scores(records)) - chance) < 3 * (chance * (1 - chance) / 600) ** 0.5
    assert all((r["score"] == 1) == (r["answer"] == r["right"]) for r in records.values())


def test_two_fits_are_the_same():
    train, test = drawn("train", 90, 4), drawn("test", 90, 5)
    records = [KIND.records(train, test, no_captions) for _ in range(2)]
    assert records[0] == records[1]


def test_scales_of_features_do_not_matter():
    train, test = drawn("train", 120, 6), drawn("test", 60, 7)
    scales = np.logspace(-2, 2, 12).astype(np.float32)
    larger = [Seen(some.pictures, some.features * scales) for some in (train, test)]
    told = [
        [r["answer"] for r in KIND.records(*pair, no_captions).values()]
        for pair in ((train, test), larger)
    ]
    assert np.mean([a == b for a, b in zip(*told, strict=True)]) > 0.95


def test_pictures_without_the_label_are_not_asked_about():
    train, test = drawn("train", 50, 8), drawn("test", 10, 9)
    test.pictures[3] = test.pictures[3]._replace(labels={"caption": "a pie"})
    assert "test-3" not in (records := KIND.records(train, test, no_captions))
    assert len(records) == 9


def test_no_labels_at_all_are_told():
    train, test = drawn("train", 50, 8), drawn("test", 10, 9)
    bare = Seen([one._replace(labels={}) for one in train.pictures], train.features)
    with pytest.raises(InputError, match=r"^no picture to fit on has a kind$"):
        KIND.records(bare, test, no_captions)
    with pytest.raises(InputError, match=r"^no picture to test on has a kind$"):
        KIND.records(train, bare, no_captions)


@pytest.mark.parametrize(("count", "kinds"), [(4, 2), (20, 1)])
def test_too_little_to_fit_on_is_told(count, kinds):
    labels = [{"kind": ANSWERS[i % kinds]} for i in range(count)]
    train = seen("train", labels, np.eye(count, 12))
    with pytest.raises(InputError, match=f"{count} items with {kinds} labels are too few to fit"):
        KIND.records(train, drawn("test", 10, 0), no_captions)


def test_every_fifth_picture_is_held_with_all_of_its_rows():
    assert held_out(6, 2).tolist() == [False] * 8 + [True] * 2 + [False] * 2


def test_the_strength_is_chosen_on_the_held_rows():
    """Few rows and many numbers: the strongest fit would follow the noise."""
    rng = np.random.default_rng(0)
    labels = [ANSWERS[k] for k in rng.integers(0, 2, 300)]
    rows = rng.normal(size=(300, 60)).astype(np.float32)
    rows[:, 0] += [1.5 * ANSWERS.index(label) for label in labels]
    told = classify(rows[:100], labels[:100], rows[100:], held_out(100))
    assert np.mean([a == b for a, b in zip(told, labels[100:], strict=True)]) > 0.6


def letters(name, count, seed, width=6):
    rng = np.random.default_rng(seed)
    texts = ["".join(rng.choice([*"ABCD"], 9)) for _ in range(count)]
    features = rng.normal(size=(count, 9, width))
    return seen(name, [{"letters": text} for text in texts], features)


def test_letters_are_told_by_their_own_patch():
    train, test = letters("train", 40, 0), letters("test", 20, 1)
    for some in (train, test):
        places = [["ABCD".index(letter) for letter in text] for text in some.labels("letters")]
        some.features[..., :4] += 8 * np.eye(4)[places]
    records = LETTERS.records(train, test, no_captions)
    assert scores(records) == [1.0] * 20
    assert records["test-5"]["answer"] == test.labels("letters")[5]


def test_letters_in_noise_are_at_chance():
    records = LETTERS.records(letters("train", 80, 2), letters("test", 80, 3), no_captions)
    chance = LETTERS.chance(records)
    assert 0.25 <= chance < 0.32
    assert abs(np.mean(scores(records)) - 0.25) < 0.06
    first = records["test-0"]
    right = sum(a == b for a, b in zip(first["answer"], first["right"], strict=True))
    assert first["score"] == right / 9


def test_features_of_other_patches_are_told():
    some = letters("train", 20, 0)
    wrong = Seen(some.pictures, some.features[:, :4])
    with pytest.raises(InputError, match="4 features a picture, but there are 9 letters"):
        LETTERS.records(wrong, wrong, no_captions)


def embed(captions):
    """A vector of a caption's own, as a sentence encoder has."""
    rows = [np.random.default_rng([*one.encode()]).normal(size=8) for one in captions]
    rows = [row / np.linalg.norm(row) for row in rows]
    return np.asarray(rows, np.float32)


def captioned(name, count, seed, mixing):
    captions = [f"{name} {i}" for i in range(count)]
    noise = np.random.default_rng(seed).normal(size=(count, 16))
    features = embed(captions) @ mixing + noise * (0.01 if mixing.any() else 1)
    return seen(name, [{"caption": one} for one in captions], features)


RETRIEVALS = [probe for probe in PROBES.values() if isinstance(probe, RetrievalProbe)]


@pytest.mark.parametrize("probe", RETRIEVALS, ids=lambda probe: probe.name)
def test_captions_that_are_in_the_features_are_found(probe):
    mixing = np.random.default_rng(0).normal(size=(8, 16))
    train, test = captioned("train", 200, 1, mixing), captioned("test", 50, 2, mixing)
    records = probe.records(train, test, embed)
    assert scores(records) == [1.0] * 50
    assert records["test-7"]["right"] == ("test 7" if probe.finds == "caption" else "test-7")
    assert records["test-7"]["answer"] == records["test-7"]["right"]
    assert records["test-7"]["rank"] == 0


@pytest.mark.parametrize("probe", RETRIEVALS, ids=lambda probe: probe.name)
def test_captions_in_noise_are_found_by_chance(probe):
    nothing = np.zeros((8, 16))
    train, test = captioned("train", 200, 1, nothing), captioned("test", 200, 2, nothing)
    records = probe.records(train, test, embed)
    chance = probe.chance(records)
    assert chance == probe.first / 200
    assert abs(np.mean(scores(records)) - chance) < 3 * (chance / 200) ** 0.5
    assert all(r["score"] == (r["rank"] < probe.first) for r in records.values())


def test_of_equal_captions_the_first_is_asked_about():
    mixing = np.random.default_rng(0).normal(size=(8, 16))
    train, test = captioned("train", 100, 1, mixing), captioned("test", 20, 2, mixing)
    test.pictures[4] = test.pictures[4]._replace(labels={"caption": "test 2"})
    records = PROBES["retrieval-caption-1"].records(train, test, embed)
    assert len(records) == 19
    assert "test-4" not in records


def test_chance_is_no_more_than_certainty():
    probe = PROBES["retrieval-picture-5"]
    assert probe.chance({str(i): {} for i in range(3)}) == 1.0


def test_ranks_count_ties_against_the_own():
    cosines = np.array([[0.9, 0.1, 0.2], [0.5, 0.5, 0.1], [0.7, 0.8, 0.6]], np.float32)
    assert ranks(cosines) == [0, 1, 2]


def test_similarities_are_cosines_seen_from_the_centre():
    centre = np.array([1, 1], np.float32)
    pictures = centre + np.array([[3, 0], [0, 0]], np.float32)
    captions = centre + np.array([[1, 0], [0, 2]], np.float32)
    np.testing.assert_allclose(similarities(pictures, captions, centre), [[1, 0], [0, 0]])


def test_first_places():
    assert firsts(["b", "a", "b", "c", "a"]) == [0, 1, 3]


def test_regression_finds_a_linear_map():
    rng = np.random.default_rng(0)
    rows, map = rng.normal(size=(300, 10)).astype(np.float32), rng.normal(size=(10, 3))
    targets = (rows @ map).astype(np.float32)
    found = regress(rows[:200], targets[:200], rows[200:])
    assert found.shape == (100, 3)
    errors = ((found - targets[200:]) ** 2).mean() / targets.var()
    assert errors < 0.01


def test_names_are_those_of_the_probes():
    assert all(name == probe.name for name, probe in PROBES.items())
    assert len({(probe.title, probe.metric) for probe in PROBES.values()}) == len(PROBES)
