"""The evaluation of codes as a whole: which pictures it takes."""

import numpy as np
import pytest
from PIL import Image

from viq.evaluation.codes import runner
from viq.evaluation.codes.runner import CodeEvaluation
from viq.evaluation.pictures import choice, open_pictures
from viq.evaluation.samples import Samples


@pytest.fixture
def asked(tiny_tokenizer, tiny_tokenizer_folder, tmp_path):
    for n in range(6):
        values = np.random.default_rng(n).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        (tmp_path / "data").mkdir(exist_ok=True)
        Image.fromarray(values).save(tmp_path / "data" / f"{n}.png")
    pictures = open_pictures(str(tmp_path / "data"))
    return CodeEvaluation(
        models={"tiny": tiny_tokenizer},
        where={"tiny": str(tiny_tokenizer_folder)},
        pictures=pictures,
        names=pictures.names,
        stability=2,
        max_pixels=None,
        device="cpu",
    )


def test_stability_and_equality_are_of_pictures_spread_over_all(asked, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "PICTURES", 2)
    some = choice(asked.names, 2)
    assert some != asked.names[:2]  # those that come first may be of one kind
    with Samples.open(tmp_path / "out", asked.asked()) as samples:
        steps = list(asked._pictures(samples, "tiny", asked.models["tiny"]))
        assert steps == [(name, []) for name in asked.names]
        assert [*samples.of("codes=tiny")] == asked.names
        assert [*samples.of("stability=tiny")] == some
        images = asked._some_images(samples, "tiny")
        assert asked.tables(samples)[0].rows[0][2] == 2  # pictures
    assert images == [asked.pictures.read(name).image for name in some]
