"""One unit: what is written, what is refused, and how far ahead is read."""

import contextlib
import errno
import io
import json
import os
import resource
import threading
import time
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from viq.errors import InputError
from viq.extraction.job import resolve
from viq.extraction.plan import Row, open_source
from viq.extraction.report import (
    UNITS,
    Failure,
    UnitReport,
    data_file,
    load_report,
    new_run,
    remove_temporary,
)
from viq.extraction.unit import Extractor, Settings, Work, _Ahead, _Decoded, extract_unit
from viq.store import CodeDataset

SCHEMA = pa.schema([pa.field("id", pa.int64())])


def jpeg(seed, height=40, width=56):
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    data = io.BytesIO()
    Image.fromarray(values).save(data, format="JPEG")
    return data.getvalue()


@dataclass
class Rows:
    """A source of what a test gives: a list of images for each row, or what reading raises."""

    lists: list
    known: int | None = None
    kind: str = "list"
    units: int = 1
    schema: pa.Schema = SCHEMA

    def rows(self, unit):
        return self.known

    def where(self, unit):
        return "the list"

    def identity(self):
        return {"kind": "list"}

    def read(self, unit):
        for n, images in enumerate(self.lists):
            if isinstance(images, Exception):
                raise images
            cells = pa.RecordBatch.from_pylist([{"id": n}], SCHEMA)
            if isinstance(images, str):
                yield Row(position=n, id=f"r{n}", columns=cells[:0], images=(), error=images)
            else:
                yield Row(position=n, id=f"r{n}", columns=cells, images=tuple(images))


@pytest.fixture
def work(tiny_tokenizer_folder, tmp_path):
    """The work of a source, in a folder ready for it."""
    (tmp_path / "data").mkdir()
    (tmp_path / UNITS).mkdir(parents=True)
    run = new_run(tmp_path)
    run.mkdir()

    def work(source, **options):
        settings, info = resolve(Settings(model=str(tiny_tokenizer_folder), **options))
        return Work(source=source, folder=tmp_path, run=run, settings=settings, info=info)

    return work


@pytest.fixture
def extract(work, tiny_tokenizer):
    def extract(lists, known=None, tell=lambda _: None, **options):
        return extract_unit(work(Rows(lists, known), **options), tiny_tokenizer, 0, tell)

    return extract


def test_rows_of_several_images_one_and_none_get_the_codes_of_their_images(
    extract, tiny_tokenizer, tmp_path
):
    lists = [[jpeg(0), jpeg(1, 100, 30)], [], [jpeg(2, 16, 200)], [], [jpeg(3)] * 3]
    report = extract(lists, known=5, batch_patches=40)
    dataset = CodeDataset(tmp_path / "data")
    assert dataset.schema.names == ["id"]
    pictures = [[Image.open(io.BytesIO(data)) for data in images] for images in lists]
    found = list(dataset.images())
    assert [len(codes) for codes in found] == [2, 0, 1, 0, 3]
    assert found == [[tiny_tokenizer.encode(picture) for picture in row] for row in pictures]
    ids = [n for batch in dataset.batches() for n in batch.column("id").to_pylist()]
    assert ids == list(range(5))
    assert (report.rows, report.images, report.errors) == (5, 6, ())
    assert report.pixels == 2 * 40 * 56 + 100 * 30 + 16 * 200 + 2 * 40 * 56
    assert report.codes == sum(one.values.size for row in found for one in row)
    assert report.file_bytes == data_file(tmp_path, 0, 1).stat().st_size
    assert 0 < report.code_bytes < report.file_bytes


def test_max_pixels_scales_pictures_down(extract, tmp_path):
    extract([[jpeg(0, 200, 200)]], max_pixels=4096)
    ((codes,),) = CodeDataset(tmp_path / "data").images()
    assert codes.original_size == (200, 200)
    assert codes.encoded_size == (64, 64)


def test_a_row_with_an_unreadable_image_goes_whole_to_the_errors(extract, tmp_path):
    missing = tmp_path / "missing.jpg"
    text = tmp_path / "text.png"
    text.write_text("no picture")
    lists = [
        [jpeg(0)],
        [jpeg(1), jpeg(2)[:-200]],
        [b""],
        [missing],
        [text],
        "its image could not be fetched",
        [jpeg(3)],
    ]
    report = extract(lists, known=7)
    ((kept,),) = [pq.read_table(data_file(tmp_path, 0, 1)).column("id").chunks]
    assert kept.to_pylist() == [0, 6]
    assert report.rows == 7 == len(kept) + len(report.errors)
    assert report.images == 2
    assert [(error.position, error.id) for error in report.errors] == [
        (n, f"r{n}") for n in range(1, 6)
    ]
    truncated, empty, absent, other, unfetched = report.errors
    assert truncated.where == "the list"
    assert truncated.reason.startswith("image 2 of 2: cannot be decoded")
    assert empty.reason.startswith("not a readable image (0 bytes)")
    assert (absent.where, absent.reason) == (str(missing), "no such file")
    assert other.where == str(text)
    assert other.reason.startswith("not an image")
    assert unfetched.reason == "its image could not be fetched"


