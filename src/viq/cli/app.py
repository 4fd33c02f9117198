"""viq app: the web page."""

import argparse
import ipaddress
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec

from viq.cli.options import add_place, check_device, positive
from viq.errors import InputError

NEEDED = ("starlette", "uvicorn")  # the extra `app`


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "app",
        help="open a web page to see, ask about and edit codes",
        description="Serves a web page: a picture beside what its codes decode to, the codes\n"
        "themselves, questions about them, and edits. It is reached from this machine only,\n"
        "unless --host says otherwise. Pictures are kept in memory while their page is open.",
        epilog="examples:\n"
        "  viq app --open\n"
        "  viq app --model nano --model runs/sft\n"
        "  viq app --host 0.0.0.0 --port 8080 --allow-host demo.example.org",
    )
    parser.add_argument(
        "--model",
        action="append",
        help="bundled name, folder or Hugging Face id of a tokenizer, or a run's folder, whose\n"
        "language model is then asked; repeat to choose from several (default: nano)",
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen at (default: %(default)s)"
    )
    parser.add_argument(
        "--port", type=port, default=7860, help="0 takes a free one (default: %(default)s)"
    )
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a name that the page is reached by, for example behind a proxy; repeat for several",
    )
    parser.add_argument(
        "--max-bytes",
        type=positive,
        metavar="N",
        help="refuse larger files (default: 20 MB)",
    )
    parser.add_argument(
        "--max-pixels",
        type=pixels,
        metavar="N",
        help="scale larger pictures down to N pixels (default: 1,048,576)",
    )
    parser.add_argument("--open", action="store_true", help="open the page in a browser")
    add_place(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Sees that the page can be served, and serves it."""
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise InputError(f'the page needs {" and ".join(missing)}; pip install "viq[app]"')
    models = args.model or ["nano"]
    if not all(models):  # an unset variable, not the current folder
        raise InputError("--model is empty text")
    with _listen(args.host, args.port) as listening:
        serve(args, models, listening)
    return 0


def serve(args: argparse.Namespace, models: Sequence[str], listening: socket.socket) -> None:
    """Loads the models and serves the page, until it is interrupted."""
    check_device(args.device)

    import uvicorn

    from viq.app.limits import Limits
    from viq.app.models import load_checkpoints
    from viq.app.server import create_app

    given = {"max_bytes": args.max_bytes, "max_pixels": args.max_pixels}
    limits = Limits(**{name: value for name, value in given.items() if value is not None})
    checkpoints = load_checkpoints(models, device=args.device, dtype=args.dtype)
    app = create_app(checkpoints, limits, hosts=[args.host, *args.allow_host])
    config = uvicorn.Config(app, access_log=False, log_level="warning", timeout_graceful_shutdown=3)
    url = _url(args.host, listening)
    print(f"ViQ is at {url} (stop it with Ctrl-C)", flush=True)
    if args.open:
        import webbrowser

        if not webbrowser.open(url):
            print("viq: no browser could be opened; open the address yourself", file=sys.stderr)
    with suppress(KeyboardInterrupt):  # which is how it is stopped
        uvicorn.Server(config).run(sockets=[listening])


def port(text: str) -> int:
    """An argparse type."""
    value = int(text)
    if not 0 <= value < 2**16:
        raise argparse.ArgumentTypeError(f"{value} is not from 0 to 65535")
    return value


def pixels(text: str) -> int:
    """An argparse type: of a picture that a tokenizer can encode, one block at least."""
    value = positive(text)
    if value < 64**2:
        raise argparse.ArgumentTypeError(f"{value} is not {64**2} or more")
    return value


def _listen(host: str, port: int) -> socket.socket:
    """A socket that takes connections, before anything is loaded."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=128)
    except (OSError, UnicodeError) as error:  # UnicodeError: no host has such a name
        why = getattr(error, "strerror", None) or str(error)
        why = why.partition(" (while")[0]  # the address once more
        raise InputError(f"{why}; name another by --host or --port", f"{host}:{port}") from error


def _url(host: str, listening: socket.socket) -> str:
    """The page's address as a browser on this machine takes it."""
    name = host
    with suppress(ValueError):
        address = ipaddress.ip_address(host)
        if address.is_unspecified:  # all of this machine's addresses
            name = "127.0.0.1" if address.version == 4 else "[::1]"
        elif address.version == 6:
            name = f"[{host}]"
    return f"http://{name}:{listening.getsockname()[1]}/"
