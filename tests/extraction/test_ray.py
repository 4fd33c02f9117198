"""The same units by Ray, on a Ray of this machine."""

import sys

import pytest

from viq.errors import InputError, ViQError
from viq.extraction.local import LocalEngine
from viq.extraction.ray import RayEngine

PHOTOS = 16  # of job_of_four


@pytest.fixture
def extract(job_of_four, written, tmp_path):
    """Does all of a job, and reads what it wrote."""

    def extract(name, engine):
        with job_of_four(tmp_path / name) as one:
            steps = list(one.run(engine))
            assert steps[-1].units == 4
            assert one.finish().rows == PHOTOS - 1
        return written(tmp_path / name)

    return extract


def test_ray_writes_the_same_bytes_as_this_machine_and_goes_on_where_it_ended(extract):
    local = extract("local", LocalEngine(1))
    assert extract("ray", RayEngine(2)) == local
    assert len(local) == 4 + 3


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("workers", [1, 4, None])
def test_any_number_of_actors_writes_the_same_bytes(extract, workers):
    local = extract("local", LocalEngine(1))
    assert extract("ray", RayEngine(workers)) == local


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_what_an_actor_cannot_do_is_told_in_its_words(job_of_four, tmp_path):
    with job_of_four(tmp_path / "out") as one:
        (tmp_path / "out" / "data").rmdir()
        with pytest.raises(ViQError, match=r"parquet: cannot be written: No such file or dir"):
            list(one.run(RayEngine(2)))


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "no-such-host:70000"])
def test_a_cluster_that_is_not_there_is_told_at_once(job_of_four, tmp_path, address):
    with (
        job_of_four(tmp_path / "out") as one,
        pytest.raises(InputError, match=f"{address}: the Ray cluster cannot be reached: "),
    ):
        list(one.run(RayEngine(2, address)))


def test_without_ray_one_line_says_what_to_install(job_of_four, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        job_of_four(tmp_path / "out") as one,
        pytest.raises(InputError, match=r"needs Ray: pip install 'viq\[ray\]'$"),
    ):
        list(one.run(RayEngine(2)))
