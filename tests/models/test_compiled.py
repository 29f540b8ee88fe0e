"""Compiled regions: a few families, through AOTInductor, against eager."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from model_families import bind, make_config, make_eager_model, worst_error

from maxbuild.models.architecture import build_model
from maxbuild.models.outline import outline
from maxbuild.runtime.model import Region
from maxbuild.targets.archive import assemble, write_code
from maxbuild.targets.cpu import compile_region
from maxbuild.targets.recipe import carry_out
from maxbuild.targets.spelling import parse_target

pytestmark = pytest.mark.slow


# Gemma 3 is compiled by the demo's tests. These have what it has not: experts, and soft-capped scores.
@pytest.mark.parametrize("family", ["qwen3_moe", "gemma2"])
@pytest.mark.filterwarnings("ignore")
def test_compiled_model_equals_eager(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prefill and decode over compiled regions give eager's logits, one row and three of different lengths."""
    config = make_config(family, num_hidden_layers=2)
    eager = make_eager_model(make_config(family, num_hidden_layers=2))
    outlined = outline(build_model(config, torch.float32, 512, trust_remote_code=False), 512, use_subgraphs=True)
    regions = {}
    for name, graph in outlined.regions.items():
        folder = tmp_path / name
        for scratch in (folder / "code", folder / "library"):
            scratch.mkdir(parents=True)
        # As the compile step does: what the compiler is given has to lie in the scratch folder.
        monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(folder / "code" / "inductor"))
        compiled = compile_region(graph, parse_target("cpu"), folder / "code")
        write_code(compiled, folder / "code.pt2")
        library = carry_out(compiled.recipe, folder / "library", folder)
        assemble(folder / "code.pt2", library, folder / "region.pt2")
        regions[name] = Region(folder / "region.pt2")
    model = bind(outlined, eager, regions)
    assert worst_error(model, eager, [20]) < 1e-4
    assert worst_error(model, eager, [20, 13, 7]) < 1e-4
