"""What holds for the whole project: its public names, its imports, its metadata."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import viq

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src" / "viq").rglob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
MOST_LINES = 499


def packages_loaded_by(code: str) -> set[str]:
    """Runs ``code`` in a new interpreter and returns the top-level packages that it imported."""
    report = (
        "\nimport json, sys\n"
        "print()\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    process = subprocess.run(
        [sys.executable, "-c", code + report],
        capture_output=True,
        check=False,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=60,
    )
    assert process.returncode == 0, process.stderr
    return set(json.loads(process.stdout.splitlines()[-1]))


def packages_imported_by(source: Path) -> set[str]:
    """Returns the top-level packages that any import statement in ``source`` names."""
    names = set()
    for node in ast.walk(ast.parse(source.read_text("utf-8"), source)):
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names.add(node.module.partition(".")[0])
    return names


def pins() -> dict[str, str]:
    """Returns the version of each package in constraints.txt, by canonical name."""
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pairs = [line.split("==") for line in lines if not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pairs}


def test_public_names_are_frozen():
    assert viq.__all__ == [
        "Codes",
        "CodesError",
        "ConversionError",
        "FingerprintError",
        "ImageError",
        "InputError",
        "ModelError",
        "Tokenizer",
        "ViQError",
        "__version__",
        "load",
        "load_embedder",
    ]
    assert viq.__all__ == sorted(viq.__all__)


def test_every_public_name_is_there():
    missing = [name for name in viq.__all__ if not hasattr(viq, name)]
    assert not missing
    assert set(viq.__all__) <= set(dir(viq))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = viq.no_such_name


def test_importing_viq_loads_nothing_heavy():
    loaded = packages_loaded_by("import viq; assert viq.__version__")
    assert "viq" in loaded
    assert not loaded & {"PIL", "diffusers", "numpy", "torch"}


def test_asking_for_help_does_not_load_torch():
    loaded = packages_loaded_by(
        "from viq.cli.main import main\n"
        "try:\n"
        "    status = main(['--help'])\n"
        "except SystemExit as stop:\n"
        "    status = stop.code\n"
        "assert not status, status"
    )
    assert "viq" in loaded
    assert not loaded & {"PIL", "diffusers", "torch"}


def test_no_source_file_is_long():
    lines = {
        str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines()) for path in SOURCES
    }
    assert lines
    assert {path: count for path, count in lines.items() if count > MOST_LINES} == {}


def test_no_source_file_imports_torchvision_or_timm():
    imported = {str(path.relative_to(ROOT)): packages_imported_by(path) for path in SOURCES}
    assert any("torch" in packages for packages in imported.values())
    assert [path for path, names in imported.items() if names & {"timm", "torchvision"}] == []


def test_extras_are_the_six():
    assert set(EXTRAS) == {"app", "ask", "dev", "eval", "ray", "train"}


def test_every_direct_dependency_is_pinned_to_a_version_it_allows():
    requirements = [
        Requirement(text)
        for group in (PROJECT["dependencies"], *EXTRAS.values())
        for text in group
        if not text.startswith("viq[")  # an extra may hold another
    ]
    pinned = pins()
    assert requirements
    missing = [r.name for r in requirements if canonicalize_name(r.name) not in pinned]
    assert missing == []
    wrong = [r for r in requirements if pinned[canonicalize_name(r.name)] not in r.specifier]
    assert wrong == []


def test_constraints_are_versions_that_any_index_has():
    assert [pin for pin in pins().items() if not re.fullmatch(r"[0-9][0-9a-z.]*", pin[1])] == []
    assert not {"timm", "torchvision", "viq"} & set(pins())


def test_the_changelog_has_a_place_for_news():
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert re.search(r"^## \[?Unreleased\b", changelog, re.MULTILINE)


def test_the_installed_version_is_the_one_in_the_source():
    source = (ROOT / "src" / "viq" / "version.py").read_text("utf-8")
    assert re.search(rf'^__version__ = "{re.escape(viq.__version__)}"$', source, re.MULTILINE)
