"""The tables of an evaluation of reconstruction, made from its samples alone.

Axes: N codes of a head over all pictures, Q code heads.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from viq.evaluation.coding import codes_of
from viq.evaluation.document import Cell, Column, Table
from viq.evaluation.pictures import unread
from viq.evaluation.reconstruction.measures import (
    EFFICIENTNET,
    INCEPTION,
    LOSSLESS_DB,
    Measures,
    features_of,
)
from viq.evaluation.reconstruction.runner import (
    ORIGINAL,
    TITLES,
    Protocol,
    Reconstruction,
    part_of,
    pixels_of,
)
from viq.evaluation.samples import Samples
from viq.evaluation.scores import mean_score
from viq.evaluation.subjects import Codec
from viq.metrics.rate import code_usage, entropy

LEAST_PICTURES = 100  # of which a Fréchet distance is taken

Records = Mapping[str, Mapping[str, Any]]  # by name of the picture

SUBJECT = Column(name="subject")
RATE = Column(name="bits per pixel", digits=3)
PICTURES = Column(name="pictures")
# A record's value, and how its mean is shown.
QUALITY = {
    "psnr": Column(name="PSNR", unit="dB", better="higher"),
    "ssim": Column(name="SSIM", digits=3, better="higher"),
    "ms_ssim": Column(name="MS-SSIM", digits=3, better="higher"),
    "lpips": Column(name="LPIPS", digits=3, better="lower"),
    "dists": Column(name="DISTS", digits=3, better="lower"),
    "hed": Column(name="hed distance", digits=4, better="lower"),
}
TEXT = (
    Column(name="OCR character error", unit="%", digits=1, better="lower"),
    Column(name="pictures with text"),
)
SETS = {
    EFFICIENTNET: Column(name=f"Fréchet distance, {EFFICIENTNET}", digits=3, better="lower"),
    INCEPTION: Column(name="rFID", better="lower"),
}
CODES = (
    SUBJECT,
    Column(name="stored", unit="bits per pixel", digits=3),
    Column(name="information", unit="bits per pixel", digits=3),
    Column(name="entropy", unit="bits per code"),
    Column(name="codebook", unit="codes"),
    Column(name="used", unit="%", digits=1, better="higher"),
    PICTURES,
)
HEADS = (
    SUBJECT,
    Column(name="code head"),
    Column(name="entropy", unit="bits per code"),
    Column(name="used", unit="%", digits=1),
    Column(name="codes"),
)


def tables(asked: Reconstruction, samples: Samples) -> list[Table]:
    """Quality, what is of the whole set, and codes, of each protocol."""
    found = []
    for protocol in asked.protocols:
        read = asked.read(samples, protocol)
        where = f"{asked.pictures.titled(read)}, {TITLES[protocol]}"
        by_subject = {
            subject.name: records_of(samples, protocol, subject.name, asked.names)
            for subject in asked.subjects
        }
        present = {name: records for name, records in by_subject.items() if records}
        if not present:
            continue
        too_large = [
            subject.name
            for subject in asked.subjects
            if isinstance(subject, Codec)
            and subject.name not in present
            and samples.of(part_of(protocol, subject.name))
        ]
        originals = records_of(samples, protocol, ORIGINAL, asked.names)
        note = unread(asked.names, read)
        found.append(_quality(f"Quality: {where}", present, too_large, note))
        found.append(_set(f"Text and distribution: {where}", present, originals, asked.measures))
        kinds = {name: asked.pictures.group(name) for name in originals}
        if any(kinds.values()):
            found.append(
                _by_kind(f"Text by height: {where}", present | {ORIGINAL: originals}, kinds)
            )
        if coded := {n: r for n, r in present.items() if any("codes" in one for one in r.values())}:
            values = {name: _values(records) for name, records in coded.items()}
            found.append(_codes(f"Codes: {where}", coded, values))
            found.append(_heads(f"Code heads: {where}", coded, values))
    return found


def records_of(samples: Samples, protocol: Protocol, name: str, names: Iterable[str]) -> Records:
    """A subject's records of the pictures that it has, in the data's order."""
    records = samples.of(part_of(protocol, name))
    return {n: records[n] for n in names if n in records and "none" not in records[n]}


def rate(records: Records) -> float | None:
    """All bits over all pixels, in which a tiny picture counts little; None if one is unknown."""
    num_bytes = [one["bytes"] for one in records.values()]
    if not records or None in num_bytes:
        return None
    return 8 * sum(num_bytes) / sum(map(pixels_of, records.values()))


def values_of(records: Records, key: str) -> list[float]:
    """A measure of all pictures that have it, a lossless one's PSNR as ``LOSSLESS_DB``."""
    values = [one.get(key) for one in records.values()]
    if key == "psnr":
        return [LOSSLESS_DB if value is None else min(value, LOSSLESS_DB) for value in values]
    return [value for value in values if value is not None]


def _mean(values: Sequence[float], scale: float = 1.0) -> Cell:
    return mean_score(values, scale=scale) if values else None


