"""Codes in memory and in files: what is kept, what is refused, and the bytes themselves."""

import copy
import errno
import hashlib
import json
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import safetensors
import safetensors.numpy

from viq import codes as codes_module
from viq.codes import Codes
from viq.errors import CodesError

FINGERPRINT = "0123456789abcdef" * 4
LEVELS = (8, 8, 8, 5, 5, 5)  # a codebook of 64,000


def make(**changes) -> Codes:
    """Returns the codes of a 40 x 20 picture on a 3 x 2 grid, with some parts changed."""
    parts = {
        "values": np.arange(6 * 4, dtype=np.uint16).reshape(6, 4) * 2000,
        "grid_size": (3, 2),
        "original_size": (80, 40),
        "encoded_size": (40, 20),
        "levels": LEVELS,
        "fingerprint": FINGERPRINT,
    }
    return Codes(**(parts | changes))


def refusal(**changes) -> str:
    """Returns the message with which codes are refused."""
    with pytest.raises(CodesError) as caught:
        make(**changes)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 300
    return message


def written(tensors=None, **changes) -> bytes:
    """Returns a file whose tensors or metadata differ from those of ``make()``; None removes."""
    document = json.loads(read_metadata(make().to_bytes())["viq"]) | changes
    document = {name: value for name, value in document.items() if value is not None}
    return safetensors.numpy.save(
        {"codes": make().values} if tensors is None else tensors,
        metadata={"viq": json.dumps(document)},
    )


def read_metadata(data: bytes) -> dict[str, str]:
    return json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]


def damage(data: bytes) -> str:
    """Returns the message with which a file's content is refused."""
    with pytest.raises(CodesError) as caught:
        Codes.from_bytes(data, "a.viq")
    message = str(caught.value)
    assert message.startswith("a.viq: ")
    assert "\n" not in message
    assert len(message) < 400
    return message.removeprefix("a.viq: ")


# In memory.


def test_codes_know_their_rate():
    codes = make()
    assert codes.code_heads == 4
    assert codes.codebook_size == 64_000
    assert codes.nbytes == 48
    assert codes.bits_per_pixel == 24 * 16 / 3200
    assert codes.information_bpp == pytest.approx(24 * np.log2(64_000) / 3200)


def test_codes_have_a_short_name():
    assert repr(make()) == (
        "Codes(3 x 2 patches, 4 code heads, 80 x 40 px, 0.12 bpp, tokenizer 0123456789ab)"
    )


def test_codes_are_equal_by_value():
    codes = make()
    assert codes == make()
    assert hash(codes) == hash(make())
    assert codes != make(values=codes.values[::-1])
    assert codes != make(original_size=(81, 40))
    assert codes != make(fingerprint="f" * 64)
    assert codes != "codes"


def test_values_are_a_copy_that_cannot_be_written():
    values = np.zeros((6, 4), np.uint16)
    codes = make(values=values)
    values[0, 0] = 7
    assert codes.values[0, 0] == 0
    for one in (codes, copy.deepcopy(codes), pickle.loads(pickle.dumps(codes))):
        assert one == codes
        with pytest.raises(ValueError, match="read-only"):
            one.values[0, 0] = 1
    with pytest.raises(AttributeError):
        codes.grid_size = (1, 6)


def test_integers_of_any_kind_become_plain_ones():
    codes = make(grid_size=list(np.array([3, 2])), levels=[np.int64(8), 8, 8, 5, 5, 5])
    assert codes == make()
    assert all(type(value) is int for value in (*codes.grid_size, *codes.levels))


def test_a_codebook_above_16_bits_is_held_but_not_saved(tmp_path):
    levels = (8, 8, 8, 5, 5, 5, 4)
    codes = make(values=np.full((6, 4), 255_999, np.uint32), levels=levels)
    assert codes.values.dtype == np.uint32
    assert codes.nbytes == 96
    small = make(levels=levels)
    assert small.values.dtype == np.uint32
    with pytest.raises(CodesError) as caught:
        codes.save(tmp_path / "a.viq")
    assert str(caught.value) == (
        f"{tmp_path / 'a.viq'}: codes of a codebook of 256,000 cannot be saved: .viq files hold"
        " 16-bit codes, of at most 65,536"
    )
    assert list(tmp_path.iterdir()) == []


