import json
import shutil

import pyarrow as pa
import pytest

from viq import Tokenizer
from viq.evaluation.codes.usage import Usage, usage_tables
from viq.evaluation.document import Document
from viq.image import ImageConfig
from viq.model.head import QuantizerConfig
from viq.model.network import Network
from viq.model.presets import released
from viq.store import CodesInfo, CodeWriter

TITLES = [
    *("Codebook", "Digits", "What digits say of each other"),
    *("Stability", "Equality", "Neighbouring codes"),
]


@pytest.fixture
def photos(save_image, tmp_path):
    folder = tmp_path / "photos"
    for number, (width, height) in enumerate([(64, 64), (40, 56), (90, 70)]):
        save_image(folder / f"{number}.png", width, height)
    return folder


@pytest.fixture
def code_data(tiny_tokenizer, photos, tmp_path):
    """A code data set of the photos, and the codes."""
    codes = [tiny_tokenizer.encode(path) for path in sorted(photos.iterdir())]
    info = CodesInfo(
        fingerprint=tiny_tokenizer.fingerprint, levels=codes[0].levels, code_heads=4, patch_size=16
    )
    path = tmp_path / "codes" / "data" / "train-00000-of-00001.parquet"
    path.parent.mkdir(parents=True)
    with CodeWriter(path, info, pa.schema([("id", pa.string())])) as writer:
        writer.write(pa.table({"id": ["a", "b"]}), [codes[:2], codes[2:]])
    return tmp_path / "codes"


def stability_of(out):
    (file,) = (out / "samples").glob("stability=*.jsonl")
    return file.read_text().splitlines()


def test_a_stopped_evaluation_goes_on_and_gives_the_same_numbers(
    viq_command, tiny_tokenizer_folder, photos, tmp_path
):
    (photos / "bad.png").write_bytes(b"no picture")
    out, model = tmp_path / "out", f"tiny={tiny_tokenizer_folder}"
    command = ["eval", "codes", "--data", photos, "--model", model, "--stability", 3]
    found = viq_command(*command, "--out", out)
    assert found.status == 1
    (error,) = found.err
    assert f"{photos}/bad.png: not an image" in error
    whole = Document.load(out)
    assert [table.title for table in whole.tables] == TITLES
    assert all(row[0] == "tiny" for table in whole.tables for row in table.rows)
    assert whole.notes[0] == (
        f"photos, 3 of 4 pictures; stability is measured on {len(stability_of(out))} of them."
        " Left out, for they could not be read: 1 of 4 (bad.png)."
    )
    stability, equality = whole.tables[3:5]
    assert {row[2] for row in stability.rows} == {2, 3}  # one is too small to be shifted
    assert [row[3] for row in equality.rows[:9]] == [0] * 9
    names = [f"neighbours-0-head-{head}.png" for head in (1, 2, 3, 4)]
    assert {*names, "map-0.png", "usage.png"} < {figure.file for figure in whole.figures}

    broken = tmp_path / "broken"
    shutil.copytree(out, broken)
    (broken / "neighbours-0-head-2.png").unlink()
    for file in sorted((broken / "samples").glob("*.jsonl")):
        lines = file.read_text().splitlines(keepends=True)
        file.write_text("".join(lines[:-1]) + lines[-1][:20])  # as a kill may leave it
    assert viq_command(*command, "--out", broken).status == 1
    again = Document.load(broken)
    assert again.tables == whole.tables
    for figure in whole.figures:
        assert (broken / figure.file).read_bytes() == (out / figure.file).read_bytes()

    found = viq_command(*command, "--max-pixels", 2048, "--out", out)
    assert found.status == 2
    assert "was begun with max_pixels null" in found.err[-1]