def test_a_unit_of_errors_alone_has_no_file_and_keeps_none_of_before(extract, tmp_path):
    path = data_file(tmp_path, 0, 1)
    extract([[jpeg(0)]])
    assert path.exists()
    report = extract([[b"0"], [b"1"]])
    assert not path.exists()
    assert (report.rows, len(report.errors), report.file_bytes) == (2, 2, 0)
    assert load_report(tmp_path, 0, 1) == report


def test_neither_readers_nor_their_haste_change_a_byte(extract, tmp_path):
    lists = [[jpeg(n, 16 + 8 * n % 90, 30)] if n % 7 else [b"broken"] for n in range(40)]
    path = data_file(tmp_path, 0, 1)
    contents = set()
    for readers in (1, 2, 8):
        errors = extract(lists, readers=readers, batch_patches=64).errors
        contents.add((path.read_bytes(), errors))
    assert len(contents) == 1
    assert len(errors) == 6


def test_a_source_that_has_changed_is_refused_and_leaves_nothing(extract, tmp_path):
    with pytest.raises(InputError, match="the list: has 1 rows but had 2 when the extraction was"):
        extract([[jpeg(0)]], known=2)
    assert list((tmp_path / "data").iterdir()) == list((tmp_path / UNITS).iterdir()) == []


def test_a_source_that_breaks_in_the_middle_leaves_nothing(extract, tmp_path):
    before = threading.active_count()
    with pytest.raises(InputError, match=r"a\.tar: cut short"):
        extract([[jpeg(0)], InputError("cut short", "a.tar"), [jpeg(1)]])
    assert list((tmp_path / "data").iterdir()) == list((tmp_path / UNITS).iterdir()) == []
    assert threading.active_count() == before


def test_it_tells_how_far_it_is(extract, monkeypatch):
    monkeypatch.setattr("viq.extraction.unit.TELL_SECONDS", 0)
    told = []
    extract([[jpeg(0)], [b"x"], [jpeg(1)]], tell=told.append, batch_patches=12)
    assert told[-1].progress == (3, 2, 2 * 40 * 56, 1, 0)
    assert [one.progress.rows for one in told] == sorted({one.progress.rows for one in told})
    assert len(told) > 1


def test_memory_that_runs_out_is_not_a_pictures_fault(extract):
    class Huge(Image.Image):
        def load(self):
            raise MemoryError

    huge = Huge()
    huge._size, huge._mode = (40, 40), "RGB"
    with pytest.raises(MemoryError):
        extract([[jpeg(0)], [huge]])


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.EIO, errno.ESTALE])
def test_a_disk_that_does_not_answer_is_not_a_pictures_fault(extract, work, tmp_path, number):
    class Away(Image.Image):
        def load(self):
            raise OSError(number, os.strerror(number))

    away = Away()
    away._size, away._mode = (40, 40), "RGB"
    outcome = attempt(work(Rows([[jpeg(0)], [away]])))
    assert outcome.reason == f"the list: cannot be decoded: {os.strerror(number)}"
    assert not outcome.is_final
    assert list((tmp_path / "data").iterdir()) == list((tmp_path / UNITS).iterdir()) == []


def test_files_that_cannot_be_opened_for_a_while_are_tried_again(work, tmp_path):
    """As many files are open as may be; the picture is there all the while."""
    (tmp_path / "a.jpg").write_bytes(jpeg(0))
    extractor = Extractor(work(Rows([[tmp_path / "a.jpg"]])), "cpu")
    extractor._loaded()
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
        with contextlib.suppress(OSError):
            while True:
                held.append(os.open("/", os.O_RDONLY))
        outcome = extractor.attempt(0, lambda _: None)
    finally:
        for one in held:
            os.close(one)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert outcome.reason == f"{tmp_path / 'a.jpg'}: cannot be opened: Too many open files"
    assert not outcome.is_final
    assert extractor.attempt(0, lambda _: None).errors == ()


