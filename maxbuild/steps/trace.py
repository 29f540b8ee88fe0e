"""trace: from a component's config to its program and its regions, on the meta device; no weight byte is read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maxbuild.engine import Job, canonical_json
from maxbuild.steps.folder import lay_out
from maxbuild.targets.environment import clear_environment, use_folder

PROGRAM = "program"
REGIONS = "regions/"


def run(job: Job) -> Mapping[str, Path]:
    """Outline the model that `config.json` describes.

    params: encoding, max_length (None: what the config says), use_subgraphs, trust_remote_code. inputs: `config.json`,
    and `code/…` where the repository's own code is trusted. Leaves `program` and one `regions/…` per region.
    """
    params: Mapping[str, Any] = job.params
    trusted = bool(params["trust_remote_code"])
    clear_environment()
    use_folder(job.scratch / "inductor")  # torch makes it, though nothing is compiled
    # Imported only now: torch reads the environment when it is imported.
    from maxbuild.models.architecture import (  # noqa: PLC0415
        ENCODINGS,
        build_model,
        encoding_of,
        keep_repository_code_in,
        max_length_of,
        read_config,
    )
    from maxbuild.models.outline import outline  # noqa: PLC0415

    keep_repository_code_in(job.scratch / "modules")
    config = read_config(lay_out(job.inputs, job.scratch / "model"), trust_remote_code=trusted)
    dtype = ENCODINGS[encoding_of(config, params["encoding"])]
    max_length = max_length_of(config, params["max_length"])
    model = build_model(config, dtype, max_length, trust_remote_code=trusted)
    outlined = outline(model, max_length, use_subgraphs=bool(params["use_subgraphs"]))

    outputs = {PROGRAM: _write(job.scratch / "program.json", outlined.program.to_json())}
    for name, region in outlined.regions.items():
        outputs[f"{REGIONS}{name}"] = _write(job.scratch / REGIONS / f"{name}.json", region.to_json())
    return outputs


def _write(path: Path, document: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(canonical_json(document))
    return path
