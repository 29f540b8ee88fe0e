"""load: from weight files to tensors in the wanted encoding; what is right as it is stays where it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maxbuild.engine import JSON, Job, canonical_json
from maxbuild.steps.folder import POOLING, WEIGHTS, lay_out, under
from maxbuild.targets.environment import clear_environment, use_folder
from maxbuild.weights.selection import MODULES

INDEX = "index"
INDEX_SCHEMA = "maxbuild.weights.v1"


def run(job: Job) -> Mapping[str, Path]:
    """Find or make every tensor of the model.

    params: by name the options that are not the default. inputs: `config.json`, `weights/…`, `code/…`,
    `architectures/…`, the source of custom ones, and `pooling/…` of an embedding model. Leaves `index`, which says for
    each tensor the file and its name there, and one `weights/…` per file it names.
    """
    params: Mapping[str, Any] = job.params
    trusted = bool(params.get("trust_remote_code"))
    clear_environment()
    use_folder(job.scratch / "inductor")  # torch makes it, though nothing is compiled
    # Imported only now: torch reads the environment when it is imported.
    from maxbuild.architectures.registry import use_custom_architectures  # noqa: PLC0415
    from maxbuild.models.architecture import (  # noqa: PLC0415
        ENCODINGS,
        build_model_with_buffers,
        embeds,
        encoding_of,
        keep_repository_code_in,
        read_config,
    )
    from maxbuild.weights.packing import pack  # noqa: PLC0415

    use_custom_architectures(job.inputs, job.scratch)
    keep_repository_code_in(job.scratch / "modules")
    folder = lay_out(job.inputs, job.scratch / "model")
    config = read_config(folder, trust_remote_code=trusted)
    encoding = encoding_of(config, params.get("quantization_encoding"))
    embedding = embeds(config, pools=MODULES in under(job.inputs, POOLING))
    model = build_model_with_buffers(config, ENCODINGS[encoding], trust_remote_code=trusted, embedding=embedding)
    places, files = pack(
        model,
        under(job.inputs, WEIGHTS),
        folder,
        job.scratch / "packed",
        trust_remote_code=trusted,
        embedding=embedding,
    )

    document: JSON = {
        "schema": INDEX_SCHEMA,
        "encoding": encoding,
        "tensors": {name: {"file": place.file, "tensor": place.tensor} for name, place in places.items()},
    }
    index = job.scratch / "index.json"
    index.write_bytes(canonical_json(document))
    return {INDEX: index, **{f"{WEIGHTS}{file}": path for file, path in files.items()}}
