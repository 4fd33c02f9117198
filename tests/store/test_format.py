"""The metadata's entry, and cells that become codes."""

import json
from dataclasses import replace

import numpy as np
import pytest

from viq.errors import CodesError
from viq.store import COLUMNS, CodesInfo, codes_of_row


def error_of(function, *arguments, **options):
    with pytest.raises(CodesError) as caught:
        function(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def cells_of(*images):
    """As another library might hold them."""
    return {
        "codes": np.concatenate([image.values.reshape(-1) for image in images]),
        "grid_sizes": [list(image.grid_size) for image in images],
        "original_sizes": [list(image.original_size) for image in images],
        "encoded_sizes": [list(image.encoded_size) for image in images],
    }


def test_the_entry_of_the_metadata_is_these_bytes(info):
    assert info.to_json() == (
        '{"code_heads":4,"fingerprint":"' + "0123456789abcdef" * 4 + '","format":"viq-codes",'
        '"levels":[8,8,8,5,5,5],"patch_size":16,"version":"1"}'
    )
    assert CodesInfo.from_json(info.to_json(), "a") == info
    assert hash(info) == hash(CodesInfo.from_json(info.to_json().encode(), "a"))


def test_info_is_that_of_codes(info, make_codes):
    assert CodesInfo.of(make_codes(1, 2)) == info
    assert info.codebook_size == 64_000


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": "2"}, "version is '2'; this package reads version '1'"),
        ({"version": 1}, "version is 1; this package reads version '1'"),
        ({"format": "viq"}, "metadata 'viq' is not an object whose format is 'viq-codes'"),
        ({"levels": None}, "metadata lack levels"),
        ({"extra": 1}, "metadata have unknown entries: ['extra']"),
        ({"fingerprint": "ab"}, "fingerprint is 'ab', not 64 digits of 0-9 and a-f"),
        ({"levels": [8, 1]}, "levels are (8, 1); there are 1 to 32, each 2 or more"),
        ({"levels": 8}, "levels is 8, not integers from 1 to 4294967296"),
        (
            {"levels": [256, 257]},
            "the codebook has 65,792 entries; code data sets hold 16-bit codes, of at most 65,536",
        ),
        ({"code_heads": 10**9}, "code_heads is 1000000000, not an integer of 1 to 64"),
        ({"code_heads": True}, "code_heads is True, not an integer of 1 to 64"),
        ({"patch_size": 65}, "patch_size is 65, not an integer from 1 to 64"),
    ],
)
def test_metadata_that_cannot_be_read_say_why(info, changes, message):
    document = json.loads(info.to_json()) | changes
    document = {key: value for key, value in document.items() if value is not None}
    assert (
        error_of(CodesInfo.from_json, json.dumps(document), "a.parquet") == f"a.parquet: {message}"
    )


@pytest.mark.parametrize("text", ["", "[", "[" * 100_000, b"\xff"])
def test_metadata_that_are_not_json(text):
    assert error_of(CodesInfo.from_json, text, "a").startswith("a: metadata 'viq' is not JSON (")


def test_a_later_minor_version_may_say_more(info):
    document = json.loads(info.to_json()) | {"version": "1.3", "extra": 1}
    assert CodesInfo.from_json(json.dumps(document), "a") == info


def test_rows_are_the_codes_they_were(info, make_codes):
    images = (make_codes(2, 3), make_codes(1, 1, 1))
    cells = cells_of(*images)
    assert codes_of_row(cells, info, "row") == images
    assert (
        codes_of_row({k: v.tolist() if k == "codes" else v for k, v in cells.items()}, info, "row")
        == images
    )
    wide = {**cells, "codes": cells["codes"].astype(np.int64)}
    assert codes_of_row(wide, info, "row") == images
    pandas = {key: np.array(value, np.int32) for key, value in cells.items() if key != "codes"}
    assert codes_of_row({**pandas, "codes": cells["codes"]}, info, "row") == images


