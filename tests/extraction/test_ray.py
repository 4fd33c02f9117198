"""The same units by Ray, on a Ray of this machine."""

import sys

import numpy as np
import pytest
from PIL import Image

from viq.errors import InputError, ViQError
from viq.extraction.job import Job
from viq.extraction.local import LocalEngine
from viq.extraction.ray import RayEngine
from viq.extraction.unit import Settings

PHOTOS = 16


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(1)
    for n in range(PHOTOS):
        height, width = rng.integers(16, 80, 2)
        values = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(values).save(folder / f"{n:02}.png")
    (folder / "07.png").write_bytes(b"")
    return folder


@pytest.fixture
def job(photos, tiny_tokenizer_folder):
    """A job of four units."""

    def job(out):
        return Job(str(photos), out, Settings(model=str(tiny_tokenizer_folder)), rows_a_unit=4)

    return job


def content(folder):
    files = [path for path in folder.rglob("*") if path.is_file() and ".viq" not in path.parts]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def extract(job, out, engine):
    with job(out) as one:
        steps = list(one.run(engine))
        assert steps[-1].units == 4
        assert one.finish().rows == PHOTOS - 1
    return content(out)


def test_ray_writes_the_same_bytes_as_this_machine_and_goes_on_where_it_ended(job, tmp_path):
    local = extract(job, tmp_path / "local", LocalEngine(1))
    assert extract(job, tmp_path / "ray", RayEngine(2)) == local
    assert len(local) == 4 + 3


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("workers", [1, 4, None])
def test_any_number_of_actors_writes_the_same_bytes(job, tmp_path, workers):
    local = extract(job, tmp_path / "local", LocalEngine(1))
    assert extract(job, tmp_path / "ray", RayEngine(workers)) == local


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_what_an_actor_cannot_do_is_told_in_its_words(job, tmp_path):
    with job(tmp_path / "out") as one:
        (tmp_path / "out" / "data").rmdir()
        with pytest.raises(ViQError, match=r"parquet: cannot be written: No such file or dir"):
            list(one.run(RayEngine(2)))


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "no-such-host:70000"])
def test_a_cluster_that_is_not_there_is_told_at_once(job, tmp_path, address):
    with (
        job(tmp_path / "out") as one,
        pytest.raises(InputError, match=f"{address}: the Ray cluster cannot be reached: "),
    ):
        list(one.run(RayEngine(2, address)))


def test_without_ray_one_line_says_what_to_install(job, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        job(tmp_path / "out") as one,
        pytest.raises(InputError, match=r"needs Ray: pip install 'viq\[ray\]'$"),
    ):
        list(one.run(RayEngine(2)))
