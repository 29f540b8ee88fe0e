"""Precedence: of two layers that say one value, the one that docs/manifest.md has later counts, and is its origin."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from manifest_files import HEAD, write

from maxbuild.manifest import load_manifest
from maxbuild.manifest.flags import Flag

DOCUMENTED = Path(__file__).parents[2] / "docs" / "manifest.md"
LAYERS = ("defaults", "config file", "extended manifests", "manifest", "matrix", "overrides", "command line")

# Each layer says another length, by which it is known.
LENGTHS = dict(zip(LAYERS, (None, 11, 22, 33, 44, 55, 66), strict=True))
ORIGINS = {
    "defaults": "default",
    "config file": "config_file .*config.yaml:1",
    "extended manifests": "extends .*base.yaml:1",
    "manifest": "manifest",
    "matrix": "matrix",
    "overrides": "override#1",
    "command line": "flag",
}


def length_said_by(
    folder: Path, layers: tuple[str, ...], flag: Callable[[int], dict[str, object]]
) -> tuple[object, str]:
    """Return the length that counts where `layers` say one, and its origin."""

    def said(layer: str, text: str) -> str:
        return text.format(LENGTHS[layer]) if layer in layers else ""

    path = write(
        folder,
        {
            "top.yaml": f"{HEAD}extends: base.yaml\nmodels: {{main: {{model_path: a/b, config_file: config.yaml"
            + said("manifest", ", max_length: {}")
            + "}}\n"
            + said("matrix", "matrix: {{main.max_length: [{}]}}\n")
            + said("overrides", "overrides: [main.max_length={}]\n"),
            "base.yaml": said("extended manifests", "models: {{main: {{max_length: {}}}}}\n") or "name: base\n",
            "config.yaml": said("config file", "max_length: {}\n") or "subfolder: x\n",
        },
    )
    manifest = load_manifest(path, **(flag(66) if "command line" in layers else {}))  # type: ignore[arg-type]
    manifest = manifest.variants[0] if manifest.variants else manifest
    return manifest.models["main"].max_length, manifest.origins["main.max_length"]


WORDS: dict[str, Callable[[int], dict[str, object]]] = {
    "flag": lambda length: {"flags": [Flag("--max-length", str(length))]},
    "override": lambda length: {"overrides": [f"main.max_length={length}"]},
}


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize(("lower", "upper"), list(itertools.pairwise(LAYERS)))
def test_of_two_neighbouring_layers_the_later_counts(tmp_path: Path, lower: str, upper: str, word: str) -> None:
    """Each layer counts over the one before it, whichever of its forms the command line takes."""
    length, origin = length_said_by(tmp_path, (lower, upper), WORDS[word])
    assert length == LENGTHS[upper]
    assert re.fullmatch(ORIGINS[upper], origin)


@pytest.mark.parametrize("count", range(1, len(LAYERS)))
def test_the_last_layer_that_says_a_value_counts(tmp_path: Path, count: int) -> None:
    """However many layers say a value, the last of them counts; that makes the pairs an order."""
    length, origin = length_said_by(tmp_path, LAYERS[:count], WORDS["flag"])
    assert length == LENGTHS[LAYERS[count - 1]]
    assert re.fullmatch(ORIGINS[LAYERS[count - 1]], origin)


def test_documentation_has_the_layers_in_this_order() -> None:
    """What people read is what is tested here."""
    listed = re.findall(r"^\d\. \*\*(.*?)\*\*", DOCUMENTED.read_text(encoding="utf-8"), re.MULTILINE)
    assert tuple(listed) == LAYERS
