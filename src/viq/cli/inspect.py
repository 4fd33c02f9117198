"""viq inspect: what .viq files and code data sets hold. It needs neither the model nor torch."""

import argparse
import json
import math
import sys
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from viq.cli.paths import CODES, find
from viq.errors import CodesError

if TYPE_CHECKING:
    from collections import Counter

    from viq.codes import Codes
    from viq.store import CodeDataset
    from viq.store.statistics import Statistics

MOST_BAD_ROWS = 20  # of a data set that are named


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "inspect",
        help="say what .viq files and code data sets hold",
        description="Prints sizes, levels, bits per pixel, code usage and the tokenizer of .viq\n"
        "files and of code data sets: Parquet files, or folders of them, of which all rows are\n"
        "read. Bits per pixel are those of the original pictures: stored are 16 bits a code,\n"
        "information is log2(codebook size) bits a code. With --json it prints an array with one\n"
        "object a file or data set; sizes there are [height, width].",
        epilog="examples:\n"
        "  viq inspect codes/photo.viq\n"
        "  viq inspect codes/ --json | jq '.[].bits_per_pixel'\n"
        "  viq inspect dataset/ --verify",
    )
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="CODES",
        help="files, quoted globs, folders of .viq files (with all that is in them, hidden files"
        " apart), and code data sets, which may be URLs",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--verify",
        action="store_true",
        help="go on after a bad row of a data set and name those there are; the exit code is 1 if"
        " there are any (.viq files are verified always)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Describes all inputs, those that can be read."""
    from viq.cli.progress import Report
    from viq.codes import Codes

    models = bundled_fingerprints()
    descriptions: list[dict[str, Any]] = []
    data_sets = list(dict.fromkeys(filter(_is_data_set, args.inputs)))
    rest = [text for text in args.inputs if text not in data_sets]
    sources = [found.path for found in find(rest, CODES)] if rest else []
    with Report("inspected", len(data_sets) + len(sources)) as report:
        for source in (*data_sets, *sources):
            try:
                if isinstance(source, str):
                    description = inspect_data_set(source, models, verify=args.verify)
                else:
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
    return report.status or int(any(one.get("bad", 0) for one in descriptions))


def inspect_data_set(where: str, models: dict[str, str], *, verify: bool) -> dict[str, Any]:
    """What can be said of a code data set, as JSON has it; reads all of it.

    Args:
        where: a folder, a file or a URL.
        models: names of known tokenizers by fingerprint.
        verify: whether to go on after what is bad, which is told on stderr and counted.

    Raises:
        CodesError: it is no code data set; or, unless it is verified, it is damaged or a row bad.
    """
    from tqdm import tqdm

    from viq.store import CodeDataset
    from viq.store.reader import code_bytes, file_images
    from viq.store.statistics import Statistics

    data_set = CodeDataset(where)
    statistics, stored, bad = Statistics(data_set.info), 0, 0

    def refuse(error: CodesError) -> None:
        nonlocal bad
        if not verify:
            raise CodesError(f"{error.reason}; --verify names all that is bad", error.source)
        bad += 1
        if bad <= MOST_BAD_ROWS:
            tqdm.write(f"viq: error: {error}", file=sys.stderr)

    with tqdm(
        total=len(data_set),
        unit="row",
        dynamic_ncols=True,
        leave=False,
        file=sys.stderr,
        disable=None,  # unless stderr is no terminal
    ) as bar:
        for file in data_set.files:
            try:
                for rows in file_images(file, data_set.info, whole=verify):
                    good = [row for row in rows if not isinstance(row, CodesError)]
                    statistics.add(good)
                    for row in rows:
                        if isinstance(row, CodesError):
                            refuse(row)
                    bar.update(len(rows))
                stored += code_bytes(file)
            except CodesError as error:
                if not verify:
                    raise
                refuse(error)
    if bad > MOST_BAD_ROWS:
        print(f"viq: error: {where}: {bad - MOST_BAD_ROWS:,} more are bad", file=sys.stderr)
    about = {"verified": verify, "bad": bad}
    return _describe_data_set(data_set, statistics, stored, models) | about


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


