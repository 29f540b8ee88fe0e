"""package: everything for one target, as a header that names the content of every file; weights are not copied here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from maxbuild.engine import Job, canonical_json, hash_file
from maxbuild.errors import TaskFailed
from maxbuild.runtime.package import ComponentEntry, FileEntry, PackageHeader, SpeculativeEntry
from maxbuild.targets.archive import assemble

PACKAGE = "package"
FILES = "files/"

_TEMPLATE = "chat_template.jinja"
_PARTS = ("program.json", "weights.json")
_CODE, _LIBRARIES = _HALVES = ("regions/", "libraries/")


def run(job: Job) -> Mapping[str, Path]:
    """Put a package together.

    params: name, target, components (serving options by role), speculative, built_with. inputs: `ROLE/program.json`,
    `ROLE/weights.json`, `ROLE/weights/…`, `ROLE/regions/…` and `ROLE/libraries/…` (the halves of regions) and the
    model's own files. Leaves `package`, the header, and one `files/…` for each file that is made here.
    """
    params: Mapping[str, Any] = job.params
    _check_vocabularies(job, params["components"])
    outputs: dict[str, Path] = {}
    files: dict[str, FileEntry] = {}
    components: dict[str, ComponentEntry] = {}
    for role, options in params["components"].items():
        made = _make_template(job, role, options["chat_template"])
        assembled = _assemble_regions(job, role)
        components[role] = _component(job, role, options, files, made, assembled)
        # The model's own files are handed on as well: the store knows what tasks leave, not what they read.
        own = {path: job.inputs[path] for path in components[role].files.values() if path in job.inputs}
        outputs.update({f"{FILES}{path}": file for path, file in {**own, **made}.items()})
        outputs.update({f"{FILES}{components[role].regions[name]}": path for name, path in assembled.items()})
    header = PackageHeader(
        name=params["name"],
        target=params["target"],
        components=components,
        speculative=None if params["speculative"] is None else SpeculativeEntry(**params["speculative"]),
        built_with=params["built_with"],
        files=dict(sorted(files.items())),
    )
    path = job.scratch / "package.json"
    path.write_bytes(canonical_json(header.to_json()))
    return {PACKAGE: path, **outputs}


def _check_vocabularies(job: Job, roles: Iterable[str]) -> None:
    """Raise TaskFailed unless the draft has the main model's vocabulary: its tokens become the main model's input."""
    sizes = {role: json.loads(job.inputs[f"{role}/program.json"].read_bytes())["vocab_size"] for role in roles}
    if sizes.get("draft", sizes["main"]) != sizes["main"]:
        raise TaskFailed(
            f"`draft` has a vocabulary of {sizes['draft']} tokens, `main` one of {sizes['main']}",
            hint="speculative decoding needs a draft with the main model's tokenizer",
        )


def _component(
    job: Job,
    role: str,
    options: Mapping[str, Any],
    files: dict[str, FileEntry],
    made: Mapping[str, Path],
    assembled: Mapping[str, Path],
) -> ComponentEntry:
    """Enter a component's files into `files` and return what the header says of it."""
    own: dict[str, str] = {}
    for input_role, path in sorted(job.inputs.items()):
        if not input_role.startswith(f"{role}/"):
            continue
        name = input_role.removeprefix(f"{role}/")
        if name.startswith(_HALVES):
            continue
        files[input_role] = FileEntry(job.digests[input_role], path.stat().st_size)
        if "/" not in name and name not in _PARTS:
            own[name] = input_role
    for place, path in made.items():
        files[place] = FileEntry(hash_file(path), path.stat().st_size)
        own[place.removeprefix(f"{role}/")] = place
    regions = {}
    for region, path in assembled.items():
        entry = FileEntry(hash_file(path), path.stat().st_size)
        # By content, so that components which share a region share its file.
        regions[region] = f"regions/{entry.sha256[:16]}.pt2"
        files[regions[region]] = entry
    program, weights = (f"{role}/{part}" for part in _PARTS)
    return ComponentEntry(program, weights, regions, own, options["served_model_name"])


def _assemble_regions(job: Job, role: str) -> dict[str, Path]:
    """Put the halves of a component's regions together and return the `.pt2` files by region."""
    folder = job.scratch / role / "regions"
    folder.mkdir(parents=True)
    assembled = {}
    for input_role, code in sorted(job.inputs.items()):
        if input_role.startswith(f"{role}/{_CODE}"):
            name = input_role.removeprefix(f"{role}/{_CODE}")
            assembled[name] = folder / f"{name}.pt2"
            assemble(code, job.inputs[f"{role}/{_LIBRARIES}{name}"], assembled[name])
    return assembled


def _make_template(job: Job, role: str, template: str | None) -> dict[str, Path]:
    """Write the manifest's chat template, which stands in for the model's own."""
    if template is None:
        return {}
    path = job.scratch / role / _TEMPLATE
    path.parent.mkdir(exist_ok=True)
    path.write_text(template, encoding="utf-8")
    return {f"{role}/{_TEMPLATE}": path}