def test_every_code_of_16_bits_can_be_held():
    values = np.arange(2**16, dtype=np.uint16).reshape(-1, 4)
    codes = make(
        values=values,
        grid_size=(128, 128),
        encoded_size=(2048, 2048),
        original_size=(2048, 2048),
        levels=(16, 16, 16, 16),
    )
    assert np.array_equal(Codes.from_bytes(codes.to_bytes()).values, values)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"values": [[0]]}, "values are a list, not an array of uint16"),
        (
            {"values": np.zeros((6, 4), np.int64)},
            "values are int64; codes of a codebook of 64,000 are uint16",
        ),
        (
            {"values": np.zeros((6, 4), np.uint32)},
            "values are uint32; codes of a codebook of 64,000 are uint16",
        ),
        (
            {"values": np.zeros((5, 4), np.uint16)},
            "values have shape (5, 4), but grid_size (3, 2) has 6 patches: (6, code_heads)",
        ),
        ({"values": np.zeros(24, np.uint16)}, "values have shape (24,), but grid_size (3, 2)"),
        ({"values": np.zeros((6, 0), np.uint16)}, "there are 0 code heads, of 1 to 64"),
        ({"values": np.zeros((6, 65), np.uint16)}, "there are 65 code heads, of 1 to 64"),
        (
            {"values": np.full((6, 4), 64_000, np.uint16)},
            "code 64000 of patch 0, head 0, is not below the codebook size, 64000",
        ),
        ({"levels": (10,)}, "code 2000 of patch 0, head 1, is not below the codebook size, 10"),
        ({"levels": ()}, "levels are (); there are 1 to 32, each 2 or more"),
        ({"levels": (8, 1)}, "levels are (8, 1); there are 1 to 32, each 2 or more"),
        ({"levels": (2,) * 33}, "levels are (2, 2, "),
        (
            {"levels": (65_536, 65_537)},
            "the codebook has 4295032832 entries, of at most 4294967296",
        ),
        ({"levels": 8}, "levels is 8, not integers from 1 to 4294967296"),
        ({"grid_size": (6,)}, "grid_size is (6,), not 2 integers from 1 to"),
        ({"grid_size": (3.0, 2)}, "grid_size is (3.0, 2), not 2 integers"),
        ({"grid_size": (3, True)}, "grid_size is (3, True), not 2 integers"),
        ({"grid_size": (0, 2)}, "grid_size is (0, 2), not 2 integers"),
        ({"grid_size": (10**4000, 10**4000)}, "grid_size is (1000"),
        ({"grid_size": None}, "grid_size is None, not 2 integers"),
        (
            {"grid_size": (1001, 1000)},
            "grid_size (1001, 1000) has 1,001,000 patches, of at most 1,000,000",
        ),
        ({"patch_size": "16"}, "patch_size is '16', not an integer from 1 to 64"),
        ({"patch_size": 65}, "patch_size is 65, not an integer from 1 to 64"),
        (
            {"original_size": (1_000_001, 1)},
            "original_size is (1000001, 1); a side has at most 1,000,000 pixels and an image"
            " 200,000,000",
        ),
        ({"original_size": (20_000, 10_001)}, "original_size is (20000, 10001); a side has"),
        ({"original_size": (-1, 5)}, "original_size is (-1, 5), not 2 integers"),
        (
            {"encoded_size": (49, 20)},
            "encoded_size is (49, 20) but the grid (3, 2) covers (48, 32) pixels;"
            " 0 to 63 of a side are padding",
        ),
        (
            {"grid_size": (1, 6), "encoded_size": (16, 32)},
            "encoded_size is (16, 32) but the grid (1, 6) covers (16, 96) pixels",
        ),
        ({"fingerprint": "abc"}, "fingerprint is 'abc', not 64 digits of 0-9 and a-f"),
        ({"fingerprint": FINGERPRINT.upper()}, "fingerprint is '0123456789ABCDEF"),
        ({"fingerprint": FINGERPRINT + "\n"}, "fingerprint is '0123456789abcdef"),
        ({"fingerprint": None}, "fingerprint is None, not 64 digits"),
    ],
)
def test_parts_that_do_not_fit_are_refused_by_name(changes, message):
    assert refusal(**changes).startswith(message)


def test_padding_reaches_from_none_to_63_pixels():
    for height in (48, 1):
        assert make(encoded_size=(height, 32)).encoded_size == (height, 32)
    tall = {"values": np.zeros((6, 4), np.uint16), "grid_size": (6, 1)}
    assert make(**tall, encoded_size=(33, 16))
    assert refusal(**tall, encoded_size=(32, 16)).startswith("encoded_size is (32, 16)")


# In files.


def test_a_file_gives_back_equal_codes(tmp_path):
    codes = make(patch_size=20, encoded_size=(60, 40))
    codes.save(tmp_path / "a.viq")
    loaded = Codes.load(str(tmp_path / "a.viq"))
    assert loaded == codes
    assert loaded.values.dtype == np.uint16
    assert [path.name for path in tmp_path.iterdir()] == ["a.viq"]