def _describe_data_set(
    data_set: "CodeDataset", statistics: "Statistics", stored: int, models: dict[str, str]
) -> dict[str, Any]:
    info = data_set.info
    pixels = statistics.pixels

    def bpp(bits: float) -> float | None:
        return bits * statistics.codes / pixels if pixels else None

    return {
        "files": len(data_set.files),
        "rows": len(data_set),
        "rows_without_images": statistics.rows_without_images,
        "images": statistics.images,
        "columns": data_set.schema.names,
        "patch_size": info.patch_size,
        "code_heads": info.code_heads,
        "levels": info.levels,
        "codebook_size": info.codebook_size,
        "codes": statistics.codes,
        "bytes": data_set.num_bytes,
        "bytes_per_code": stored / statistics.codes if statistics.codes else None,
        "bits_per_pixel": bpp(16),
        "information_bpp": bpp(math.log2(info.codebook_size)),
        "patches": _spread(statistics.patches),
        "heights": _spread(statistics.heights),
        "widths": _spread(statistics.widths),
        "distinct_codes": statistics.distinct_codes().tolist(),
        "entropy_bits": statistics.entropy().tolist(),
        "fingerprint": info.fingerprint,
        "model": models.get(info.fingerprint),
    }


def _spread(counts: "Counter[int]") -> dict[str, int] | None:
    from viq.store.statistics import spread

    found = spread(counts)
    return None if found is None else found._asdict()


def _as_text(description: dict[str, Any]) -> str:
    first = _data_set_lines(description) if "rows" in description else _file_lines(description)
    lines = first | {
        "tokenizer": f"{description['fingerprint']} ({description['model'] or 'not bundled'})"
    }
    usage = zip(description["distinct_codes"], description["entropy_bits"], strict=True)
    for head, (distinct, bits) in enumerate(usage):
        lines[f"code head {head}"] = f"{distinct:,} distinct codes, entropy {bits:.2f} bits"
    width = max(map(len, lines))
    return "\n".join(
        [description["path"], *(f"  {name:{width}}  {text}" for name, text in lines.items())]
    )


def _file_lines(description: dict[str, Any]) -> dict[str, str]:
    def size(name: str) -> str:
        height, width = description[name]
        return f"{width} x {height}"

    patch = description["patch_size"]
    return {
        "picture": f"{size('original_size')} pixels",
        "encoded": f"{size('encoded_size')} pixels",
        "grid": f"{size('grid_size')} patches of {patch} x {patch} pixels",
        "codes": f"{description['codes']:,}, {description['code_heads']} a patch",
        "levels": _levels(description),
        "stored": f"{description['bytes']:,} bytes, {description['bits_per_pixel']:.4g} bpp",
        "information": f"{description['information_bpp']:.4g} bpp",
    }


def _data_set_lines(description: dict[str, Any]) -> dict[str, str]:
    files = "1 file" if description["files"] == 1 else f"{description['files']:,} files"
    empty = description["rows_without_images"]
    without = f", {empty:,} without images" if empty else ""
    lines = {
        "rows": f"{description['rows']:,} in {files}{without}",
        "columns": ", ".join(description["columns"]) or "none but ours",
        "images": f"{description['images']:,}",
        "codes": f"{description['codes']:,}, {description['code_heads']} a patch",
        "on disk": f"{description['bytes']:,} bytes",
    }
    if description["images"]:
        lines["on disk"] += f", of codes {description['bytes_per_code']:.3f} a code"
        patch = description["patch_size"]
        for name, unit in (
            ("patches", f"of {patch} x {patch} pixels"),
            ("widths", "pixels"),
            ("heights", "pixels"),
        ):
            lines[name] = "{min:,} to {max:,}, median {median:,}, {unit}".format(
                **description[name], unit=unit
            )
    lines["levels"] = _levels(description)
    if description["images"]:
        lines["stored"] = f"{description['bits_per_pixel']:.4g} bpp"
        lines["information"] = f"{description['information_bpp']:.4g} bpp"
    if description["verified"]:
        lines["verified"] = (
            f"{description['bad']:,} bad" if description["bad"] else "all rows are good"
        )
    return lines


def _levels(description: dict[str, Any]) -> str:
    levels = ", ".join(map(str, description["levels"]))
    return f"{levels}: a codebook of {description['codebook_size']:,}"


def _is_data_set(text: str) -> bool:
    """Whether an input is taken for a code data set: by its suffix, or by what lies in a folder."""
    from viq.store import data_files, is_code_dataset

    path = Path(text)
    if "://" in text or path.suffix.lower() == ".parquet":
        return True
    if not path.is_dir():
        return False
    if is_code_dataset(path):
        return True
    # Of any other folder of Parquet files alone it is said why it is none.
    with suppress(CodesError):
        return bool(data_files(path)) and not any(map(Path.is_file, path.rglob("*.viq")))
    return False
