"""A custom architecture cut into regions, uncompiled: its blocks, its operators, and its numbers."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from architectures.sources import EXAMPLE
from model_families import bind, worst_error
from transformers import AutoModelForCausalLM, PreTrainedConfig

from maxbuild.architectures.importing import import_architectures
from maxbuild.architectures.registry import use_architectures
from maxbuild.errors import UnsupportedModel
from maxbuild.models.architecture import build_model, read_config
from maxbuild.models.outline import Outline, outline

OPERATOR = "tern.add_rms_norm.default"


def config_of(folder: Path, old: str = "", new: str = "") -> PreTrainedConfig:
    """Make a copy of the example, with a text replaced in its `__init__.py`, known; return its model's config."""
    shutil.copytree(EXAMPLE / "tern", folder / "tern" / "tern", ignore=shutil.ignore_patterns("__pycache__"))
    module = folder / "tern" / "tern" / "__init__.py"
    assert old in module.read_text()
    module.write_text(module.read_text().replace(old, new))
    use_architectures(import_architectures(folder))
    return read_config(EXAMPLE / "tiny-tern", trust_remote_code=False)


def outlined(config: PreTrainedConfig, *, use_subgraphs: bool = True) -> Outline:
    """Return the program and the regions of a model without data."""
    model = build_model(config, torch.float32, 64, trust_remote_code=False)
    return outline(model, 64, use_subgraphs=use_subgraphs)


@pytest.mark.parametrize("use_subgraphs", [True, False])
def test_regions_compute_what_the_eager_model_computes(tmp_path: Path, use_subgraphs: bool) -> None:
    """Prefill of rows of different length and decode steps, logits against the module's own attention."""
    config = config_of(tmp_path)
    made = outlined(config, use_subgraphs=use_subgraphs)
    eager = AutoModelForCausalLM.from_pretrained(
        EXAMPLE / "tiny-tern", dtype=torch.float32, attn_implementation="eager"
    ).eval()
    assert worst_error(bind(made, eager), eager, (24, 17, 9)) < 1e-4


def test_the_blocks_are_one_region_that_holds_the_operator(tmp_path: Path) -> None:
    """However many there are; the code around them does not hold it."""
    config = config_of(tmp_path)
    config.num_hidden_layers = 5
    made = outlined(config)
    assert list(made.regions) == ["decoder.full", "before", "after"]
    assert [step.region for step in made.program.steps].count("decoder.full") == 5
    holds = {name for name, region in made.regions.items() if OPERATOR in {node.operator for node in region.nodes}}
    assert holds == {"decoder.full"}


def test_an_operator_that_is_not_declared_is_refused_by_name(tmp_path: Path) -> None:
    """A region holds what somebody can lower, and nothing else."""
    config = config_of(tmp_path, "operators=(add_rms_norm,)", "operators=()")
    with pytest.raises(UnsupportedModel, match=r"the traced graph holds `tern\.add_rms_norm\.default`"):
        outlined(config)


@pytest.mark.parametrize("name", ["model.nowhere", "model.norm"])
def test_blocks_that_are_not_there_are_told(tmp_path: Path, name: str) -> None:
    """By the name that the architecture gave."""
    config = config_of(tmp_path, 'blocks="model.layers"', f'blocks="{name}"')
    with pytest.raises(UnsupportedModel, match=f"has no ModuleList `{name}`"):
        outlined(config)


def test_blocks_are_found_without_a_name(tmp_path: Path) -> None:
    """By their number, as in transformers' own models, where the layers' attention says so in its name."""
    named = outlined(config_of(tmp_path / "named"))
    assert outlined(config_of(tmp_path / "found", 'blocks="model.layers"', "blocks=None")) == named


def test_the_checkpoint_is_the_one_that_its_script_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Byte for byte, every file."""
    monkeypatch.syspath_prepend(EXAMPLE)
    import make_checkpoint

    make_checkpoint.make(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "make_checkpoint")
    names = sorted(path.name for path in (EXAMPLE / "tiny-tern").iterdir())
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    for name in names:
        assert (tmp_path / name).read_bytes() == (EXAMPLE / "tiny-tern" / name).read_bytes(), name
