import json
import logging
import pickle
import shutil
import subprocess
import sys
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from viq.errors import InputError
from viq.extraction.sources.storage import Storage


@pytest.fixture
def write(tmp_path):
    """Writes a small file of the kind that its suffix says."""

    def write(name):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".parquet":
            pq.write_table(pa.table({"name": [path.name]}), path)
        elif path.suffix == ".tar":
            with tarfile.open(path, "w") as tar:
                tar.addfile(tarfile.TarInfo(f"{path.stem}.txt"))
        else:
            path.write_text(json.dumps({"name": path.name}))
        return path

    return write


def names(source):
    """The files that the rows of a source say they are of."""
    found = [row for unit in range(source.units) for row in source.read(unit)]
    return [row.columns[0][0].as_py() for row in found]


@pytest.mark.parametrize(
    ("there", "kind", "read"),
    [
        (["a.parquet", "b.parquet", "c.txt"], "parquet", ["a.parquet", "b.parquet"]),
        (["data/train-0.parquet", "data/test-0.parquet"], "parquet", ["train-0.parquet"]),
        (["data/part-0.parquet", "data/test-0.parquet"], "parquet", ["part-0.parquet"]),
        (["train/b.parquet", "train/a.parquet", "test/c.parquet"], "parquet", ["a.parquet", "b.parquet"]),  # noqa: E501
        ([".a.parquet", "x.PARQUET.tar"], "webdataset", ["x"]),
        (["train-1.tar", "train-0.tar", "val-0.tar", "a.png"], "webdataset", ["train-0", "train-1"]),  # noqa: E501
        (["train.jsonl", "a.png"], "llava", ["train.jsonl"]),
        (["train.json", "a.png"], "llava", ["train.json"]),
        (["train.txt", "deep/er/a.png"], "folder", ["deep/er/a.png"]),
        (["train/a.png", "test/b.png"], "folder", ["test/b.png", "train/a.png"]),
        (["metadata.jsonl", "a.png"], "folder", ["a.png"]),
    ],
)  # fmt: skip
def test_a_folder_is_of_the_kind_of_what_lies_in_it(
    write, opened, memory, tmp_path, there, kind, read
):
    for name in there:
        write(name)
    if "metadata.jsonl" in there:
        (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.png"}')
    for place in (tmp_path, f"{tmp_path}/", f"file://{tmp_path}", memory(tmp_path)):
        source = opened(place)
        assert (source.kind, names(source)) == (kind, read)


def test_splits_that_are_left_out_are_named(write, opened, tmp_path, caplog):
    for name in ("train-0.parquet", "test-0.parquet", "val-0.parquet", "x.parquet"):
        write(f"data/{name}")
    with caplog.at_level(logging.WARNING, "viq"):
        opened(tmp_path)
    assert caplog.messages == [
        f"{tmp_path}/data: split train is read; other files are left out: *.parquet, test*.parquet,"
        " val*.parquet"
    ]


@pytest.mark.parametrize(
    ("pattern", "read"),
    [
        ("b?.jsonl", ["b1.jsonl", "b2.jsonl"]),
        ("*/c*.jsonl", ["c.jsonl", "c.jsonl"]),
        ("b{2,1}.jsonl", ["b2.jsonl", "b1.jsonl"]),
        ("{b,x/b}{1..2}.jsonl", ["b1.jsonl", "b2.jsonl", "b1.jsonl", "b2.jsonl"]),
        ("{x,y}/c*.jsonl", ["c.jsonl", "c.jsonl"]),
        ("n-{008..010}.jsonl", ["n-008.jsonl", "n-009.jsonl", "n-010.jsonl"]),
        ("odd{name}[1].jsonl", ["odd{name}[1].jsonl"]),
        ("**/*1*.jsonl", ["b1.jsonl", "n-010.jsonl", "odd{name}[1].jsonl", "b1.jsonl"]),
    ],
)
def test_patterns_name_files_in_order(write, opened, memory, tmp_path, pattern, read):
    for name in (
        "b1",
        "b2",
        "x/b1",
        "x/b2",
        "x/c",
        "y/c",
        "n-008",
        "n-009",
        "n-010",
        "odd{name}[1]",
    ):
        write(f"{name}.jsonl")
    assert names(opened(tmp_path / pattern)) == read
    assert names(opened(f"{memory(tmp_path)}/{pattern}")) == read


def test_refusals_say_what_is_wrong(write, refusal, tmp_path):
    def at(name, **options):
        return refusal(tmp_path / name, **options).replace(str(tmp_path), "DIR")

    assert at("no.parquet") == "DIR/no.parquet: no such file"
    assert at("no*.parquet") == "DIR/no*.parquet: no file has such a name"
    write("a0.parquet")
    assert at("a{0..1}.parquet") == "DIR/a1.parquet: no such file"
    assert at("a{1..0}.parquet") == "DIR/a{1..0}.parquet: the range {1..0} runs backwards"
    assert at("{a,*}0.parquet") == "DIR/{a,*}0.parquet: names the file a0.parquet twice"
    write("a0.jsonl")
    assert at("a0.*") == "DIR/a0.*: names files of several kinds: .jsonl, .parquet"
    write("a.csv")
    kinds = "there are: .json, .jsonl, .parquet, .tar, and folders of images"
    assert at("a.csv") == f"DIR/a.csv: unknown kind of file '.csv'; {kinds}"
    write("b/test-0.parquet")
    write("b/val-0.parquet")
    reason = "has split test and val, not train; name the files: DIR/b/test*.parquet"
    assert at("b") == f"DIR/b: {reason}"
    write("c/a.csv")
    reason = "has no Parquet files, shards, images or train.jsonl in it; there are:"
    assert at("c") == f"DIR/c: {reason} a.csv"
    (tmp_path / "d").mkdir()
    assert at("d") == f"DIR/d: {reason} no files"
    write("e/a.png")
    reason = "a folder of images holds no image paths, so image_root is of no use"
    assert at("e", image_root="/x") == f"DIR/e: {reason}"
    pq.write_table(pa.table({"Grid_Sizes": [1]}), tmp_path / "f.parquet")
    reason = "has a column 'Grid_Sizes', which the codes take; rename it"
    assert at("f.parquet") == f"DIR/f.parquet: {reason}"


def test_protocols_that_cannot_be_opened_are_refused(write, refusal):
    assert refusal("nope://x") == "nope://x: cannot be opened (Protocol not known: nope)"
    path = write("a.jsonl")
    assert refusal(path, image_root="nope://x").startswith("nope://x: cannot be opened (")
    assert refusal("zip://x::/nowhere.zip").startswith("zip://x::/nowhere.zip: cannot be opened (")


def test_a_unit_needs_a_row(write, opened):
    with pytest.raises(ValueError, match="a unit of 0 rows holds nothing; it needs one at least"):
        opened(write("a.jsonl"), rows_a_unit=0)


def test_a_folder_that_goes_away_is_refused(tmp_path):
    for name in "abc":
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").touch()
    files = Storage.locate(str(tmp_path)).storage.walk(str(tmp_path))
    next(files)
    shutil.rmtree(tmp_path)
    with pytest.raises(InputError, match=r"[abc]: cannot be listed: No such file or directory"):
        list(files)


def test_a_worker_reads_what_was_planned(write, opened, tmp_path):
    write("pictures/a.png")
    sources = [
        opened(tmp_path / "pictures"),
        opened(write("a.parquet")),
        opened(write("a.tar")),
        opened(write("a.jsonl")),
    ]
    code = (
        "import pickle, sys\n"
        "for source in pickle.load(sys.stdin.buffer):\n"
        "    print(*[row.columns[0][0] for row in source.read(0)])"
    )
    command, planned = [sys.executable, "-c", code], pickle.dumps(sources)
    outcome = subprocess.run(command, input=planned, capture_output=True, check=True)
    assert outcome.stdout.decode().split() == ["a.png", "a.parquet", "a", "a.jsonl"]
    assert all(len(pickle.dumps(source)) < 2000 for source in sources)


def test_identities_are_json(write, opened, tmp_path):
    write("pictures/a.png")
    for name in ("pictures", "a.parquet", "a.tar", "a.jsonl"):
        source = opened(tmp_path / name if name == "pictures" else write(name))
        identity = source.identity()
        assert json.loads(json.dumps(identity)) == identity
        assert identity["kind"] == source.kind


def test_links_to_files_are_files(write, opened, tmp_path):
    """As in the hub's cache, where every file is one."""
    for suffix in ("parquet", "tar", "jsonl", "png"):
        target = write(f"blobs/x.{suffix}")
        for folder in ("parquet/data", "tar", "png"):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        if suffix != "jsonl":
            folder = tmp_path / (f"{suffix}/data" if suffix == "parquet" else suffix)
            (folder / f"train-1.{suffix}").symlink_to(target)
    assert names(opened(tmp_path / "parquet")) == ["x.parquet"]
    assert names(opened(tmp_path / "parquet/*/*.parquet")) == ["x.parquet"]
    assert names(opened(tmp_path / "tar")) == ["x"]
    assert names(opened(tmp_path / "png")) == ["train-1.png"]


def test_a_link_to_nothing_is_not_left_out(write, opened, refusal, tmp_path):
    for suffix in ("parquet", "tar"):
        link = tmp_path / suffix / f"train-0.{suffix}"
        write(f"{suffix}/train-1.{suffix}")
        link.symlink_to(tmp_path / "nowhere")
        for source in (link.parent, link.parent / f"*.{suffix}"):
            assert refusal(source) == f"{link}: cannot be opened: No such file or directory"