@pytest.mark.parametrize("images", [[jpeg(0)], [b"broken"]])
def test_a_worker_whose_run_is_over_puts_nothing_in_place(extract, work, tmp_path, images):
    extract([[jpeg(1)], [jpeg(2)]])
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    orphan = Extractor(work(Rows([images])), "cpu")
    orphan._loaded()
    remove_temporary(tmp_path)  # as the next driver does
    assert isinstance(orphan.attempt(0, lambda _: None), Failure)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_worker_whose_run_ends_while_it_writes_puts_nothing_in_place(extract, work, tmp_path):
    extract([[jpeg(1)], [jpeg(2)]])
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    class Late(Rows):
        def read(self, unit):
            yield from super().read(unit)
            if not list(tmp_path.glob(".viq/run-*/*")):
                raise AssertionError("nothing is being written")
            remove_temporary(tmp_path)

    late = work(Late([[jpeg(n)] for n in range(20)]), batch_patches=12)
    assert isinstance(attempt(late), Failure)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_report_is_what_was_written(extract, tmp_path):
    report = extract([[jpeg(0)], [b"x"]])
    assert UnitReport.from_json(report.to_json()) == report
    assert load_report(tmp_path, 0, 1) == report
    with pytest.raises(ValueError, match="not a unit's report"):
        UnitReport.from_json(json.dumps({"unit": 1}))


def test_no_more_is_read_ahead_than_a_batch_and_a_row_a_thread():
    taken = []

    def rows():
        for n in range(200):
            taken.append(n)
            yield Row(position=n, id=str(n), columns=None, images=())

    def decode(row):
        one = _Decoded(row)
        object.__setattr__(one, "weight", 10)
        return one

    with _Ahead(rows(), decode, 3, 50) as ahead:
        for n, one in enumerate(ahead):
            if n % 40 == 0:
                time.sleep(0.05)  # the threads read as far as they may
                assert n + 3 <= len(taken) <= n + 1 + 5 + 3
            assert one.row.position == n
    assert len(taken) == 200


def test_who_stops_reading_stops_the_threads():
    before = threading.active_count()

    def rows():
        while True:
            yield Row(position=0, id="", columns=None, images=())

    with _Ahead(rows(), _Decoded, 4, 10) as ahead:
        next(iter(ahead))
    assert threading.active_count() == before


# What a worker makes of what goes wrong.


def attempt(work):
    outcome = Extractor(work, "cpu").attempt(0, lambda _: None)
    assert isinstance(outcome, Failure)
    return outcome


def test_a_source_that_cannot_be_read_is_not_the_end(work):
    outcome = attempt(work(Rows([InputError("cut short", "a.tar")])))
    assert (outcome.reason, outcome.is_final) == ("a.tar: cut short", False)


def test_a_file_that_cannot_be_written_is_the_end(work, tmp_path):
    (tmp_path / "data").rmdir()
    outcome = attempt(work(Rows([[jpeg(0)]])))
    assert outcome.is_final
    path = data_file(tmp_path, 0, 1)
    assert outcome.reason == f"{path}: cannot be written: No such file or directory"


def test_a_report_that_cannot_be_written_is_the_end(work, tmp_path):
    (tmp_path / UNITS).rmdir()
    outcome = attempt(work(Rows([[jpeg(0)]])))
    assert outcome.is_final
    assert outcome.reason.endswith(": No such file or directory")


def test_another_tokenizer_in_the_models_place_is_the_end(work):
    wrong = work(Rows([[jpeg(0)]]))
    wrong = replace(wrong, info=replace(wrong.info, fingerprint="0" * 64))
    outcome = attempt(wrong)
    assert outcome.is_final
    assert "these codes were made by tokenizer 000000000000" in outcome.reason


def test_a_model_that_is_gone_is_the_end(work):
    gone = work(Rows([[jpeg(0)]]))
    outcome = attempt(replace(gone, settings=replace(gone.settings, model="gone")))
    assert outcome.is_final
    assert outcome.reason.startswith("gone: no such model")


def test_no_memory_is_the_end(work):
    outcome = attempt(work(Rows([MemoryError()])))
    assert outcome.is_final
    assert outcome.reason.startswith("out of memory; fewer --workers")


def test_of_our_own_mistakes_all_is_told(work):
    outcome = attempt(work(Rows([KeyError("oops")])))
    assert outcome.is_final
    assert "KeyError: 'oops'" in outcome.reason
    assert "Traceback" in outcome.reason


def test_a_real_source_is_read(work, tiny_tokenizer, tmp_path):
    table = pa.table(
        {"image": [{"bytes": jpeg(n), "path": None} for n in range(3)], "caption": list("abc")}
    )
    pq.write_table(table, tmp_path / "table.parquet")
    source = open_source(str(tmp_path / "table.parquet"), work=tmp_path)
    extract_unit(work(source), tiny_tokenizer, 0, lambda _: None)
    dataset = CodeDataset(tmp_path / "data")
    assert dataset.schema.names == ["caption"]
    assert [len(codes) for codes in dataset.images()] == [1, 1, 1]