def test_the_bytes_of_a_file_never_change():
    codes = Codes(
        np.array([[0, 1, 2, 16383]], np.uint16),
        grid_size=(1, 1),
        original_size=(9, 7),
        encoded_size=(9, 7),
        levels=(8, 8, 8, 8, 4),
        fingerprint=FINGERPRINT,
    )
    document = (
        '{"encoded_size":[9,7],"fingerprint":"' + FINGERPRINT + '","format":"viq",'
        '"grid_size":[1,1],"levels":[8,8,8,8,4],"original_size":[9,7],"patch_size":16,'
        '"version":"1"}'
    )
    header = (
        '{"__metadata__":{"viq":' + json.dumps(document) + "},"
        '"codes":{"dtype":"U16","shape":[1,4],"data_offsets":[0,8]}}'
    )
    header += " " * (-len(header) % 8)
    expected = len(header).to_bytes(8, "little") + header.encode() + b"\0\0\1\0\2\0\xff\x3f"
    assert codes.to_bytes() == expected
    assert hashlib.sha256(expected).hexdigest() == (
        "6f3758edbe717368537acfa45fa3aff7002b5983baf37d372e469967fcdd0ffd"
    )


def test_every_process_writes_the_same_bytes():
    code = (
        "import hashlib, sys, pickle; codes = pickle.loads(bytes.fromhex(sys.argv[1]));"
        "print(hashlib.sha256(codes.to_bytes()).hexdigest())"
    )
    expected = hashlib.sha256(make().to_bytes()).hexdigest()
    for _ in range(3):
        command = [sys.executable, "-c", code, pickle.dumps(make()).hex()]
        result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        assert result.stdout.strip() == expected


def test_safetensors_alone_reads_a_file(tmp_path):
    make().save(tmp_path / "a.viq")
    with safetensors.safe_open(tmp_path / "a.viq", "np") as file:
        assert list(file.keys()) == ["codes"]
        assert np.array_equal(file.get_tensor("codes"), make().values)
        metadata = file.metadata()
    assert list(metadata) == ["viq"]
    assert json.loads(metadata["viq"]) == {
        "encoded_size": [40, 20],
        "fingerprint": FINGERPRINT,
        "format": "viq",
        "grid_size": [3, 2],
        "levels": list(LEVELS),
        "original_size": [80, 40],
        "patch_size": 16,
        "version": "1",
    }


def test_a_later_minor_version_may_say_more():
    assert Codes.from_bytes(written(version="1.3", colour_space="sRGB")) == make()


def test_a_truncated_file_is_refused():
    data = make().to_bytes()
    for size in range(len(data)):
        assert damage(data[:size]).startswith("not a .viq file, or damaged: ")
    assert damage(data + b"\0").startswith("not a .viq file, or damaged: ")


def test_a_flipped_bit_is_either_refused_or_still_valid():
    data = make().to_bytes()
    outcomes = {True: 0, False: 0}
    for position in range(len(data)):
        flipped = bytearray(data)
        flipped[position] ^= 1 << position % 8
        try:
            outcomes[isinstance(Codes.from_bytes(bytes(flipped)), Codes)] += 1
        except CodesError:
            outcomes[False] += 1
    assert min(outcomes.values()) > 20


@pytest.mark.parametrize("size", [0, 2**31, 2**63, 2**64 - 1])
def test_an_absurd_header_size_is_refused(size):
    data = make().to_bytes()
    message = damage(size.to_bytes(8, "little") + data[8:])
    assert message.startswith("not a .viq file, or damaged: ")