def _quality(
    title: str, subjects: Mapping[str, Records], too_large: Sequence[str], left_out: str
) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (
            name,
            rate(records),
            *(_mean(values_of(records, key)) for key in QUALITY),
            len(records),
        )
        for name, records in subjects.items()
    ]
    rows += [(name, *[None] * (1 + len(QUALITY)), 0) for name in too_large]
    note = (
        "Means over pictures with 95 % bootstrap intervals; bits per pixel are all bits over all"
        " pixels, those of models of the"
        " codes alone (a .viq file has a header of some 340 bytes, too), those of codecs of whole"
        " files (of which some 280 bytes are the least that JPEG takes, 310 AVIF)."
    )
    every = [(name, one) for records in subjects.values() for name, one in records.items()]
    if lossless := sum(record["psnr"] is None for _, record in every):
        note += (
            f" {lossless} came back without any loss and count as {LOSSLESS_DB:g} dB, which no"
            " PSNR exceeds here."
        )
    if small := len({name for name, record in every if record["ms_ssim"] is None}):
        what = "picture is" if small == 1 else "pictures are"
        note += f" {small} {what} too small for MS-SSIM and not in its mean."
    if len({len(records) for records in subjects.values()}) > 1:
        note += " Rows of fewer pictures lack those that their subject could not give."
    if too_large:
        note += f" No picture has so small a file: {', '.join(too_large)}."
    note += left_out
    return Table(
        title=title,
        columns=(SUBJECT, RATE, *QUALITY.values(), PICTURES),
        rows=tuple(rows),
        note=note,
    )


def _set(
    title: str, subjects: Mapping[str, Records], originals: Records, measures: Measures
) -> Table:
    rows: list[tuple[Cell, ...]] = []
    if floor := values_of(originals, "character_error"):
        error = _mean(floor, 100)
        rows.append((ORIGINAL, None, error, len(floor), *[None] * len(SETS), len(originals)))
    for name, records in subjects.items():
        errors = values_of(records, "character_error")
        distances = [_distance(key, records, originals, measures) for key in SETS]
        shown = (_mean(errors, 100), len(errors) or None, *distances, len(records))
        rows.append((name, rate(records), *shown))
    note = (
        "OCR character error: edits per character of the text, white space aside; where the text is"
        " not known, of what the same reader finds in the original. Over the pictures with text;"
        f" the original's own error is the reader's. Fréchet distances are of {LEAST_PICTURES}"
        " pictures at the least; they come"
        " out larger of fewer pictures, so only those of equally many compare."
    )
    columns = (SUBJECT, RATE, *TEXT, *SETS.values(), PICTURES)
    return Table(title=title, columns=columns, rows=tuple(rows), note=note)


def _by_kind(title: str, subjects: Mapping[str, Records], kinds: Mapping[str, str | None]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for name, records in subjects.items():
        for kind in sorted({kinds[picture] or "" for picture in records}):
            some = {picture: one for picture, one in records.items() if kinds[picture] == kind}
            error = _mean(values_of(some, "character_error"), 100)
            bits = rate(some) if name != ORIGINAL else None
            rows.append((name, kind, bits, error, len(some)))
    columns = (SUBJECT, Column(name="height of letters"), RATE, TEXT[0], PICTURES)
    return Table(title=title, columns=columns, rows=tuple(rows))


def _distance(key: str, records: Records, originals: Records, measures: Measures) -> float | None:
    """Of the pictures that came back against their own originals."""
    if key not in measures.sets or len(records) < LEAST_PICTURES:
        return None
    theirs = (originals[name] for name in records)
    return measures.sets[key].between(features_of(records.values(), key), features_of(theirs, key))


def _values(records: Records) -> NDArray[np.int64]:
    """All codes (N, Q)."""
    every = [codes_of(record).values for record in records.values()]
    return np.concatenate(every).astype(np.int64)


def _codes(
    title: str, subjects: Mapping[str, Records], values: Mapping[str, NDArray[np.int64]]
) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for name, records in subjects.items():
        codebook_size = codes_of(next(iter(records.values()))).codebook_size
        bits = entropy(values[name], codebook_size)
        patches = sum(math.prod(record["codes"]["grid_size"]) for record in records.values())
        pixels = sum(map(pixels_of, records.values()))
        rows.append(
            (
                name,
                rate(records),
                float(bits.sum()) * patches / pixels,
                float(bits.mean()),
                codebook_size,
                100 * float(code_usage(values[name], codebook_size).mean()),
                len(records),
            )
        )
    note = (
        "Stored: the codes, 16 bits each where these are enough. Information: the entropy of each"
        " code head's codes over all pictures, times the codes. Of few pictures the entropy comes"
        " out too low, as of N codes it cannot exceed log2 N bits; so does the share of the"
        " codebook that is used. Both are means over code heads. Bits per pixel are all bits over"
        " all pixels."
    )
    return Table(title=title, columns=CODES, rows=tuple(rows), note=note)


def _heads(
    title: str, subjects: Mapping[str, Records], values: Mapping[str, NDArray[np.int64]]
) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for name, records in subjects.items():
        codebook_size = codes_of(next(iter(records.values()))).codebook_size
        bits, used = entropy(values[name], codebook_size), code_usage(values[name], codebook_size)
        rows += [
            (name, str(head), float(bits[head]), 100 * float(used[head]), len(values[name]))
            for head in range(len(bits))
        ]
    return Table(title=title, columns=HEADS, rows=tuple(rows))