def test_usage_of_a_code_data_set_is_that_of_its_pictures(
    viq_command, tiny_tokenizer, tiny_tokenizer_folder, photos, code_data, tmp_path
):
    plain = viq_command("eval", "codes", "--data", code_data, "--out", tmp_path / "a", "--json")
    assert (plain.status, plain.err) == (0, [])
    of_codes = Document.load(tmp_path / "a")
    assert json.loads("\n".join(plain.out))["notes"] == list(of_codes.notes)
    name = f"codes of {tiny_tokenizer.fingerprint[:12]}"
    assert [table.title for table in of_codes.tables] == TITLES[:3]
    assert {row[0] for table in of_codes.tables for row in table.rows} == {name}
    assert "stability and equality were not measured" in of_codes.notes[0]
    assert "No model was given" in of_codes.notes[1]

    model = f"tiny={tiny_tokenizer_folder}"
    beside = ["--data", code_data, "--model", model, "--out", tmp_path / "b"]
    assert viq_command("eval", "codes", *beside).status == 0
    with_model = Document.load(tmp_path / "b")
    assert [table.title for table in with_model.tables] == [*TITLES[:3], TITLES[5]]
    codes = [tiny_tokenizer.encode(path) for path in sorted(photos.iterdir())]
    usage = Usage(codes[0].levels, 4)
    for one in codes:
        usage.add(one.values.astype("int64"), one.grid_size)
    assert with_model.tables[:3] == usage_tables({"tiny": usage})
    assert of_codes.tables[:3] == usage_tables({name: usage})

    few = viq_command("eval", "codes", "--data", code_data, "--count", 2, "--out", tmp_path / "d")
    many = ("--count", 10**23, "--out", tmp_path / "e")
    assert viq_command("eval", "codes", "--data", code_data, *many).status == 0
    assert few.status == 0
    assert "Of 2 pictures, 32 patches." in Document.load(tmp_path / "d").tables[0].note


def test_what_cannot_be_is_said(viq_command, tiny_tokenizer_folder, photos, code_data, tmp_path):
    def fails(*flags):
        found = viq_command("eval", "codes", *flags, "--out", tmp_path / "out")
        assert found.status == 2
        return found.err[-1]

    assert "pictures need a tokenizer: add --model" in fails("--data", photos)
    assert "these codes were made by tokenizer" in fails("--data", code_data, "--model", "nano")
    whole = fails("--data", code_data, "--split", "train")
    assert "a code data set is read whole; leave --split out" in whole
    (photos / "in").mkdir()
    model = ("--data", photos, "--model", "nano")
    inside = viq_command("eval", "codes", *model, "--out", photos / "in").err[-1]
    assert f"--out {photos / 'in'}: is in {photos}, which is read" in inside
    (photos / "in").rmdir()
    assert "no such file" in fails("--data", tmp_path / "none", "--model", "nano")
    assert "--device nowhere" in fails("--data", photos, "--model", "nano", "--device", "nowhere")
    quantizer = QuantizerConfig(levels=None, bottleneck=16, limit="l_inf")
    network = Network(released(64, 1, 64, quantizer, attention_heads=4, rope_width=32)).eval()
    Tokenizer.from_network(network, ImageConfig()).save_pretrained(tmp_path / "proximal")
    message = fails("--data", photos, "--model", tmp_path / "proximal")
    assert "this tokenizer is proximal: it has latents but no codes" in message
    for path in photos.iterdir():
        path.write_bytes(b"no picture")
    message = fails("--data", photos, "--model", tiny_tokenizer_folder)
    assert "no picture could be encoded" in message


@pytest.mark.slow  # another process
def test_without_a_decoder_and_without_digits_the_rest_is_measured(viq_command, photos, tmp_path):
    quantizer = QuantizerConfig(levels=None, bottleneck=16, limit="l_inf", codebook_size=300)
    network = Network(released(64, 1, 64, quantizer, attention_heads=4, rope_width=32)).eval()
    Tokenizer.from_network(network, ImageConfig()).save_pretrained(tmp_path / "simvq")
    flags = ["--model", f"s={tmp_path / 'simvq'}", "--stability", 1, "--out", tmp_path / "out"]
    assert viq_command("eval", "codes", "--data", photos, *flags).status == 0
    document = Document.load(tmp_path / "out")
    assert [table.title for table in document.tables] == ["Codebook", "Stability", "Equality"]
    assert any(note.startswith("s does not decode") for note in document.notes)
