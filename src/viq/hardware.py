"""What a computation ran on, by name."""

import platform
from pathlib import Path

import torch


def hardware(device: torch.device | str) -> str:
    """The GPU's name; of the CPU its name, with how many of its threads there are."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]} x {len(names)}" if names else platform.machine()
