"""viq completion: a script that completes commands, options and files in bash or zsh, by shtab."""

import argparse
from collections.abc import Iterator
from importlib.util import find_spec

from viq.errors import InputError

SHELLS = ("bash", "zsh")
FOLDERS = ("DIR", "FOLDER", "RUN")  # as helps call them
FILES = ("CODES", "DATA", "FILE", "IMAGE", "INPUT", "PATH", "SOURCE")
# A name of a bundled model, or a folder.
MODELS = {
    "bash": """
_viq_models() {{
  compgen -W "{names}" -- "$1"
  compgen -d -- "$1"
}}
""",
    "zsh": """
_viq_models() {{
  _alternative 'models:bundled model:({names})' 'folders:folder:_files -/'
}}
""",
}


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "completion",
        help="print a script that completes this command in a shell",
        description="Prints a script, for bash or zsh, by which the shell completes commands,\n"
        "options, their choices, names of bundled models and recipes, files and folders.",
        epilog="examples:\n"
        "  source <(viq completion bash)     # in this shell; in ~/.bashrc, in all\n"
        "  viq completion bash > ~/.local/share/bash-completion/completions/viq\n"
        "  viq completion zsh > ~/.zfunc/_viq     # a folder of $fpath; begin a new shell",
    )
    parser.add_argument("shell", choices=SHELLS, help="whose script")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the script."""
    if find_spec("shtab") is None:
        raise InputError("completion needs a package: pip install shtab")
    print(script(args.shell).rstrip("\n"))
    return 0


def script(shell: str) -> str:
    """What the shell is to read."""
    import shtab

    from viq.checkpoint import bundled
    from viq.cli.main import make_parser
    from viq.recipes import RECIPES

    parser = make_parser()
    for action in _actions(parser):
        name = str(action.metavar or "").partition(".")[0]
        if action.dest in ("model", "models"):
            action.complete = dict.fromkeys(SHELLS, "_viq_models")  # type: ignore[attr-defined]
        elif action.dest == "recipe":
            action.choices = list(RECIPES)
        elif action.dest == "device":
            action.choices = ["cpu", "cuda"]
        elif name in (*FOLDERS, *FILES):
            kind = shtab.DIRECTORY if name in FOLDERS else shtab.FILE
            action.complete = kind  # type: ignore[attr-defined]
    models = MODELS[shell].format(names=" ".join(bundled()))
    text: str = shtab.complete(parser, shell=shell, preamble={shell: models})  # type: ignore[arg-type]
    return text


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """All arguments of a command and of those below it, which get their short descriptions."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for listed in action._choices_actions:  # shells show the first line
                action.choices[listed.dest].description = listed.help
            for below in action.choices.values():
                yield from _actions(below)
        else:
            yield action
