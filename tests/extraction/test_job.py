"""The folder of an extraction: what is done, what is missing, and what is refused."""

import json
import logging
import shutil
from contextlib import closing

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from viq.errors import InputError, ViQError
from viq.extraction.job import Job
from viq.extraction.report import Failure, data_file, report_file
from viq.extraction.unit import Extractor, Settings
from viq.store import CodeDataset

PHOTOS, UNITS = 11, 3  # in units of 4 rows; two of the photos cannot be read


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for n in range(PHOTOS):
        height, width = rng.integers(16, 64, 2)
        values = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(values).save(folder / f"{n:02}.png")
    (folder / "03.png").write_bytes(b"")
    (folder / "05.png").write_bytes((folder / "05.png").read_bytes()[:100])
    return folder


@pytest.fixture
def job(photos, tiny_tokenizer_folder, tmp_path):
    """A job over the photos; ``out`` and settings by name."""

    def job(source=photos, out=tmp_path / "out", rows_a_unit=4, retry_errors=False, **settings):
        settings = Settings(**{"model": str(tiny_tokenizer_folder), **settings})
        options = {"rows_a_unit": rows_a_unit, "retry_errors": retry_errors}
        return Job(str(source), out, settings, **options)

    return job


@pytest.fixture
def done(job):
    """Does all of a job and returns its summary."""

    def done(engine=None, **options):
        with job(**options) as one:
            list(one.run(engine or here))
            return one.finish()

    return done


def here(work, units):
    """The smallest engine: this process."""
    extractor = Extractor(work, "cpu")
    for unit in units:
        yield extractor.attempt(unit, lambda _: None)


def content(folder):
    """All that may be compared: the data set, without what is private to the extraction."""
    files = [path for path in folder.rglob("*") if path.is_file() and ".viq" not in path.parts]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def names(folder):
    dataset = CodeDataset(folder)
    return [name for batch in dataset.batches() for name in batch.column("file_name").to_pylist()]


def test_all_rows_are_there_once_in_order_or_among_the_errors(done, tmp_path):
    summary = done()
    out = tmp_path / "out"
    assert names(out) == [f"{n:02}.png" for n in range(PHOTOS) if n not in (3, 5)]
    assert sorted(content(out)) == [
        "README.md",
        *[f"data/train-0000{n}-of-00003.parquet" for n in range(UNITS)],
        "errors.parquet",
        "extraction.json",
    ]
    errors = pq.read_table(out / "errors.parquet")
    assert [str(field.type) for field in errors.schema] == [
        *("string", "int32", "int64", "string", "string")
    ]
    first, second = errors.to_pylist()
    assert (first["id"], first["unit"], first["position"]) == ("03.png", 0, 3)
    assert first["reason"] == "the file is empty"
    assert first["where"].endswith("03.png")
    assert (second["id"], second["unit"], second["position"]) == ("05.png", 1, 5)
    assert (summary.rows, summary.errors, summary.images) == (9, 2, 9)
    assert summary.units == summary.new_units == UNITS


def test_datasets_and_pandas_find_it(done, tmp_path):
    import datasets
    import pandas

    done()
    table = datasets.load_dataset(
        str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert table["file_name"] == names(tmp_path / "out")
    assert set(table.column_names) >= {"codes", "grid_sizes", "original_sizes", "encoded_sizes"}
    assert len(pandas.read_parquet(tmp_path / "out" / "data")) == 9


def test_a_finished_job_repeated_touches_nothing(done, job, tmp_path):
    done()
    out = tmp_path / "out"
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.name != "lock"}

    def never(work, units):
        raise AssertionError("there is nothing to do")
        yield

    with job() as again:
        assert again.missing == []
        assert again.before == (11, 9, again.before.pixels, 2, 3)
        assert list(again.run(never)) == []
        summary = again.finish()
    assert (summary.rows, summary.errors, summary.units, summary.new_units) == (9, 2, UNITS, 0)
    after = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.name != "lock"}
    before.pop(out / ".viq" / "listing.jsonl", None)  # the source's own
    assert {path: after[path] for path in before if path.is_file()} == {
        path: time for path, time in before.items() if path.is_file()
    }


