"""package: everything for one target, as a header that names the content of every file; weights are not copied here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from maxbuild.engine import Job, canonical_json, hash_file
from maxbuild.models.vision_config import merge_vision_config
from maxbuild.runtime.package import ComponentEntry, FileEntry, PackageHeader, SamplersEntry, SpeculativeEntry
from maxbuild.steps.match import AGREEMENT_FILE, check_programs
from maxbuild.targets.archive import assemble
from maxbuild.weights.selection import CONFIG

PACKAGE = "package"
FILES = "files/"

_TEMPLATE = "chat_template.jinja"
_ARCHITECTURES = "architectures/"
_ALTERNATIVES = "alternatives/"
_SAMPLERS = "samplers/"
_PARTS = ("program.json", "weights.json")
_REGIONS = "regions/"
_LIBRARIES = "libraries/"


def run(job: Job) -> Mapping[str, Path]:
    """Put a package together.

    params: name, target, components (by role the options that are not the default), speculative, serving, built_with.
    inputs: `ROLE/program.json`, `ROLE/weights.json`, `ROLE/weights/…`, `ROLE/regions/…`, `ROLE/alternatives/RANK/…`,
    the model's own files, `samplers/program.json` and `samplers/regions/…`, with a draft `agreement.json`, and
    `architectures/…`, the source of custom ones. Of each region that is one half, `libraries/…` before the same name is
    the other. Leaves `package`, the header, and one `files/…` for each file that is made here or comes from the model
    or such source.
    """
    job, assembled = _put_together(job)
    params: Mapping[str, Any] = job.params
    if params["speculative"] is not None:
        check_programs(job, params["speculative"]["num_speculative_tokens"])
    outputs: dict[str, Path] = {}
    files: dict[str, FileEntry] = {}
    components: dict[str, ComponentEntry] = {}
    for role, options in params["components"].items():
        made = {**_make_template(job, role, options.get("chat_template")), **_make_config(job, role, options)}
        components[role] = _component(job, role, options, files, made)
        # The model's own files are handed on as well: the store knows what tasks leave, not what they read.
        own = {path: job.inputs[path] for path in components[role].files.values() if path in job.inputs}
        outputs.update({f"{FILES}{path}": file for path, file in {**own, **made}.items()})
    source = {role: path for role, path in job.inputs.items() if role.startswith(_ARCHITECTURES)}
    files.update({role: FileEntry(job.digests[role], path.stat().st_size) for role, path in source.items()})
    outputs.update({f"{FILES}{role}": path for role, path in source.items()})
    samplers = _samplers(job, files)
    outputs.update(
        {f"{FILES}{place}": assembled[file.sha256] for place, file in files.items() if file.sha256 in assembled}
    )
    header = PackageHeader(
        name=params["name"],
        target=params["target"],
        components=components,
        speculative=_speculative(job, params["speculative"]),
        samplers=samplers,
        built_with=params["built_with"],
        files=dict(sorted(files.items())),
        serving=params["serving"],
    )
    path = job.scratch / "package.json"
    path.write_bytes(canonical_json(header.to_json()))
    return {PACKAGE: path, **outputs}


def _put_together(job: Job) -> tuple[Job, Mapping[str, Path]]:
    """Return the job with whole regions in place of their halves, and these by digest."""
    inputs, digests = dict(job.inputs), dict(job.digests)
    assembled: dict[str, Path] = {}
    for number, name in enumerate(sorted(name for name in inputs if name.startswith(_LIBRARIES))):
        region = name.removeprefix(_LIBRARIES)
        path = job.scratch / _REGIONS / f"{number}.pt2"
        path.parent.mkdir(exist_ok=True)
        assemble(inputs[region], inputs.pop(name), path)
        inputs[region], digests[region] = path, hash_file(path)
        assembled[digests[region]] = path
    return replace(job, inputs=inputs, digests=digests), assembled


def _speculative(job: Job, said: Mapping[str, Any] | None) -> SpeculativeEntry | None:
    """Return how the draft is used: as the manifest says, and with the tokens that its match with `main` found."""
    if said is None:
        return None
    markers = json.loads(job.inputs[AGREEMENT_FILE].read_bytes())["thinking_tokens"]
    return SpeculativeEntry(**said, thinking_tokens=None if markers is None else (markers[0], markers[1]))


def _samplers(job: Job, files: dict[str, FileEntry]) -> SamplersEntry | None:
    """Enter the samplers' files into `files` and return what the header says of them; None where there are none."""
    program, prefix = f"{_SAMPLERS}program.json", f"{_SAMPLERS}regions/"
    if program not in job.inputs:
        return None
    entries = {
        name: FileEntry(job.digests[name], path.stat().st_size)
        for name, path in sorted(job.inputs.items())
        if name.startswith(_SAMPLERS)
    }
    files[program] = entries.pop(program)
    files.update({_place(entry): entry for entry in entries.values()})
    return SamplersEntry(program, {name.removeprefix(prefix): _place(entry) for name, entry in entries.items()})


