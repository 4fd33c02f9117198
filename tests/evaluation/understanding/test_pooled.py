import io

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from viq.errors import InputError
from viq.evaluation.understanding import pooled as module
from viq.evaluation.understanding.pictures import Labelled
from viq.evaluation.understanding.pooled import pool, pooled


def drawn(count):
    return [Labelled(f"p{i}", Image.new("RGB", (64, 64), (i, 2 * i, 0)), {}) for i in range(count)]


class Eye:
    """Features of a picture's first pixel; counts what it looks at."""

    def __init__(self, patience=10**6):
        self.seen, self.patience = 0, patience

    def __call__(self, pictures):
        self.seen += len(pictures)
        if self.seen > self.patience:
            raise KeyboardInterrupt
        return [torch.full((16, 3), float(np.asarray(one)[0, 0, 0])) for one in pictures]


def look_at(pictures, look, folder, pooling="quarters"):
    return pooled(pictures, look, folder, side=64, pooling=pooling, what="test")


def test_features_are_those_of_each_picture(tmp_path):
    found = look_at(drawn(150), Eye(), tmp_path / "new" / "folder")
    assert [*found.features] == [f"p{i}" for i in range(150)]
    assert all((found.features[f"p{i}"] == i).all() for i in range(150))
    assert found.features["p0"].shape == (12,)
    assert found.failed == {}


def test_a_stopped_run_goes_on_and_finds_the_same(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        look_at(drawn(200), Eye(patience=130), tmp_path / "a")
    eye = Eye()
    found = look_at(drawn(200), eye, tmp_path / "a")
    assert eye.seen == 200 - 128
    whole = look_at(drawn(200), Eye(), tmp_path / "b")
    assert all(torch.equal(found.features[name], whole.features[name]) for name in whole.features)
    again = Eye(patience=0)
    assert len(look_at(drawn(200), again, tmp_path / "a").features) == 200
    assert again.seen == 0


def test_nothing_but_whole_files_is_left(tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "save_file", stop)
    with pytest.raises(KeyboardInterrupt):
        look_at(drawn(3), Eye(), tmp_path)
    assert [*tmp_path.iterdir()] == []


def test_encoded_pictures_are_squashed(tmp_path):
    file = io.BytesIO()
    Image.new("RGB", (30, 90), (7, 0, 0)).save(file, "PNG")
    sizes = []

    def look(pictures):
        sizes.extend(one.size for one in pictures)
        return [torch.zeros(4, 2) for _ in pictures]

    look_at([Labelled("tall", file.getvalue(), {})], look, tmp_path)
    assert sizes == [(64, 64)]


def test_unreadable_pictures_are_told_every_time(tmp_path):
    some = [*drawn(2), Labelled("torn.png", b"\x89PNG no more", {}), Labelled("none", b"", {})]
    for _ in range(2):
        found = look_at(some, Eye(), tmp_path)
        assert [*found.features] == ["p0", "p1"]
        assert [*found.failed] == ["torn.png", "none"]
        assert found.failed["torn.png"].startswith("not a readable image (12 bytes)")


def test_unreadable_pictures_are_tried_again(tmp_path):
    torn = drawn(3)
    torn[1] = torn[1]._replace(picture=b"torn")
    assert [*look_at(torn, Eye(), tmp_path).failed] == ["p1"]
    eye = Eye()
    found = look_at(drawn(3), eye, tmp_path)
    assert (eye.seen, found.failed) == (1, {})
    assert {name: row[0].item() for name, row in found.features.items()} == {
        "p0": 0,
        "p1": 1,
        "p2": 2,
    }
    assert look_at(drawn(3), Eye(patience=0), tmp_path).features.keys() == {"p0", "p1", "p2"}


def test_nothing_readable_is_no_features(tmp_path):
    for _ in range(2):
        found = look_at([Labelled("none", b"", {})], Eye(patience=0), tmp_path)
        assert found.features == {}
        assert [*found.failed] == ["none"]


def test_files_of_other_pictures_are_told(tmp_path):
    look_at(drawn(6), Eye(), tmp_path)
    with pytest.raises(InputError, match=r"000000.safetensors: holds features of other pictures;"):
        look_at(drawn(5), Eye(), tmp_path)


def test_damaged_files_are_told(tmp_path):
    look_at(drawn(5), Eye(), tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match=r"000000.safetensors: is damaged; remove it"):
        look_at(drawn(5), Eye(), tmp_path)
    save_file({"rows": torch.zeros(5, 12)}, path)
    with pytest.raises(InputError, match="is damaged; remove it"):
        look_at(drawn(5), Eye(), tmp_path)


def test_quarters_are_means_in_raster_order():
    grid = torch.tensor([[0.0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 7]])
    features = torch.stack([grid.flatten(), -grid.flatten()], 1)
    assert pool(features, "quarters").tolist() == [0, 0, 1, -1, 2, -2, 4, -4]


def test_patches_stay_as_they_are_in_float32():
    features = torch.randn(6, 3, dtype=torch.bfloat16)
    kept = pool(features, "patches")
    assert kept.dtype == torch.float32
    assert torch.equal(kept, features.float())


def test_one_feature_of_a_picture_will_do():
    assert pool(torch.tensor([[1.0, 2]]), "quarters").tolist() == [1, 2] * 4


def test_features_of_no_square_are_refused():
    with pytest.raises(ValueError, match=r"^6 features are not those of a square grid\.$"):
        pool(torch.zeros(6, 3), "quarters")