@pytest.mark.parametrize("harm", ["delete data", "cut data", "delete report", "cut report"])
def test_what_is_lost_or_damaged_is_made_again(done, job, tmp_path, harm):
    done()
    out = tmp_path / "out"
    before = content(out)
    verb, what = harm.split()
    path = data_file(out, 1, UNITS) if what == "data" else report_file(out, 1)
    if verb == "delete":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:50])
    with job() as again:
        assert again.missing == [1]
        list(again.run(here))
        assert again.finish().new_units == 1
    assert content(out) == before


def test_an_interrupted_job_goes_on_and_ends_with_the_same_bytes(done, job, tmp_path):
    done(out=tmp_path / "whole")
    with job() as first, closing(first.run(here)) as steps:
        next(step for step in steps if step.units)
    with job() as second:
        assert second.missing == [1, 2]
        assert second.before.units == 1
        steps = list(second.run(here))
        assert [step.units for step in steps] == [2, 3]
        assert steps[-1].rows == PHOTOS
        second.finish()
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_an_unfinished_data_set_is_not_taken_for_a_whole_one(job):
    with job() as unfinished, pytest.raises(ViQError, match="is missing after the extraction"):
        unfinished.finish()


def test_without_errors_their_file_is_empty_and_all_the_same_there(done, photos, tmp_path):
    few = tmp_path / "few"
    few.mkdir()
    shutil.copy(photos / "00.png", few)
    summary = done(source=few)
    assert (summary.rows, summary.errors) == (1, 0)
    assert pq.read_table(tmp_path / "out" / "errors.parquet").num_rows == 0


def test_the_card_is_the_same_in_any_place(done, tiny_tokenizer, tmp_path):
    done(out=tmp_path / "a")
    done(out=tmp_path / "b", readers=1)
    card = (tmp_path / "a" / "README.md").read_text()
    assert card == (tmp_path / "b" / "README.md").read_text()
    assert card.startswith("---\nconfigs:\n- config_name: default\n")
    assert "| rows | 9 |" in card
    assert f"`{tiny_tokenizer.fingerprint}`" in card
    assert str(tmp_path) not in card


# What is refused.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rows_a_unit": 5}, "rows_a_unit 4, and now it is 5"),
        ({"max_pixels": 2048}, "max_pixels 4194304, and now it is 2048"),
        ({"dtype": "bfloat16"}, 'dtype "float32", and now it is "bfloat16"'),
        ({"batch_patches": 8}, "batch_patches 4096, and now it is 8"),
        ({"threads": 2}, "threads 1, and now it is 2"),
    ],
)
def test_other_settings_in_the_same_folder_are_refused(done, job, options, message):
    done()
    with pytest.raises(InputError, match=message):
        job(**options)


def test_another_source_or_tokenizer_in_the_same_folder_is_refused(done, job, photos, tmp_path):
    done()
    other = tmp_path / "other"
    shutil.copytree(photos, other)
    with pytest.raises(InputError, match=r"was begun with source .*other"):
        job(source=other)
    with pytest.raises(InputError, match="was begun with fingerprint"):
        job(model="nano")


def test_the_number_of_readers_and_the_models_place_may_change(
    done, job, tiny_tokenizer_folder, tmp_path
):
    done()
    shutil.copytree(tiny_tokenizer_folder, tmp_path / "moved")
    with job(readers=1, model=str(tmp_path / "moved")) as again:
        assert again.missing == []


def test_a_folder_of_something_else_is_left_alone(job, tmp_path):
    (tmp_path / "out" / "data").mkdir(parents=True)
    (tmp_path / "out" / "data" / "mine.parquet").write_bytes(b"mine")
    with pytest.raises(InputError, match=r"holds data/mine\.parquet of something else"):
        job()
    assert (tmp_path / "out" / "data" / "mine.parquet").read_bytes() == b"mine"


