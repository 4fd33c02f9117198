"""viq inspect: what .viq files hold. It needs neither the model nor torch."""

import argparse
import json
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from viq.cli.paths import CODES, INPUTS_HELP, find
from viq.errors import CodesError

if TYPE_CHECKING:
    from viq.codes import Codes


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "inspect",
        help="say what .viq files hold",
        description="Prints sizes, levels, bits per pixel, code usage and the tokenizer of .viq\n"
        "files. Bits per pixel are those of the original picture: stored are 16 bits a code,\n"
        "information is log2(codebook size) bits a code. With --json it prints an array with one\n"
        "object a file; sizes there are [height, width].",
        epilog="examples:\n"
        "  viq inspect codes/photo.viq\n"
        "  viq inspect codes/ --json | jq '.[].bits_per_pixel'",
    )
    parser.add_argument("inputs", nargs="+", metavar="CODES", help=INPUTS_HELP)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Describes all files, those that can be read."""
    from viq.cli.report import Report
    from viq.codes import Codes

    models = bundled_fingerprints()
    descriptions = []
    sources = [found.path for found in find(args.inputs, CODES)]
    with Report("inspected", len(sources)) as report:
        for source in sources:
            try:
                description = describe(Codes.load(source), models)
            except CodesError as error:
                report.failure(source, error)
                continue
            descriptions.append({"path": str(source)} | description)
            report.success()
    if args.json:
        print(json.dumps(descriptions, indent=2))
    else:
        print("\n\n".join(map(_as_text, descriptions)), end="\n" if descriptions else "")
    return report.status


def describe(codes: "Codes", models: dict[str, str]) -> dict[str, Any]:
    """What can be said of one image's codes, as JSON has it.

    Args:
        codes: of any tokenizer.
        models: names of known tokenizers by fingerprint.
    """
    from viq.metrics.rate import code_usage, entropy

    usage = code_usage(codes.values, codes.codebook_size)
    entropies = entropy(codes.values, codes.codebook_size)
    return {
        "original_size": codes.original_size,
        "encoded_size": codes.encoded_size,
        "grid_size": codes.grid_size,
        "patch_size": codes.patch_size,
        "code_heads": codes.code_heads,
        "levels": codes.levels,
        "codebook_size": codes.codebook_size,
        "codes": codes.values.size,
        "bytes": codes.nbytes,
        "bits_per_pixel": codes.bits_per_pixel,
        "information_bpp": codes.information_bpp,
        "distinct_codes": [round(float(share) * codes.codebook_size) for share in usage],
        "entropy_bits": [float(bits) for bits in entropies],
        "fingerprint": codes.fingerprint,
        "model": models.get(codes.fingerprint),
    }


def bundled_fingerprints() -> dict[str, str]:
    """The names of the bundled models by fingerprint."""
    # viq.checkpoint knows them too, but brings torch.
    folders = sorted(Path(str(files("viq"))).glob("weights/*/config.json"))
    return {json.loads(path.read_bytes())["fingerprint"]: path.parent.name for path in folders}


def _as_text(description: dict[str, Any]) -> str:
    def size(name: str) -> str:
        height, width = description[name]
        return f"{width} x {height}"

    patch, heads = description["patch_size"], description["code_heads"]
    lines = {
        "picture": f"{size('original_size')} pixels",
        "encoded": f"{size('encoded_size')} pixels",
        "grid": f"{size('grid_size')} patches of {patch} x {patch} pixels",
        "codes": f"{description['codes']:,}, {heads} a patch",
        "levels": f"{', '.join(map(str, description['levels']))}:"
        f" a codebook of {description['codebook_size']:,}",
        "stored": f"{description['bytes']:,} bytes, {description['bits_per_pixel']:.4g} bpp",
        "information": f"{description['information_bpp']:.4g} bpp",
        "tokenizer": f"{description['fingerprint']} ({description['model'] or 'not bundled'})",
    }
    usage = zip(description["distinct_codes"], description["entropy_bits"], strict=True)
    for head, (distinct, bits) in enumerate(usage):
        lines[f"code head {head}"] = f"{distinct:,} distinct codes, entropy {bits:.2f} bits"
    width = max(map(len, lines))
    return "\n".join(
        [description["path"], *(f"  {name:{width}}  {text}" for name, text in lines.items())]
    )
