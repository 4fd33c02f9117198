"""viq completion: the scripts, read by real shells."""

import shutil
import subprocess

import pytest

from viq.cli.completion import SHELLS, script
from viq.cli.main import COMMANDS
from viq.recipes import RECIPES

BASH = shutil.which("bash")
ZSH = shutil.which("zsh")


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    """What bash offers where the last of some words ends, in a folder with a file and a folder."""
    folder = tmp_path_factory.mktemp("completion")
    (folder / "viq.bash").write_text(script("bash"))
    (folder / "photo.jpg").touch()
    (folder / "photos").mkdir()

    def run(*words):
        code = (
            "set -eu; source viq.bash; set +eu\n"
            'COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()\n'
            "function=$(complete -p viq | sed 's/.*-F \\([^ ]*\\).*/\\1/')\n"
            '"$function" viq "${@: -1}" "${@: -2:1}"\n'
            'printf "%s\\n" "${COMPREPLY[@]}"'
        )
        process = subprocess.run(
            [BASH, "--norc", "-c", code, "bash", "viq", *words],
            capture_output=True,
            check=True,
            cwd=folder,
            text=True,
            timeout=30,
        )
        assert process.stderr == ""
        return process.stdout.split()

    return run


needs_bash = pytest.mark.skipif(BASH is None, reason="bash is not installed")


@needs_bash
def test_commands_are_completed(complete):
    assert set(complete("")) >= set(COMMANDS)
    assert complete("enc") == ["encode"]
    assert complete("eval", "rec") == ["reconstruction"]
    assert complete("convert", "o") == ["official"]


@needs_bash
def test_options_and_their_choices_are_completed(complete):
    assert complete("encode", "--m") == ["--model", "--max-pixels"]
    assert complete("encode", "a.png", "--dtype", "b") == ["bfloat16"]
    assert complete("encode", "a.png", "--device", "cu") == ["cuda"]
    assert complete("completion", "z") == ["zsh"]


@needs_bash
def test_models_and_recipes_are_completed_by_name(complete):
    assert complete("encode", "--model", "n") == ["nano"]
    assert complete("encode", "--model", "ph") == ["photos"]
    assert complete("eval", "cost", "--model", "n") == ["nano"]
    assert set(complete("train", "align", "--recipe", "")) == set(RECIPES)


@needs_bash
def test_files_and_folders_are_completed(complete):
    assert set(complete("encode", "ph")) == {"photo.jpg", "photos"}
    assert complete("encode", "photo.jpg", "--out", "ph") == ["photos"]


@needs_bash
def test_nothing_is_made_up(complete):
    assert complete("encode", "--no-such") == []


@pytest.mark.parametrize("shell", SHELLS)
def test_the_command_prints_the_script(shell, viq_command):
    status, out, err = viq_command("completion", shell)
    assert (status, err) == (0, [])
    assert out == script(shell).rstrip("\n").splitlines()
    assert any("encode" in line for line in out)


def test_zsh_gets_each_command_with_its_short_help():
    text = script("zsh")
    assert text.startswith("#compdef viq\n")
    assert "doctor:" in text
    assert "how to install what is missing" in text


@pytest.mark.skipif(ZSH is None, reason="zsh is not installed")
def test_zsh_reads_its_script(tmp_path):
    (tmp_path / "_viq").write_text(script("zsh"))
    code = "fpath=($PWD $fpath); autoload -Uz compinit; compinit -u -d dump; print $_comps[viq]"
    process = subprocess.run(
        [ZSH, "-f", "-c", code],
        capture_output=True,
        check=True,
        cwd=tmp_path,
        text=True,
        timeout=30,
    )
    assert (process.stdout.strip(), process.stderr) == ("_viq", "")
    subprocess.run([ZSH, "-n", "_viq"], check=True, cwd=tmp_path, timeout=30)


def test_an_unknown_shell_is_one_line(viq_command):
    status, out, err = viq_command("completion", "fish")
    assert (status, out, len(err)) == (2, [], 1)
    assert "invalid choice: 'fish'" in err[0]


def test_without_shtab_it_says_what_to_install(viq_command, monkeypatch):
    monkeypatch.setattr("viq.cli.completion.find_spec", lambda name: None)
    assert viq_command("completion", "bash") == (
        2,
        [],
        ["viq: error: completion needs a package: pip install shtab"],
    )