@pytest.mark.parametrize("lost", ["data", ".viq/units", ".viq"])
def test_a_folder_that_was_deleted_is_made_again(done, tmp_path, lost):
    rows = done().rows
    before = {path.name: path.read_bytes() for path in (tmp_path / "out" / "data").iterdir()}
    shutil.rmtree(tmp_path / "out" / lost)
    assert done().rows == rows
    after = {path.name: path.read_bytes() for path in (tmp_path / "out" / "data").iterdir()}
    assert after == before


@pytest.mark.parametrize("name", ["README.md", "errors.parquet"])
def test_files_of_something_else_are_not_overwritten(job, tmp_path, name):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_bytes(b"mine")
    with pytest.raises(InputError, match=f"holds {name} of something else"):
        job()
    assert (tmp_path / "out" / name).read_bytes() == b"mine"


@pytest.mark.parametrize("place", ["", "data", "train"])
def test_a_data_set_among_its_source_is_refused(job, photos, tmp_path, place):
    source = shutil.copytree(photos, tmp_path / "source")
    before = sorted(source.rglob("*"))
    with pytest.raises(InputError, match="the source is read from this folder"):
        job(source=source, out=source / place)  # whose errors.parquet would be the source next time
    assert sorted(source.rglob("*")) == before
    with job(source=source, out=source / "codes"):
        pass


