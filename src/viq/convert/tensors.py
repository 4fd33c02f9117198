"""Foreign checkpoints as named tensors: read without running their code, and all accounted for."""

import pickle
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from viq.errors import ConversionError

# Beginnings of tensors' names, and what to put there instead.
Rules = Sequence[tuple[str, str]]


class Tensors(dict[str, Tensor]):
    """A file's tensors; asking for one that is not there is a ``ConversionError`` that names it.

    Attributes:
        source: the file, for messages.
        original_name: what a tensor is called in the file, if it was renamed after reading.
    """

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        source: Path,
        original_name: Callable[[str], str] = str,
    ) -> None:
        super().__init__(tensors)
        self.source, self.original_name = source, original_name

    def __missing__(self, name: str) -> Tensor:
        raise self.error("missing", [name])

    def error(self, problem: str, names: Iterable[str]) -> ConversionError:
        """An error about some tensors, by the names that they have in the file."""
        names = [self.original_name(name) for name in names]
        shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        count = f"{len(names)} tensor{'s' if len(names) > 1 else ''}"
        return ConversionError(f"{count} {problem}: {shown}", self.source, names)

    def size(self, name: str, axis: int) -> int:
        """One side of a tensor.

        Raises:
            ConversionError: there is no such tensor, or it has fewer axes.
        """
        shape = self[name].shape
        if axis >= len(shape):
            raise self.error(f"of the wrong shape {tuple(shape)}", [name])
        return shape[axis]

    def with_axes(self, name: str, count: int) -> Tensor:
        """A tensor that has so many axes.

        Raises:
            ConversionError: there is no such tensor, or it has more or fewer.
        """
        if (tensor := self[name]).ndim != count:
            raise self.error(f"of the wrong shape {tuple(tensor.shape)}", [name])
        return tensor

    def count(self, prefix: str) -> int:
        """How many things are numbered after ``prefix``: the largest number there, plus one."""
        tails = (name.removeprefix(prefix) for name in self if name.startswith(prefix))
        numbers = (tail.partition(".")[0] for tail in tails)
        return 1 + max((int(number) for number in numbers if number.isdecimal()), default=-1)

    def match(self, parts: Mapping[str, nn.Module], rules: Rules) -> dict[str, Tensor]:
        """Finds every tensor of ``parts`` here, and returns them by the name "part.name".

        Args:
            parts: modules of the right sizes, on any device.
            rules: make this file's names of those.

        Raises:
            ConversionError: a tensor is missing, is left over or has another shape.
        """
        theirs, shapes = {}, {}
        for part, module in parts.items():
            for name, tensor in module.state_dict().items():
                theirs[f"{part}.{name}"] = foreign = rename(f"{part}.{name}", rules)
                shapes[foreign] = tensor.shape
        problems = []
        if missing := [name for name in shapes if name not in self]:
            problems.append(self.error("missing", missing))
        if left_over := [name for name in self if name not in shapes]:
            problems.append(self.error("left over", left_over))
        present = [name for name in shapes if name in self]
        if wrong := [name for name in present if self[name].shape != shapes[name]]:
            found, expected = tuple(self[wrong[0]].shape), tuple(shapes[wrong[0]])
            problems.append(self.error(f"of the wrong shape ({found}, not {expected})", wrong))
        if problems:
            reason = "; ".join(problem.reason for problem in problems)
            keys = (key for problem in problems for key in problem.keys)
            raise ConversionError(reason, self.source, keys)
        return {name: self[foreign] for name, foreign in theirs.items()}


def read_tensors(path: Path) -> Tensors:
    """Reads a ``.safetensors`` file, or a pickled checkpoint of tensors in a dict.

    A pickle that holds anything else is refused before it can do anything.

    Raises:
        ConversionError: there is no such file, it is damaged, or it holds more than tensors.
    """
    if not path.is_file():
        raise ConversionError("no such file", path)
    data: Any
    try:
        if path.suffix == ".safetensors":
            data = load_file(path)
        else:
            if zipfile.is_zipfile(path):  # torch.load does not look at the checksums
                with zipfile.ZipFile(path) as archive:
                    if (name := archive.testzip()) is not None:
                        raise ConversionError(f"damaged: the checksum of {name} is wrong", path)
            data = torch.load(path, map_location="cpu", weights_only=True)
    except ConversionError:
        raise
    except Exception as error:  # damaged files make torch.load raise nearly anything
        if isinstance(error, pickle.UnpicklingError) and "GLOBAL" in str(error).upper():
            reason = "refused: it holds more than tensors, and reading that can run any code"
        else:
            reason = f"damaged, or not a checkpoint ({_one_line(error)})"
        raise ConversionError(reason, path) from error
    if not isinstance(data, dict):
        raise ConversionError(f"holds a {type(data).__name__}, not tensors by name", path)
    if other := [str(name) for name, value in data.items() if not isinstance(value, Tensor)]:
        raise ConversionError(f"not only tensors, but also {', '.join(other[:5])}", path, other)
    return Tensors(data, path)


def load_parts(parts: Mapping[str, nn.Module], tensors: Mapping[str, Tensor]) -> None:
    """Puts tensors named "part.name" into parts that were built on the meta device, frozen."""
    for part, module in parts.items():
        prefix = f"{part}."
        own = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
        module.load_state_dict(own, strict=True, assign=True)
        module.eval().requires_grad_(False)


def rename(name: str, rules: Rules) -> str:
    """Gives a name another beginning, by the first rule that fits, if any does."""
    for old, new in rules:
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