def _component(
    job: Job, role: str, options: Mapping[str, Any], files: dict[str, FileEntry], made: Mapping[str, Path]
) -> ComponentEntry:
    """Enter a component's files into `files` and return what the header says of it."""
    regions: dict[str, str] = {}
    own: dict[str, str] = {}
    for input_role, path in sorted(job.inputs.items()):
        if not input_role.startswith(f"{role}/") or input_role.startswith(f"{role}/{_ALTERNATIVES}"):
            continue
        name = input_role.removeprefix(f"{role}/")
        entry = FileEntry(job.digests[input_role], path.stat().st_size)
        place = input_role
        if name.startswith("regions/"):
            place = _place(entry)
            regions[name.removeprefix("regions/")] = place
        elif "/" not in name and name not in _PARTS:
            own[name] = place
        files[place] = entry
    for place, path in made.items():
        files[place] = FileEntry(hash_file(path), path.stat().st_size)
        own[place.removeprefix(f"{role}/")] = place
    program, weights = (f"{role}/{part}" for part in _PARTS)
    alternatives = _alternatives(job, role, files)
    return ComponentEntry(program, weights, regions, own, options.get("served_model_name"), alternatives)


def _alternatives(job: Job, role: str, files: dict[str, FileEntry]) -> dict[str, dict[str, str]]:
    """Enter a component's alternatives into `files`, and return their places by region and rank.

    One is left out that came out as the default did, or as one before it: where kernels had no other configurations.
    """
    alternatives: dict[str, dict[str, str]] = {}
    prefix = f"{role}/{_ALTERNATIVES}"
    for input_role in sorted(name for name in job.inputs if name.startswith(prefix)):
        rank, region = input_role.removeprefix(prefix).split("/", 1)
        entry = FileEntry(job.digests[input_role], job.inputs[input_role].stat().st_size)
        others = alternatives.get(region, {})
        if entry.sha256 != job.digests[f"{role}/regions/{region}"] and _place(entry) not in others.values():
            alternatives[region] = {**others, rank: _place(entry)}
            files[_place(entry)] = entry
    return alternatives


def _place(region: FileEntry) -> str:
    """Return where a region's artifact lies: by content, so that components which share a region share its file."""
    return f"regions/{region.sha256[:16]}.pt2"


def _make_template(job: Job, role: str, template: str | None) -> dict[str, Path]:
    """Write the manifest's chat template, which stands in for the model's own."""
    if template is None:
        return {}
    return _make(job, f"{role}/{_TEMPLATE}", template)


def _make_config(job: Job, role: str, options: Mapping[str, Any]) -> dict[str, Path]:
    """Write the model's config with the manifest's values merged into it, where there are any."""
    overrides = options.get("vision_config_overrides")
    if overrides is None:
        return {}
    place = f"{role}/{CONFIG}"
    merged = merge_vision_config(json.loads(job.inputs[place].read_bytes()), json.loads(overrides))
    return _make(job, place, json.dumps(merged, ensure_ascii=False, indent=2))


def _make(job: Job, place: str, text: str) -> dict[str, Path]:
    path = job.scratch / place
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return {place: path}
