"""viq doctor: what it finds here, and what it says where something is missing or broken."""

import json
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
import torch

import viq
from viq.checkpoint import bundled
from viq.cli import doctor


@pytest.fixture(scope="module")
def facts():
    return json.loads(json.dumps(doctor.examine()))


def lines_of(facts):
    return doctor.as_text(facts).splitlines()


def test_it_finds_the_versions_that_are_there(facts):
    assert facts["viq"]["version"] == viq.__version__
    assert facts["viq"]["executable"] == sys.executable
    assert facts["torch"]["version"] == torch.__version__
    assert facts["torch"]["threads"] == torch.get_num_threads()
    found = {one["name"]: one["version"] for one in facts["core"]["packages"]}
    assert {"torch", "diffusers", "pillow"} <= found.keys()
    assert all(found[name] == version(name) for name in found)


def test_it_says_which_attention_is_taken(facts):
    attention = facts["devices"]["cpu"]["attention"]
    assert attention == {"float32": "sdpa", "bfloat16": "sdpa"}


def test_every_bundled_model_encodes_and_decodes(facts):
    assert list(facts["models"]) == bundled()
    nano = facts["models"]["nano"]
    assert nano["fingerprint"] == viq.load("nano").fingerprint
    assert (nano["codes_a_patch"], nano["codebook_size"]) == (4, 64_000)
    assert "error" not in nano
    assert facts["problems"] == []


def test_each_extra_has_what_it_brings(facts):
    brought = {
        name: {package["name"] for package in extra["packages"]}
        for name, extra in facts["extras"].items()
    }
    assert {"transformers", "peft"} <= brought["ask"]
    assert {"datasets", "transformers"} <= brought["train"]  # those of another extra, too
    assert "torch" not in brought["ask"]
    assert brought.keys() >= {"app", "ask", "dev", "eval", "ray", "train"}
    assert next(iter(facts["extras"])) == "ask"
    assert set(facts["extras"]) <= set(doctor.EXTRAS)


def test_the_text_and_the_json_are_of_the_same_facts(viq_command, facts, monkeypatch):
    monkeypatch.setattr(doctor, "examine", lambda: facts)
    status, out, err = viq_command("doctor")
    assert (status, err, out) == (0, [], lines_of(facts))
    assert out[0] == f"viq {viq.__version__} in {Path(viq.__file__).parent}"
    assert any(line.startswith("device cpu: attention: sdpa in float32") for line in out)
    assert any(line.startswith("bundled model nano: encodes and decodes") for line in out)
    status, out, err = viq_command("doctor", "--json")
    assert (status, err) == (0, [])
    assert json.loads("\n".join(out)) == facts


def test_what_is_missing_has_the_command_that_installs_it(monkeypatch):
    def without(name):
        if name == "peft":
            raise PackageNotFoundError(name)
        return "0.1" if name == "transformers" else version(name)

    monkeypatch.setattr(doctor, "version", without)
    groups = doctor._requirements()
    ask = groups["ask"]
    assert (ask["missing"], ask["unfit"]) == (["peft"], ["transformers"])
    words = shlex.split(ask["command"])
    assert words[:4] == [sys.executable, "-m", "pip", "install"]
    assert words[-1].endswith("viq[ask]") or words[-1] == f"{Path(viq.__file__).parents[2]}[ask]"
    assert groups[""]["command"] is None
    facts = {
        "core": groups[""],
        "extras": {"ask": ask},
        "others": [doctor._other("some-weights==1", "no_such_module", "a thing")],
    }
    text = "\n".join(doctor._installed(facts))
    assert "ask (viq ask, and language models in Python): incomplete" in text
    assert "  lacks peft\n" in text
    assert "  has another version than it needs transformers 0.1 (>=5)" in text
    assert f"  to install: {ask['command']}" in text
    command = f"{shlex.quote(sys.executable)} -m pip install --no-deps some-weights==1"
    assert f"some-weights (a thing): missing\n  to install: {command}" in text


def test_the_command_installs_the_package_from_where_it_is(tmp_path):
    class Installed:
        def __init__(self, text):
            self.text = text

        def read_text(self, name):
            return self.text

    def source(text, extra="ask"):
        return list(doctor._source(Installed(text), extra))

    folder = tmp_path / "a clone"
    folder.mkdir()
    url = folder.as_uri()
    assert source(None) == ["'viq[ask]'"]
    assert source("not JSON") == ["'viq[ask]'"]
    assert source(None, "") == ["viq"]
    assert source(json.dumps({"url": url})) == ["'viq[ask]'"]  # it is not there any more
    (folder / "pyproject.toml").touch()
    assert source(json.dumps({"url": url})) == [f"'{folder}[ask]'"]
    (folder / "constraints.txt").touch()
    editable = json.dumps({"url": url, "dir_info": {"editable": True}})
    assert source(editable) == [f"-c '{folder}/constraints.txt'", "-e", f"'{folder}[ask]'"]


def test_a_model_that_does_not_load_is_exit_code_1(viq_command, monkeypatch, tmp_path):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{}")
    monkeypatch.setattr("viq.checkpoint.WEIGHTS", tmp_path)
    status, out, err = viq_command("doctor")
    assert status == 1
    (line,) = err
    assert line.startswith("viq: error: the bundled model broken does not work: ModelError: ")
    assert any(line.startswith("bundled model broken: ModelError: ") for line in out)


def test_a_package_that_is_missing_is_exit_code_1(viq_command, monkeypatch):
    def without(name):
        if name == "diffusers":
            raise PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(doctor, "version", without)
    monkeypatch.setattr(doctor, "_models", dict)
    status, out, err = viq_command("doctor")
    assert status == 1
    assert len(err) == 1
    assert err[0].startswith("viq: error: diffusers is missing; ")
    assert "bundled models: none" in out


def test_it_runs_without_torch_and_without_the_packages_metadata():
    # A torch that raises as it is imported, as one does whose libraries are missing.
    code = """
import sys
from importlib import metadata

class Broken:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            raise ImportError("libcudart.so.13: cannot open shared object file")

sys.meta_path.insert(0, Broken())
metadata.Distribution.from_name = classmethod(
    lambda cls, name: (_ for _ in ()).throw(metadata.PackageNotFoundError(name))
)
from viq.cli.main import main
sys.exit(main(["doctor"]))
"""
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=False, text=True, timeout=100
    )
    assert process.returncode == 1, process.stderr
    assert "viq: error: torch cannot be used: ImportError: libcudart.so.13" in process.stderr
    assert "Traceback" not in process.stderr
    assert "torch: ImportError: libcudart.so.13" in process.stdout
    assert "packages that viq needs: not known: PackageNotFoundError" in process.stdout
