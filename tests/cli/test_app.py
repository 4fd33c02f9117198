"""viq app: what is said before the page is served, and how it ends."""

import re
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

START = [sys.executable, "-m", "viq.cli.main", "app"]


def test_it_says_where_it_is_and_ends_quietly(tiny_tokenizer_folder):
    process = subprocess.Popen(
        [*START, "--model", tiny_tokenizer_folder, "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        line = process.stdout.readline()
        found = re.fullmatch(
            r"ViQ is at (http://127\.0\.0\.1:\d+/) \(stop it with Ctrl-C\)\n", line
        )
        assert found, process.communicate(timeout=30)[1]
        with urllib.request.urlopen(found[1], timeout=30) as answer:
            assert b"<title>ViQ" in answer.read()
    finally:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, "", "")


@pytest.mark.parametrize("package", ["starlette", "uvicorn"])
def test_without_the_extra_one_line_names_the_command(package):
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from viq.cli.main import main\n"
        "sys.exit(main(['app', '--port', '0']))"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (process.returncode, process.stdout) == (2, "")
    assert process.stderr == f'viq: error: the page needs {package}; pip install "viq[app]"\n'


def test_a_port_in_use_is_one_line(viq_command):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        status, out, err = viq_command("app", "--port", port)
    assert (status, out) == (2, [])
    assert err == [
        f"viq: error: 127.0.0.1:{port}: Address already in use; name another by --host or --port"
    ]


def test_wrong_arguments_are_one_line(viq_command, tmp_path):
    for arguments, message in (
        (("--model", ""), "--model is empty text"),
        (("--model", tmp_path), f"{tmp_path}: neither a tokenizer nor a language model is here"),
        (("--model", "none"), "none: no such model"),
        (("--host", "no.such.host.invalid"), "no.such.host.invalid:0: "),
        (("--port", "65536"), "argument --port: 65536 is not from 0 to 65535"),
        (("--max-bytes", "0"), "argument --max-bytes: 0 is not 1 or more"),
        (("--max-pixels", "100"), "argument --max-pixels: 100 is not 4096 or more"),
        (("--device", "nonsense"), "--device nonsense: "),
    ):
        status, out, err = viq_command("app", "--port", "0", *arguments)
        assert (status, out, len(err)) == (2, [], 1), err
        assert err[0].startswith(f"viq: error: {message}")
