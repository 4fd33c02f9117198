"""The ``viq`` command: finds the subcommand, and turns what goes wrong into one line."""

import argparse
import io
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any, NoReturn

from viq.errors import InputError, ViQError
from viq.version import __version__

COMMANDS = (
    *("encode", "decode", "inspect", "compare", "convert", "train", "extract", "ask"),
    *("eval", "report", "app", "doctor", "completion"),
)

FAILED, INTERRUPTED, BROKEN_PIPE = 2, 130, 141  # the last two as a shell reports the signals


class Parser(argparse.ArgumentParser):
    """Raises where argparse would print its usage and exit; prints examples as they are written."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        options.setdefault("allow_abbrev", False)
        super().__init__(**options)

    def error(self, message: str) -> NoReturn:
        """Called by argparse.

        Raises:
            InputError: always.
        """
        raise InputError(f"{message} (see {self.prog} --help)")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code.

    It is 0 when all is done, 1 when some inputs failed, 2 when nothing could be done.

    Raises:
        SystemExit: after ``--help`` and ``--version``, with code 0.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # a file's name need not be text
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        try:
            return _run(argv)
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # here, where a closed pipe can still be caught
    except KeyboardInterrupt:
        print("viq: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        _discard_stdout()
        return BROKEN_PIPE
    except ViQError as error:
        return _fail(str(error))
    except OSError as error:
        _discard_stdout()  # it may be the very file that cannot be written
        name = "" if error.filename is None else f"{error.filename}: "
        return _fail(f"{name}{error.strerror or error}")
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        return _fail("out of memory; a lower --batch-patches or --max-pixels takes less")


def _run(argv: Sequence[str] | None) -> int:
    parser = make_parser()
    args, rest = parser.parse_known_args(argv)
    if args.command is None:
        parser.print_help(sys.stderr)
        return FAILED
    if getattr(args, "takes_overrides", False):
        args.overrides = rest
    elif rest:
        raise InputError(f"unknown arguments: {' '.join(rest)} (see viq {args.command} --help)")
    status: int = args.run(args)
    return status


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser: argparse.ArgumentParser = Parser(
        prog="viq",
        description="Turns images of any size into discrete codes, and the codes into images.",
        epilog="examples:\n"
        "  viq encode photo.jpg --out codes/\n"
        "  viq inspect codes/photo.viq\n"
        "  viq decode codes/photo.viq --out decoded/\n\n"
        "`viq COMMAND --help` tells more. The exit code is 0 when all is done, 1 when some inputs\n"
        "failed, 2 when nothing could be done.",
    )
    parser.add_argument("--version", action="version", version=f"viq {__version__}")
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND")
    for name in COMMANDS:
        import_module(f"viq.cli.{name}").add_parser(commands)
    return parser


def _fail(message: str) -> int:
    print(f"viq: error: {' '.join(message.split())}", file=sys.stderr)
    return FAILED


def _is_out_of_memory(error: BaseException) -> bool:
    # Told by name, because torch need not have been loaded.
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "can't allocate memory" in str(error)
    )


def _discard_stdout() -> None:
    """Lets the interpreter's own flush at exit go nowhere."""
    with suppress(AttributeError, OSError):  # there is no stdout, or none with a descriptor
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
