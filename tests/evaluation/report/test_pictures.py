"""Pictures as reports carry them."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from viq.errors import InputError
from viq.evaluation.report.pictures import MOST_BYTES, MOST_SIDE, for_folder, for_page

RNG = np.random.default_rng(0)


def plot():
    values = np.full((120, 200, 3), 255, np.uint8)
    values[20:100, 30:32] = 0
    values[60, 30:180] = (0, 114, 178)
    return Image.fromarray(values)


def decoded(packed):
    with Image.open(io.BytesIO(packed.data)) as image:
        assert (image.format.lower(), *image.size) == (packed.format, packed.width, packed.height)
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("pack", [for_page, for_folder])
def test_a_plot_loses_nothing_and_gets_no_larger(pack, tmp_path):
    path = tmp_path / "plot.png"
    plot().save(path, compress_level=1)
    packed = pack(path)
    assert np.array_equal(decoded(packed), np.asarray(plot()))
    assert packed.exact
    assert len(packed.data) < path.stat().st_size
    assert pack(path) == packed


def test_a_picture_that_cannot_be_made_smaller_is_copied(tmp_path):
    path, again = tmp_path / "a.png", tmp_path / "b.png"
    plot().save(path, compress_level=1)
    again.write_bytes(for_folder(path).data)
    assert for_folder(again).data == again.read_bytes()


@pytest.mark.parametrize("pack", [for_page, for_folder])
def test_a_huge_picture_is_scaled_down(pack, tmp_path):
    Image.new("RGB", (2 * MOST_SIDE, 100), "red").save(tmp_path / "wide.png")
    assert decoded(pack(tmp_path / "wide.png")).shape == (50, MOST_SIDE, 3)


def test_a_large_photograph_is_close_to_itself_in_fewer_bytes(tmp_path):
    y, x = np.mgrid[:700, :700]
    smooth = np.stack([x / 3, y / 3, (x + y) / 6], axis=-1)
    photo = (smooth + RNG.normal(0, 4, smooth.shape)).clip(0, 255).astype(np.uint8)
    Image.fromarray(photo).save(tmp_path / "photo.png")
    packed = for_page(tmp_path / "photo.png")
    assert not packed.exact
    assert len(packed.data) < MOST_BYTES < (tmp_path / "photo.png").stat().st_size
    assert np.abs(decoded(packed).astype(int) - photo).mean() < 4
    assert np.array_equal(decoded(for_folder(tmp_path / "photo.png")), photo)


@pytest.mark.parametrize("pack", [for_page, for_folder])
def test_a_clear_ground_becomes_white(pack, tmp_path):
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert (decoded(pack(tmp_path / "clear.png")) == 255).all()


@pytest.mark.parametrize("mode", ["L", "P", "1", "LA"])
def test_pictures_of_any_mode_become_colour(mode, tmp_path):
    path = tmp_path / "a.png"
    plot().convert(mode).save(path)
    with Image.open(path) as image:
        expected = np.asarray(image.convert("RGB"))
    assert np.array_equal(decoded(for_page(path)), expected)


def test_another_format_becomes_png(tmp_path):
    plot().save(tmp_path / "a.webp", lossless=True)
    assert np.array_equal(decoded(for_folder(tmp_path / "a.webp")), np.asarray(plot()))


def test_the_address_is_the_picture(tmp_path):
    plot().save(tmp_path / "a.png")
    packed = for_page(tmp_path / "a.png")
    head, _, content = packed.uri.partition(",")
    assert head == "data:image/webp;base64"
    assert base64.b64decode(content) == packed.data


@pytest.mark.parametrize("pack", [for_page, for_folder])
def test_what_is_no_picture_is_named(pack, tmp_path):
    good = io.BytesIO()
    plot().save(good, "PNG")
    for name, content in [("text.png", b"no picture"), ("half.png", good.getvalue()[:200])]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError) as error:
            pack(tmp_path / name)
        assert str(error.value) == f"{tmp_path / name}: the figure is no picture, or damaged"
    with pytest.raises(InputError) as error:
        pack(tmp_path / "none.png")
    assert str(error.value) == f"{tmp_path / 'none.png'}: the figure is not there"
