"""The package step: what the manifest says to a server arrives in the header, and nowhere else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from maxbuild.engine import Digest, Job, hash_file
from maxbuild.runtime.package import PackageHeader
from maxbuild.steps import package

SERVING = {
    "kv_cache": {"device_memory_utilization": "0.5", "kv_connector_config": '{"paths": ["/a", 7]}'},
    "models": {"main": {"devices": "gpu:1"}},
    "runtime": {"max_batch_size": 64, "enable_chunked_prefill": False},
}


def header_of(folder: Path, serving: dict[str, Any]) -> dict[str, Any]:
    """Run the step over a component with no regions and return the header that it leaves."""
    folder.mkdir()
    inputs = {}
    for role in ("main/program.json", "main/weights.json", "main/config.json"):
        inputs[role] = folder / role.replace("/", "-")
        inputs[role].write_text('{"vocab_size": 1}')
    params = {
        "name": "demo",
        "target": "cuda:sm_90",
        "components": {"main": {}},
        "speculative": None,
        "serving": serving,
        "built_with": {},
    }
    digests = {role: Digest(hash_file(path)) for role, path in inputs.items()}
    left = package.run(Job(params, inputs, folder, lambda *_: None, digests=digests))
    header: dict[str, Any] = json.loads(left["package"].read_bytes())
    return header


def test_serving_options_stand_in_the_header_as_they_were_said(tmp_path: Path) -> None:
    """`serving` is what the manifest carried, and a reader gets it back; all else is as without."""
    with_them, without = header_of(tmp_path / "a", SERVING), header_of(tmp_path / "b", {})
    assert with_them["serving"] == SERVING
    assert PackageHeader.from_json(with_them).serving == SERVING
    assert with_them | {"serving": {}} == without
