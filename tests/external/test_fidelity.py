"""FID by torch-fidelity, or what is missing for it."""

import hashlib
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from PIL import Image

from viq.errors import ModelError
from viq.external import fidelity
from viq.external.fidelity import load_fidelity, why_not


def pictures(count, seed):
    rng = np.random.default_rng(seed)
    arrays = rng.integers(0, 256, (count, 24, 40, 3), dtype=np.uint8)
    return [Image.fromarray(array) for array in arrays]


@pytest.fixture
def packages(monkeypatch):
    """Both packages as if they were there; nothing of them is called."""
    monkeypatch.setattr(fidelity, "find_spec", lambda name: name)


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setattr(fidelity, "find_spec", lambda name: None)
    assert why_not() == (
        "FID needs torch-fidelity and torchvision: pip install torch-fidelity torchvision"
    )
    monkeypatch.setattr(fidelity, "find_spec", lambda name: name == "torchvision" or None)
    assert why_not() == "FID needs torch-fidelity and torchvision: pip install torch-fidelity"
    with pytest.raises(ModelError, match=r"pip install torch-fidelity$"):
        load_fidelity()


def test_weights_are_looked_for_in_torch_hubs_cache(packages, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    path = tmp_path / "hub" / "checkpoints" / "weights-inception-2015-12-05-6726825d.pth"
    assert why_not() == (
        "FID needs Inception's weights, weights-inception-2015-12-05-6726825d.pth of"
        f" torch-fidelity; {path} is no file"
    )
    assert not path.exists()


def test_other_weights_are_refused(packages, tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(b"others")
    digest = hashlib.sha256(b"others").hexdigest()[:8]
    assert why_not(path) == (
        f"{path} is not weights-inception-2015-12-05-6726825d.pth: its SHA-256 begins with"
        f" {digest}, not 6726825d"
    )
    with pytest.raises(ModelError, match="its SHA-256 begins with"):
        load_fidelity(path)


def test_torch_fidelity_is_run(tmp_path, monkeypatch):
    """End to end, with random weights that are taken for the published ones."""
    if not all(find_spec(name) for name in fidelity._PACKAGES):
        pytest.skip("torch-fidelity or torchvision is not installed")
    import torch_fidelity
    from torch_fidelity import feature_extractor_inceptionv3 as inception

    path = tmp_path / "weights.pth"
    torch.manual_seed(0)
    monkeypatch.setattr(inception, "load_state_dict_from_url", lambda *args, **options: {})
    monkeypatch.setattr(torch.nn.Module, "load_state_dict", lambda *args: None)
    network = inception.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"])
    monkeypatch.undo()
    torch.save(network.state_dict(), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(fidelity, "_SHA256", digest[:8])
    assert why_not(path) is None
    sets = []
    for seed in (0, 1):
        folder = tmp_path / str(seed)
        folder.mkdir()
        sets.append(pictures(6, seed))
        for number, image in enumerate(sets[-1]):
            image.save(folder / f"{number}.png")
    expected = torch_fidelity.calculate_metrics(
        input1=str(tmp_path / "0"),
        input2=str(tmp_path / "1"),
        fid=True,
        cuda=False,
        cache=False,
        verbose=False,
        save_cpu_ram=True,
        feature_extractor_weights_path=str(path),
    )["frechet_inception_distance"]
    assert expected > 0
    loaded = load_fidelity(path)
    features, others = map(loaded.features, sets)
    assert loaded.distance(features, others) == pytest.approx(expected, rel=1e-3)
    assert features.shape == (6, 2048)
    with pytest.raises(ValueError, match="an FID of 1 picture; two or more are needed"):
        loaded.distance(features, features[:1])
