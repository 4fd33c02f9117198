"""The bundled model, on real pictures."""

import io
from importlib.resources import as_file, files
from pathlib import Path
from statistics import fmean

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import viq
from viq.checkpoint import WEIGHTS, fingerprint
from viq.metrics.quality import psnr

CORPUS = Path(__file__).parents[2] / "shared" / "corpus"


@pytest.fixture(scope="module")
def nano():
    return viq.load("nano")


def test_the_bundled_weights_are_small():
    size = sum(path.stat().st_size for path in WEIGHTS.rglob("*") if path.is_file())
    assert size <= 40e6


def test_the_stored_fingerprint_is_that_of_the_weights(nano):
    parts = nano.part("encoder"), nano.part("head")
    assert fingerprint(nano.config.image, *parts) == nano.fingerprint


def test_sample_pictures_decode_to_what_they_show(nano):
    with as_file(files("viq") / "samples") as folder:
        paths = sorted(folder.glob("*.png"))
        pictures = [Image.open(path).convert("RGB") for path in paths]
    decoded = nano.decode(nano.encode(paths))
    quality = [psnr(np.asarray(a), np.asarray(b)) for a, b in zip(pictures, decoded, strict=True)]
    assert min(quality) > 16  # small print
    assert fmean(quality) > 22


def test_values_before_rounding_do_not_depend_on_the_batch(nano):
    with as_file(files("viq") / "samples") as folder:
        paths = sorted(folder.glob("*.png"))
        together = nano.latents(paths[::-1])[::-1]
        for path, latents in zip(paths, together, strict=True):
            assert torch.equal(nano.latents(path), latents)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_held_out_pictures_of_the_corpus_keep_their_quality(nano):
    if not CORPUS.is_dir():
        pytest.skip(f"no corpus in {CORPUS}")
    rows = pq.read_table(CORPUS / "validation-00000-of-00001.parquet").to_pylist()
    quality = []
    for row in rows:
        if row["kind"] in ("photo", "art", "render"):
            picture = Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB")
            decoded = nano.decode(nano.encode(picture))
            quality.append(psnr(np.asarray(picture), np.asarray(decoded)))
    assert len(quality) > 20
    assert fmean(quality) > 22