def test_a_data_set_beside_its_sources_files_is_refused(job, tmp_path):
    pq.write_table(pa.table({"image": [b"1"]}), tmp_path / "a.parquet")
    for source in ("a.parquet", "*.parquet"):
        with pytest.raises(InputError, match="the source is read from this folder"):
            job(source=tmp_path / source, out=tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", '{"format": "viq-extraction"}'])
def test_a_damaged_note_of_the_settings_is_refused(done, job, tmp_path, text):
    done()
    (tmp_path / "out" / "extraction.json").write_text(text)
    with pytest.raises(InputError, match=r"extraction\.json: is damaged"):
        job()


def test_two_jobs_in_one_folder_are_refused(job):
    with job(), pytest.raises(InputError, match="another extraction is running in this folder"):
        job()
    with job():
        pass  # the lock is free again, also after the refusal


def test_a_file_cannot_be_the_folder(job, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="the folder cannot be made"):
        job(out=tmp_path / "file")


def test_a_model_that_cannot_take_the_pixels_is_refused(job):
    with pytest.raises(InputError, match="max_pixels 3: max_pixels is 3; it must hold one block"):
        job(max_pixels=3)


def test_left_over_temporary_files_are_removed(job, tmp_path):
    with job():
        pass
    left = [
        tmp_path / "out" / ".README.md.0123.tmp",
        tmp_path / "out" / ".viq" / "sorting-00000.tmp",
        tmp_path / "out" / ".viq" / "run-0123" / ".train-00000-of-00003.parquet.0123.tmp",
        tmp_path / "out" / ".viq" / "gone-0123" / ".00000.json.0123.tmp",
    ]
    for path in left:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    with job():
        assert not any(path.exists() for path in left)
        (run,) = (tmp_path / "out" / ".viq").glob("run-*")
    assert not run.exists()
    assert sorted(path.name for path in run.parent.iterdir()) == ["listing.jsonl", "lock", "units"]


def test_rows_that_failed_are_tried_again_if_that_is_asked(done, job, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    lines = [{"id": n, "image": f"images/{n}.png"} for n in range(9)]
    source = tmp_path / "a.jsonl"
    source.write_text("\n".join(map(json.dumps, lines)))
    for n in range(9):
        Image.new("RGB", (40, 40), (n, n, n)).save(images / f"{n}.png")
    done(source=source, out=tmp_path / "whole")
    away = (images / "5.png").rename(tmp_path / "5.png")
    assert done(source=source).errors == 1
    away.rename(images / "5.png")
    assert done(source=source).errors == 1
    with job(source=source, retry_errors=True) as again:
        assert again.missing == [1]
        assert again.before == (5, 5, again.before.pixels, 0, 2)
        assert [step.units for step in again.run(here)] == [3]
        summary = again.finish()
    assert (summary.rows, summary.errors, summary.new_units) == (9, 0, 1)
    assert content(tmp_path / "out") == content(tmp_path / "whole")
    with job(source=source, retry_errors=True) as again:
        assert again.missing == []


def test_a_job_that_goes_on_with_other_versions_says_so(done, job, tmp_path, caplog):
    done()
    path = tmp_path / "out" / "extraction.json"
    document = json.loads(path.read_text())
    assert document["versions"] == {"pyarrow": pa.__version__, "torch": torch.__version__}
    path.write_text(json.dumps(document | {"versions": {**document["versions"], "torch": "2.0"}}))
    with caplog.at_level(logging.WARNING, "viq"):
        with job() as again:
            assert again.missing == []
        assert caplog.messages == []  # nothing is done
        report_file(tmp_path / "out", 0).unlink()
        with job() as again:
            assert again.missing == [0]
    assert caplog.messages == [
        f"{tmp_path / 'out'}: was begun with torch 2.0 (now {torch.__version__}): the bytes of new"
        " files, and a few codes, may differ"
    ]


# What goes wrong on the way.


def test_a_unit_that_cannot_be_read_keeps_no_other_from_being_done(job):
    def engine(work, units):
        yield Failure(unit=0, reason="unit 0 is bad", is_final=False)
        yield from here(work, [1])
        yield Failure(unit=2, reason="unit 2 is bad", is_final=False)

    message = "units that cannot be read: 2: unit 0 is bad; unit 2 is bad; the others are done"
    with job() as failing, pytest.raises(ViQError, match=message):
        list(failing.run(engine))
    with job() as again:
        assert again.missing == [0, 2]


def test_a_failure_that_all_units_would_have_ends_the_job(job):
    begun = []

    def engine(work, units):
        for unit in units:
            begun.append(unit)
            yield Failure(unit=unit, reason="the disk is full", is_final=True)

    with (
        job() as failing,
        pytest.raises(ViQError, match=r"^the disk is full; what is done is kept"),
    ):
        list(failing.run(engine))
    assert begun == [0]


def test_lost_rows_are_noticed(done, job, tmp_path):
    done()
    out = tmp_path / "out"
    path, report = data_file(out, 0, UNITS), report_file(out, 0)
    pq.write_table(pq.read_table(path).slice(1), path)
    changed = json.loads(report.read_text()) | {"file_bytes": path.stat().st_size}
    report.write_text(json.dumps(changed))
    with (
        job() as again,
        pytest.raises(ViQError, match="has 2 rows and 1 errors, but its unit has 4"),
    ):
        again.finish()


def test_a_damaged_file_is_noticed(done, job, tmp_path):
    done()
    path = data_file(tmp_path / "out", 0, UNITS)
    path.write_bytes(bytes(path.stat().st_size))
    with job() as again, pytest.raises(ViQError, match=r"cannot be read .*delete and repeat"):
        again.finish()


def test_the_summary_counts_and_prices(done):
    summary = done()
    figures = summary.to_dict(price_per_hour=3.0)
    assert figures["bytes_a_code"] == summary.code_bytes / summary.codes
    assert figures["bits_per_pixel"] == 8 * summary.code_bytes / summary.pixels
    hours = summary.worker_seconds / 3600 / 9 * 1e6
    assert figures["worker_hours_per_million_images"] == pytest.approx(hours)
    assert figures["price_per_million_images"] == pytest.approx(3 * hours)
    assert figures["images_per_second"] == pytest.approx(9 / summary.seconds)
    assert "price_per_million_images" not in summary.to_dict()
