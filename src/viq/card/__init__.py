"""Model cards: the README.md of a model's folder, made of what is known about the model."""

from viq.card.architecture import Model, read_model
from viq.card.counts import Counts, count_rows, load_counts, save_counts
from viq.card.make import About, model_card
from viq.card.page import Card, Measured, Picture, Section
from viq.card.runs import Run, read_run

__all__ = [
    "About",
    "Card",
    "Counts",
    "Measured",
    "Model",
    "Picture",
    "Run",
    "Section",
    "count_rows",
    "load_counts",
    "model_card",
    "read_model",
    "read_run",
    "save_counts",
]