def test_a_grid_without_data_behind_it_is_refused():
    header = b'{"codes":{"dtype":"U16","shape":[1000000,4],"data_offsets":[0,8000000]}}'
    data = len(header).to_bytes(8, "little") + header
    assert damage(data).startswith("not a .viq file, or damaged: ")
    claimed = written(grid_size=[1000, 1000], encoded_size=[16_000, 16_000 - 3500])
    assert damage(claimed).startswith("encoded_size is")
    claimed = written(grid_size=[1000, 500], encoded_size=[16_000, 8000])
    assert damage(claimed) == (
        "values have shape (6, 4), but grid_size (1000, 500) has 500000 patches:"
        " (500000, code_heads)"
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a .viq file, or damaged: "),
        (b"hello, I am a text and not a file of codes", "not a .viq file, or damaged: "),
        (
            safetensors.numpy.save({"codes": np.zeros((6, 4), np.uint16)}),
            "not a .viq file: its metadata have no entry 'viq'",
        ),
        (
            safetensors.numpy.save({}, metadata={"viq": "{"}),
            "metadata 'viq' is not JSON: Expecting property name",
        ),
        (safetensors.numpy.save({}, metadata={"viq": "[" * 9999}), "metadata 'viq' is not JSON: "),
        (
            safetensors.numpy.save({}, metadata={"viq": "[1]"}),
            "metadata 'viq' is not an object whose format is 'viq'",
        ),
        (written(format="vq"), "metadata 'viq' is not an object whose format is 'viq'"),
        (written(version="2"), "version is '2'; this package reads version '1'"),
        (written(version=1), "version is 1; this package reads version '1'"),
        (written(version="10.1"), "version is '10.1'; this package reads version '1'"),
        (written(version="\n" * 99), r"version is '\n\n"),
        (written(levels=None, patch_size=None), "metadata lack levels, patch_size"),
        (written(colour_space="sRGB"), "metadata have unknown entries: ['colour_space']"),
        (written({"a": np.zeros((6, 4), np.uint16)}), "holds the tensors ['a'], not just 'codes'"),
        (
            written({"codes": make().values, "more": make().values}),
            "holds the tensors ['codes', 'more'], not just 'codes'",
        ),
        (written({}), "holds the tensors [], not just 'codes'"),
        (written({"codes": np.zeros((6, 4), np.int16)}), "codes are I16, not U16"),
        (
            written({"codes": np.zeros((2, 3, 4), np.uint16)}),
            "values have shape (2, 3, 4), but grid_size (3, 2) has 6 patches: (6, code_heads)",
        ),
        (written({"codes": np.zeros((), np.uint16)}), "values have shape (), but grid_size (3, 2)"),
        (
            written(levels=[8, 8]),
            "code 2000 of patch 0, head 1, is not below the codebook size, 64",
        ),
        (written(levels=[8.0, 8]), "levels is [8.0, 8], not integers from 1 to 4294967296"),
        (written(levels=[10**300] * 30), "levels is [1000000000"),
        (written(patch_size=True), "patch_size is True, not an integer from 1 to 64"),
        (written(grid_size="32"), "grid_size is '32', not 2 integers from 1 to"),
        (written(original_size=[10**6, 10**6]), "original_size is (1000000, 1000000); a side has"),
        (written(fingerprint="../../etc"), "fingerprint is '../../etc', not 64 digits"),
    ],
)
def test_a_file_that_is_no_codes_is_refused_by_name(data, message):
    assert damage(data).startswith(message)


def test_bytes_without_a_name_are_refused_without_one():
    with pytest.raises(CodesError) as caught:
        Codes.from_bytes(b"")
    assert caught.value.source is None
    assert str(caught.value).startswith("not a .viq file")


def refused_path(path) -> str:
    with pytest.raises(CodesError) as caught:
        Codes.load(path)
    return str(caught.value)


def test_a_missing_file_is_refused(tmp_path):
    assert refused_path(tmp_path / "a.viq") == f"{tmp_path / 'a.viq'}: no such file"


def test_a_directory_is_refused(tmp_path):
    assert refused_path(tmp_path) == f"{tmp_path}: is a directory, not a .viq file"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_a_pipe_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert refused_path(tmp_path / "pipe").endswith("pipe: is not a regular file")


def test_a_path_that_cannot_be_read_is_refused():
    assert ": cannot be read: " in refused_path("a" * 300)
    assert ": cannot be read: embedded null" in refused_path("a\0b")


def test_a_huge_file_is_refused_unread(tmp_path):
    with (tmp_path / "a.viq").open("wb") as file:
        file.truncate(10**9)  # a hole, which takes no room on disk
    message = refused_path(tmp_path / "a.viq")
    assert message.endswith("a.viq: has 1,000,000,000 bytes; a .viq file has at most 129,048,576")


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "a.viq"
    make().save(path)
    newer = make(original_size=(81, 40))

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(codes_module.os, "replace", full)
    with pytest.raises(CodesError) as caught:
        newer.save(path)
    assert str(caught.value) == f"{path}: cannot be written: No space left on device"
    assert [file.name for file in tmp_path.iterdir()] == ["a.viq"]
    assert Codes.load(path) == make()
    monkeypatch.undo()
    newer.save(path)
    assert Codes.load(path) == newer


@pytest.mark.parametrize("path", ["none/a.viq", ".", "a\0b"])
def test_a_path_that_cannot_be_written_is_refused(tmp_path, path):
    with pytest.raises(CodesError, match="cannot be written: "):
        make().save(str(tmp_path / path))
    assert list(tmp_path.iterdir()) == []


def test_reading_codes_needs_neither_torch_nor_pillow():
    code = "import sys, viq.codes; print({'torch', 'PIL'} & set(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert result.stdout.strip() == "set()"
