"""Language models that read images, which commands are asked for by name."""

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from viq.cli.options import check_device
from viq.errors import InputError, ModelError

if TYPE_CHECKING:
    from viq.mllm import MultimodalModel

NEEDED = ("transformers", "peft")  # the extra `ask`


def check_installed(verb: str) -> None:
    """Sees that there is what language models need.

    Raises:
        InputError: something is not installed.
    """
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise InputError(f'{verb} needs {" and ".join(missing)}; pip install "viq[ask]"')


@contextmanager
def quiet() -> Iterator[None]:
    """Without what transformers and peft say of their own."""
    import warnings

    from transformers.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"(transformers|peft)\b")
        yield


def load_language_model(
    where: str,
    *,
    lm: str | None = None,
    dtype: str | None = None,
    device: str = "cpu",
    reads_images: bool = True,
) -> "MultimodalModel":
    """A model by a run's folder, a saved model's, a bundled name or a hub id.

    Args:
        where: which of these.
        lm: where its language model is now, if not where it was.
        dtype: of the language model's weights; as they were saved unless given.
        device: where it goes.
        reads_images: whether it is to be given any.

    Raises:
        InputError: there is no such model or device, or the model has not learnt to read images.
    """
    from viq.mllm import MultimodalModel

    check_device(device)
    check_bundled(where)
    # Bars of conversions and downloads are for terminals; they come from several libraries.
    with nullcontext() if sys.stderr.isatty() else redirect_stderr(io.StringIO()):
        model = MultimodalModel.from_pretrained(where, lm=lm, dtype=dtype)
    blind = reads_images and model.config.sees is None
    beside = Path(where) / "tokenizer"
    if blind and (beside / "config.json").is_file():
        model.read_codes_of(str(beside))  # stages before `sft` leave the two apart
    elif blind:
        raise ModelError(
            "this language model has learnt to read features, not codes; train one that reads codes"
            " by viq train sft",
            where,
        )
    return model.to(device)  # type: ignore[arg-type]


def check_bundled(where: str) -> None:
    """Says what to give where no language model comes with a bundled tokenizer.

    Raises:
        ModelError: it is such a tokenizer's name.
    """
    from viq.checkpoint import bundled
    from viq.mllm.files import bundled_folder

    if where in bundled() and bundled_folder(where) is None:
        raise ModelError(
            "no language model comes with it yet; give --model a folder or Hugging Face id of one"
            " that reads codes, or a run's folder with mllm/ in it",
            where,
        )
