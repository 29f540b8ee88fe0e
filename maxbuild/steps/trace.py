"""trace: from a component's config to its program and its regions, on the meta device; no weight byte is read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maxbuild.architectures.cutting import LOWERINGS
from maxbuild.engine import Job, canonical_json
from maxbuild.steps.folder import POOLING, lay_out, under
from maxbuild.targets.environment import clear_environment, use_folder
from maxbuild.weights.selection import MODULES

PROGRAM = "program"
REGIONS = "regions/"


def run(job: Job) -> Mapping[str, Path]:
    """Outline the model that `config.json` describes.

    params: by name the options that are not the default. inputs: `config.json`, `code/…` where the repository's own
    code is trusted, `architectures/…`, the source of custom ones, and `pooling/…` of an embedding model. Leaves
    `program`, one `regions/…` per region, and for a region with operators of a custom architecture `lowerings/cpu/…`
    and `lowerings/gpu/…`.
    """
    params: Mapping[str, Any] = job.params
    trusted = bool(params.get("trust_remote_code"))
    clear_environment()
    use_folder(job.scratch / "inductor")  # torch makes it, though nothing is compiled
    # Imported only now: torch reads the environment when it is imported.
    from maxbuild.architectures.registry import use_custom_architectures  # noqa: PLC0415
    from maxbuild.models.architecture import (  # noqa: PLC0415
        ENCODINGS,
        build_model,
        embeds,
        encoding_of,
        keep_repository_code_in,
        max_length_of,
        read_config,
    )
    from maxbuild.models.ending import choose_ending  # noqa: PLC0415
    from maxbuild.models.outline import outline  # noqa: PLC0415

    custom = use_custom_architectures(job.inputs, job.scratch)
    keep_repository_code_in(job.scratch / "modules")
    config = read_config(
        lay_out(job.inputs, job.scratch / "model"),
        trust_remote_code=trusted,
        vision_config_overrides=json.loads(params.get("vision_config_overrides", "{}")),
    )
    dtype = ENCODINGS[encoding_of(config, params.get("quantization_encoding"))]
    max_length = max_length_of(config, params.get("max_length"))
    pooling_files = under(job.inputs, POOLING)
    embedding = embeds(config, pools=MODULES in pooling_files)
    results, pooling = choose_ending(params, pooling_files, embedding=embedding)
    model = build_model(config, dtype, max_length, trust_remote_code=trusted, embedding=embedding)
    cache_format = params.get("kv_cache", {}).get("kv_cache_format")
    outlined = outline(
        model,
        max_length,
        use_subgraphs=bool(params.get("use_subgraphs", True)),
        results=results,
        pooling=pooling,
        cache_dtype=ENCODINGS[cache_format] if cache_format else None,
    )

    outputs = {PROGRAM: _write(job.scratch / "program.json", outlined.program.to_json())}
    for name, region in outlined.regions.items():
        outputs[f"{REGIONS}{name}"] = _write(job.scratch / REGIONS / f"{name}.json", region.to_json())
        for family, document in custom.lowerings(node.operator for node in region.nodes).items():
            place = f"{LOWERINGS}{family}/{name}"
            outputs[place] = _write(job.scratch / f"{place}.json", document)
    return outputs


def _write(path: Path, document: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(canonical_json(document))
    return path
