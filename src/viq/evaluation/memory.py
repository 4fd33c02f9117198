"""The most memory that a piece of work held."""

import ctypes
from pathlib import Path

import torch

from viq.errors import InputError

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Memory:
    """Held by a GPU's allocator, else by this process: its resident set, as Linux keeps count.

    Not by ``resource.getrusage``, whose peak cannot be reset, and begins in a new process with
    that of the one that started it.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def reset(self) -> None:
        """Forgets what was held before.

        Raises:
            InputError: this system does not count, or lets nobody reset it.
        """
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            return
        library = ctypes.CDLL(None)
        if hasattr(library, "malloc_trim"):  # glibc; what is free but not given back would count
            library.malloc_trim(0)
        try:
            _RESET.write_text("5")
        except OSError as error:
            raise InputError(f"memory is not measured: {error.strerror}", _RESET) from error

    def now(self) -> int:
        """Bytes that are held."""
        if self._device.type == "cuda":
            return torch.cuda.memory_allocated(self._device)
        return _kilobytes("VmRSS:") * 1024

    def peak(self) -> int:
        """Bytes since ``reset``."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device)
        return _kilobytes("VmHWM:") * 1024


def _kilobytes(name: str) -> int:
    (found,) = (line for line in _STATUS.read_text().splitlines() if line.startswith(name))
    return int(found.split()[1])
