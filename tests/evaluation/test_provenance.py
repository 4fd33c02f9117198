"""Provenance: what made a result."""

import datetime
import importlib.metadata
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import viq
from viq.evaluation import provenance
from viq.evaluation.provenance import Provenance, commit
from viq.hardware import hardware

MADE = Provenance(
    command="viq eval codes --data 'my photos'",
    date="2026-11-22",
    commit="2e62485",
    hardware="A processor x 2",
    threads=1,
    versions={"viq": "0.1.0", "torch": "2.9.0"},
)


def test_now_is_this_command_day_and_machine():
    found = Provenance.now(["viq", "eval", "codes", "--data", "my photos"])
    assert shlex.split(found.command) == ["viq", "eval", "codes", "--data", "my photos"]
    assert datetime.date.fromisoformat(found.date) <= datetime.date.today()
    assert found.threads == torch.get_num_threads()
    assert found.hardware == hardware("cpu")
    assert found.versions["viq"] == viq.__version__
    for name in ("torch", "pillow", "numpy"):
        assert found.versions[name] == importlib.metadata.version(name)


def test_a_package_that_is_not_there_has_no_version(monkeypatch):
    monkeypatch.setattr(provenance, "PACKAGES", ("torch", "no-such-package"))
    assert list(Provenance.now(["viq"]).versions) == ["viq", "torch"]


def test_one_paragraph_says_all_of_it():
    assert MADE.line() == (
        "`viq eval codes --data 'my photos'`  \n"
        "2026-11-22, commit 2e62485, A processor x 2, 1 thread; viq 0.1.0, torch 2.9.0."
    )


def test_an_installed_package_has_no_commit():
    line = replace(MADE, commit=None, threads=8).line()
    assert "2026-11-22, installed package, A processor x 2, 8 threads;" in line


def test_the_commit_is_that_of_the_checkout():
    folder = Path(viq.__file__).parent
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=False
    )
    if head.returncode:
        pytest.skip("this is no checkout")
    found = commit()
    assert head.stdout.startswith(found.removesuffix("-dirty"))


def test_inside_another_projects_repository_there_is_no_commit(tmp_path, monkeypatch):
    def git(*arguments):
        who = ("-c", "user.name=x", "-c", "user.email=x@x")
        subprocess.run(["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True)

    installed = tmp_path / "venv" / "provenance.py"
    installed.parent.mkdir()
    installed.write_text("")
    (tmp_path / "theirs.txt").write_text("")
    git("init")
    git("add", "theirs.txt")
    git("commit", "-m", "theirs")
    monkeypatch.setattr(provenance, "__file__", str(installed))
    assert commit() is None
    git("add", "venv")
    git("commit", "-m", "now it is of it")
    assert commit() is not None


def test_without_git_there_is_no_commit(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commit() is None


def test_no_command_and_no_machine_is_markup():
    command = "viq eval codes --model 'a`<b>``c\n\n<script>'"
    line = replace(MADE, command=command, hardware="A\n\n<b>").line()
    code, facts = line.split("  \n")
    assert code == "```viq eval codes --model 'a`<b>``c  <script>'```"
    assert facts.startswith("2026-11-22, commit 2e62485, A \\<b>, 1 thread;")
