"""What made a result: command, machine, versions, date and commit."""

import datetime
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Self

import torch

from viq.evaluation.markup import code
from viq.hardware import hardware
from viq.version import __version__

PACKAGES = ("torch", "transformers", "pillow", "numpy")


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where a result comes from."""

    command: str
    date: str  # ISO 8601
    commit: str | None  # of the checkout that ran; None: an installed package
    hardware: str
    threads: int
    versions: Mapping[str, str]

    @classmethod
    def now(cls, command: Sequence[str], device: str = "cpu") -> Self:
        """Of a command that runs here and now."""
        return cls(
            command=shlex.join(command),
            date=datetime.date.today().isoformat(),
            commit=commit(),
            hardware=hardware(device),
            threads=torch.get_num_threads(),
            versions={"viq": __version__} | {n: v for n in PACKAGES if (v := _version(n))},
        )

    def line(self) -> str:
        """One paragraph of Markdown."""
        facts = " ".join(self.facts().split()).replace("<", "\\<")
        return f"{code(self.command)}  \n{facts}"

    def facts(self) -> str:
        """When, where and with what it was made, in a sentence."""
        known = ", ".join(f"{name} {number}" for name, number in self.versions.items())
        where = f"commit {self.commit}" if self.commit else "installed package"
        threads = f"{self.threads} thread" + ("s" if self.threads > 1 else "")
        return f"{self.date}, {where}, {self.hardware}, {threads}; {known}."


def commit() -> str | None:
    """The commit of the checkout that this package is of, "-dirty" if it was changed.

    None where git does not know this very file: an installed package may lie in another project's.
    """
    file = Path(__file__)
    if _git(file.parent, "ls-files", "--error-unmatch", file.name) is None:
        return None
    return _git(file.parent, "describe", "--always", "--dirty", "--exclude=*")


def _git(folder: Path, *arguments: str) -> str | None:
    """What git says; None where it fails, or is not there."""
    try:
        found = subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    return None if found.returncode else found.stdout.strip()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
