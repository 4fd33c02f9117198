"""viq inspect: what .viq files hold."""

import json
import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from viq import Codes
from viq.cli.inspect import bundled_fingerprints
from viq.metrics.rate import entropy


def test_json_says_what_the_codes_are(viq_command, save_codes, tmp_path):
    path = save_codes(tmp_path / "photo.viq", width=50, height=30)
    codes = Codes.load(path)
    status, out, err = viq_command("inspect", path, "--json")
    assert (status, err) == (0, [])
    (found,) = json.loads("\n".join(out))
    distinct = [len(np.unique(head)) for head in codes.values.T]
    assert found == {
        "path": str(path),
        "original_size": [30, 50],
        "encoded_size": [30, 50],
        "grid_size": [2, 4],
        "patch_size": 16,
        "code_heads": 4,
        "levels": [8, 8, 8, 5, 5, 5],
        "codebook_size": 64_000,
        "codes": 32,
        "bytes": 64,
        "bits_per_pixel": pytest.approx(8 * 64 / 1500),
        "information_bpp": pytest.approx(32 * math.log2(64_000) / 1500),
        "distinct_codes": distinct,
        "entropy_bits": pytest.approx(list(entropy(codes.values, 64_000))),
        "fingerprint": codes.fingerprint,
        "model": None,
    }


def test_text_says_the_same(viq_command, save_codes, tmp_path):
    path = save_codes(tmp_path / "photo.viq", width=50, height=30)
    codes = Codes.load(path)
    status, out, err = viq_command("inspect", path)
    assert (status, err) == (0, [])
    assert out[:9] == [
        str(path),
        "  picture      50 x 30 pixels",
        "  encoded      50 x 30 pixels",
        "  grid         4 x 2 patches of 16 x 16 pixels",
        "  codes        32, 4 a patch",
        "  levels       8, 8, 8, 5, 5, 5: a codebook of 64,000",
        "  stored       64 bytes, 0.3413 bpp",
        f"  information  {codes.information_bpp:.4g} bpp",
        f"  tokenizer    {codes.fingerprint} (not bundled)",
    ]
    distinct = len(np.unique(codes.values[:, 3]))
    bits = entropy(codes.values, 64_000)[3]
    assert out[12] == f"  code head 3  {distinct} distinct codes, entropy {bits:.2f} bits"
    assert len(out) == 13


@pytest.mark.parametrize("count", [1, 2])
def test_json_is_an_array_however_many_files_there_are(count, viq_command, save_codes, tmp_path):
    for number in range(count):
        save_codes(tmp_path / f"codes/{number}.viq")
    found = json.loads("\n".join(viq_command("inspect", tmp_path / "codes", "--json").out))
    assert [one["path"] for one in found] == [
        str(tmp_path / f"codes/{number}.viq") for number in range(count)
    ]


def test_the_bundled_model_of_the_codes_is_named(viq_command, save_codes, tmp_path, monkeypatch):
    path = save_codes(tmp_path / "photo.viq")
    fingerprint = Codes.load(path).fingerprint
    monkeypatch.setattr("viq.cli.inspect.bundled_fingerprints", lambda: {fingerprint: "small"})
    assert f"  tokenizer    {fingerprint} (small)" in viq_command("inspect", path).out


def test_the_bundled_models_are_those_that_can_be_loaded():
    from viq import load
    from viq.checkpoint import bundled

    found = bundled_fingerprints()
    assert sorted(found.values()) == bundled()
    assert {load(name).fingerprint: name for name in bundled()} == found


def test_a_damaged_file_is_named_and_the_rest_go_on(viq_command, save_codes, tmp_path):
    good, bad = save_codes(tmp_path / "good.viq"), tmp_path / "bad.viq"
    bad.write_bytes(b"no codes")
    status, out, err = viq_command("inspect", bad, good, "--json")
    assert (status, len(err)) == (1, 1)
    assert err[0].startswith(f"viq: error: {bad}: not a .viq file, or damaged: ")
    assert [one["path"] for one in json.loads("\n".join(out))] == [str(good)]


def test_a_codebook_too_large_for_the_file_is_refused_and_not_counted(
    viq_command, save_codes, tmp_path
):
    path = save_codes(tmp_path / "photo.viq")
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + length].replace(b"[8,8,8,5,5,5]", b"[1000,1000]")
    path.write_bytes(len(header).to_bytes(8, "little") + header + data[8 + length :])
    status, out, err = viq_command("inspect", path)
    assert (status, out, len(err)) == (2, [], 1)
    assert err[0].startswith(f"viq: error: {path}: the codebook has 1,000,000 entries")


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_all_files_failing_is_exit_code_2(options, viq_command, tmp_path):
    (tmp_path / "bad.viq").touch()
    status, out, err = viq_command("inspect", tmp_path / "bad.viq", *options)
    assert (status, out, len(err)) == (2, ["[]"] if options else [], 1)


def test_no_file_is_exit_code_2_and_named(viq_command, tmp_path):
    status, out, err = viq_command("inspect", tmp_path)
    assert (status, out) == (2, [])
    assert err == [f"viq: error: {tmp_path}: no file here ends in .viq"]


def test_a_picture_that_was_scaled_down_says_both_sizes(viq_command, save_codes, tmp_path):
    path = save_codes(tmp_path / "photo.viq", width=64, height=32)
    replace(Codes.load(path), original_size=(64, 128)).save(path)
    out = viq_command("inspect", path).out
    assert out[1:3] == ["  picture      128 x 64 pixels", "  encoded      64 x 32 pixels"]


def test_it_does_without_torch(save_codes, tmp_path):
    path = save_codes(tmp_path / "photo.viq")
    code = (
        "import sys\n"
        "from viq.cli.main import main\n"
        f"assert main(['inspect', {str(path)!r}]) == 0\n"
        "print(sorted({'PIL', 'diffusers', 'torch'} & set(sys.modules)))"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert process.stdout.splitlines()[-1] == "[]"