def test_a_row_without_images_has_no_codes(info):
    empty = {column: [] for column in COLUMNS}
    assert codes_of_row(empty, info, "row") == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"codes": None}, "codes is missing"),
        ({"grid_sizes": None}, "grid_sizes is missing"),
        ({"codes": [1] * 23}, "it has 23 codes, but its grids [(2, 3)] with 4 code heads take 24"),
        ({"codes": [1.5] * 24}, "codes are float64 with 1 axes, not a list of integers"),
        ({"codes": [[1]] * 24}, "codes are int64 with 2 axes, not a list of integers"),
        ({"codes": [-1] * 24}, "codes go from -1 to -1; they are 16-bit numbers"),
        ({"codes": [0] * 23 + [65_536]}, "codes go from 0 to 65536; they are 16-bit numbers"),
        (
            {"codes": [0] * 5 + [64_000] + [0] * 18},
            "image 0: code 64000 of patch 1, head 1, is not below the codebook size, 64000",
        ),
        (
            {"grid_sizes": [[2, 3], [1, 1]]},
            "it has 2 grid_sizes, 1 original_sizes and 1 encoded_sizes; an image has one of each",
        ),
        ({"grid_sizes": [[2, 0]]}, "grid_sizes has [2, 0], not two positive integers"),
        ({"grid_sizes": [[2, 3, 1]]}, "grid_sizes has [2, 3, 1], not two positive integers"),
        ({"grid_sizes": [[2, None]]}, "grid_sizes has [2, None], not two positive integers"),
        ({"grid_sizes": [None]}, "grid_sizes has None, not two positive integers"),
        ({"original_sizes": [[2.5, 3]]}, "original_sizes has [2.5, 3], not two positive integers"),
        (
            {"encoded_sizes": [[40, 48]], "grid_sizes": [[3, 2]]},
            "image 0: encoded_size is (40, 48) but the grid (3, 2) covers (48, 32) pixels;"
            " 0 to 63 of a side are padding",
        ),
        (
            {"original_sizes": [[2_000_000, 3]]},
            "image 0: original_size is (2000000, 3); a side has at most 1,000,000 pixels and an"
            " image 200,000,000",
        ),
    ],
)
def test_rows_that_contradict_themselves_say_how(info, make_codes, changes, message):
    cells = cells_of(make_codes(2, 3)) | changes
    assert error_of(codes_of_row, cells, info, "a: row 7") == f"a: row 7: {message}"


def test_the_image_that_is_wrong_is_numbered(info, make_codes):
    good, bad = make_codes(1, 1), make_codes(1, 2, 1)
    cells = cells_of(good, bad)
    cells["codes"][-1] = 64_001
    assert error_of(codes_of_row, cells, info, "a") == (
        "a: image 1: code 64001 of patch 1, head 3, is not below the codebook size, 64000"
    )


def test_no_row_makes_reading_allocate_without_measure(info):
    huge = np.broadcast_to(np.uint16(0), 64_000_001)  # takes no memory
    cells = {column: [] for column in COLUMNS} | {"codes": huge}
    assert error_of(codes_of_row, cells, info, "a") == (
        "a: it has 64,000,001 codes, of at most 64,000,000 a row"
    )


def test_a_codebook_of_exactly_16_bits_is_stored(info, make_codes):
    codes = make_codes(1, 1, levels=(256, 256))
    whole = replace(codes, values=np.array([[0, 1, 65_534, 65_535]], np.uint16))
    assert codes_of_row(cells_of(whole), CodesInfo.of(whole), "a") == (whole,)


@pytest.mark.parametrize("name", ["codes", "grid_sizes", "original_sizes", "encoded_sizes"])
def test_a_cell_that_is_not_there_is_named(info, name):
    cells = {"codes": [], "grid_sizes": [], "original_sizes": [], "encoded_sizes": []}
    assert codes_of_row(cells, info, "row 1") == ()
    del cells[name]
    with pytest.raises(CodesError, match=f"row 1: {name} is missing"):
        codes_of_row(cells, info, "row 1")
