"""The command itself: help, versions, exit codes, and one line for whatever goes wrong."""

import json
import os
import subprocess
import sys

import pytest

import viq.cli.main as main_module
from viq import ViQError, __version__
from viq.cli.main import COMMANDS

# A command that each case replaces, to see what `main` makes of what it does.
VICTIM = ("inspect", "some.viq")


@pytest.fixture
def raising(monkeypatch, viq_command):
    """Runs a command that raises ``error``."""

    def run(error: BaseException):
        def fail(args):
            raise error

        monkeypatch.setattr("viq.cli.inspect.run", fail)
        return viq_command(*VICTIM)

    return run


def test_version_is_the_packages(viq_command):
    assert viq_command("--version") == (0, [f"viq {__version__}"], [])


def test_help_names_every_command(viq_command):
    status, out, err = viq_command("--help")
    assert (status, err) == (0, [])
    listed = [line.split()[0] for line in out if line.startswith("    ")]
    assert [command for command in COMMANDS if command not in listed] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_has_an_example(command, viq_command):
    status, out, err = viq_command(command, "--help")
    assert (status, err) == (0, [])
    start = next(number for number, line in enumerate(out) if line.startswith("example"))
    assert any(f"viq {command} " in line for line in out[start:])


def test_the_main_help_has_an_example(viq_command):
    assert "  viq encode photo.jpg --out codes/" in viq_command("--help").out


def test_no_help_loads_a_heavy_package():
    code = f"""
import contextlib, io, json, sys
from viq.cli.main import main
for arguments in [["--help"], *([name, "--help"] for name in {COMMANDS!r})]:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        try:
            main(arguments)
        except SystemExit as stop:
            assert not stop.code
    assert "usage: viq" in out.getvalue()
print(json.dumps(sorted(set(sys.modules) & {{"PIL", "diffusers", "numpy", "torch", "tyro"}})))
"""
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert json.loads(process.stdout) == []


def test_no_command_is_help_and_exit_code_2(viq_command):
    status, out, err = viq_command()
    assert (status, out) == (2, [])
    assert err[0].startswith("usage: viq")


def test_an_unknown_command_is_one_line(viq_command):
    status, out, err = viq_command("encod")
    assert (status, out, len(err)) == (2, [], 1)
    assert err[0].startswith("viq: error: argument COMMAND: invalid choice: 'encod'")
    assert err[0].endswith("(see viq --help)")


def test_an_unknown_argument_is_named(viq_command):
    status, out, err = viq_command("inspect", "some.viq", "--jsn")
    assert (status, out) == (2, [])
    assert err == ["viq: error: unknown arguments: --jsn (see viq inspect --help)"]


def test_an_argument_cannot_be_abbreviated(viq_command):
    status, _, err = viq_command("encode", "a.png", "--ou", "codes")
    assert status == 2
    assert err == [
        "viq: error: the following arguments are required: --out (see viq encode --help)"
    ]


@pytest.mark.parametrize("number", ["0", "-5", "many", "1.5"])
def test_a_count_must_be_a_positive_integer(number, viq_command):
    status, _, err = viq_command("encode", "a.png", "--out", "codes", f"--batch-patches={number}")
    assert (status, len(err)) == (2, 1)
    assert "argument --batch-patches: " in err[0]
    assert number in err[0]


def test_train_gets_the_arguments_that_only_its_recipe_knows(viq_command, monkeypatch):
    seen = []
    monkeypatch.setattr("viq.cli.train.run", lambda args: seen.append(args.overrides) or 0)
    arguments = ("train", "vae", "--data", "d", "--out", "o", "--loop.steps", "3")
    assert viq_command(*arguments).status == 0
    assert seen == [["--loop.steps", "3"]]


def test_an_error_of_ours_is_one_line_however_many_it_had(raising):
    assert raising(ViQError("one\n  two")) == (2, [], ["viq: error: one two"])


def test_an_error_of_the_system_is_one_line_with_the_file(raising):
    error = PermissionError(13, "Permission denied", "/some/file")
    assert raising(error) == (2, [], ["viq: error: /some/file: Permission denied"])


def test_interrupting_is_one_line_and_exit_code_130(raising):
    assert raising(KeyboardInterrupt()) == (130, [], ["viq: interrupted"])


def test_a_closed_pipe_is_quiet(raising):
    assert raising(BrokenPipeError()) == (141, [], [])


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_running_out_of_memory_says_what_takes_less(error, raising):
    expected = "viq: error: out of memory; a lower --batch-patches or --max-pixels takes less"
    assert raising(error) == (2, [], [expected])


def test_a_mistake_of_ours_keeps_its_traceback(raising):
    with pytest.raises(RuntimeError, match="a mistake"):
        raising(RuntimeError("a mistake"))


@pytest.mark.skipif(os.name != "posix", reason="of pipes as POSIX has them")
def test_a_reader_that_went_away_leaves_stderr_empty(save_codes, tmp_path):
    path = save_codes(tmp_path / "photo.viq")
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.run(
        [sys.executable, "-m", main_module.__name__, "inspect", str(path)],
        stdout=writer,
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
    )
    os.close(writer)
    assert (process.returncode, process.stderr) == (141, b"")
