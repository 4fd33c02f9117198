"""The card that a model gets when it is saved, of what whoever saves it says and of its files."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from viq.card.counts import Counts
from viq.card.make import About, model_card
from viq.card.page import FILE, Measured, Section
from viq.card.runs import Run
from viq.external.language_model import split_layers

NOT_STATED = "Not stated by whoever saved this model."
# At the end of the page. Who edits a card and wants it kept takes this away.
MARK = "<!-- Written as the model was saved, and written again with it while this line is here. -->"
_HUB_IDS = {"smollm2": "HuggingFaceTB/SmolLM2-135M-Instruct"}  # of what packages hold


def saved_card(
    folder: Path,
    *,
    where: str,
    counts: Sequence[Counts] = (),
    runs: Sequence[Run] = (),
    scores: Sequence[Section] | str = (),
    measured: Sequence[Measured] = (),
    **about: Any,
) -> str:
    """The page of a model that is in ``folder``.

    Args:
        folder: of the model.
        where: what loads it: a folder, or a hub id.
        counts: of what it was trained on.
        runs: that trained it.
        scores: sections with tables (``viq.evaluation.card``), or Markdown.
        measured: numbers for the hub's own table.
        about: fields of ``About``, such as ``license``, ``data`` and ``limits``.

    Raises:
        TypeError: there is no such field.
    """
    known = [field.name for field in fields(About)]
    if unknown := sorted(about.keys() - set(known)):
        more = ["counts", "runs", "scores", "measured"]
        raise TypeError(
            f"a card has no {', '.join(unknown)}; it has {', '.join(sorted({*known, *more}))}."
        )
    name = Path(where).name
    # A card travels with its folder; where that lay on this machine is of no use to others.
    told: dict[str, Any] = {"name": name, "where": where, "license": None}
    if Path(where).is_absolute():
        told["where"] = name
    if not counts:
        told["data"] = NOT_STATED
    if isinstance(scores, str):
        told["scores"], scores = scores, ()
    card = model_card(
        folder,
        About(**(told | about)),
        data=counts,
        runs=runs,
        scores=scores,
        measured=measured,
    )
    return f"{card.markdown()}\n{MARK}\n"


def keeps_card(folder: Path) -> bool:
    """Whether a folder has a card that is not to be written again: somebody's own."""
    path = folder / FILE
    return path.is_file() and MARK not in path.read_text("utf-8", errors="replace")


def base_model(lm: str) -> Mapping[str, tuple[str, ...]]:
    """The card's field for a language model, where that has a place on the hub."""
    place, _ = split_layers(lm)
    hub_id = _HUB_IDS.get(place, place)
    is_one = hub_id.count("/") == 1 and not hub_id.startswith((".", "/"))
    is_one = is_one and not Path(place).exists()
    return {"base_model": (hub_id,)} if is_one else {}
