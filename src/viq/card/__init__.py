"""Cards: the README.md of a model or of a data set of codes, made of what is known about it."""

from viq.card.architecture import Model, read_model
from viq.card.counts import Counts, count_rows, load_counts, save_counts
from viq.card.dataset import card_of_folder, dataset_card
from viq.card.make import About, model_card
from viq.card.page import Card, Measured, Picture, Section
from viq.card.runs import Run, read_run
from viq.card.saved import base_model, keeps_card, saved_card

__all__ = [
    "About",
    "Card",
    "Counts",
    "Measured",
    "Model",
    "Picture",
    "Run",
    "Section",
    "base_model",
    "card_of_folder",
    "count_rows",
    "dataset_card",
    "keeps_card",
    "load_counts",
    "model_card",
    "read_model",
    "read_run",
    "save_counts",
    "saved_card",
]
