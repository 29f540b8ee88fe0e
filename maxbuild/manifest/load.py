"""Reading a manifest: from files and the command line's words to a `Manifest`, or to every problem at once.

What is said lies in layers, each over the one before: defaults, config files, extended manifests, the manifest, its
matrix, its overrides, the command line. What a manifest does not use is not even imported.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from maxbuild.errors import ManifestError, Problem
from maxbuild.manifest.document import Document, read_document
from maxbuild.manifest.model import Manifest, ModelConfig
from maxbuild.manifest.names import Sifted, sift
from maxbuild.manifest.options import KNOWN_ROLES, SPECULATIVE
from maxbuild.manifest.overrides import apply_overrides, written_overrides
from maxbuild.manifest.sections import SECTION_MODELS
from maxbuild.manifest.tokens import refuse_tokens
from maxbuild.manifest.validate import validated

if TYPE_CHECKING:
    from maxbuild.manifest.environment import Variable
    from maxbuild.manifest.flags import Flag
    from maxbuild.manifest.matrix import Variant


@dataclass(frozen=True, slots=True)
class Words:
    """What a command line says of a manifest: its flags, and which variants are wanted; none means all."""

    targets: Sequence[str] = ()
    overrides: Sequence[str] = ()
    flags: Sequence[Flag] = ()
    variants: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """A manifest, or one variant of it, and the values that it was made of, each with its place."""

    name: str
    manifest: Manifest
    said: Sifted
    document: Document


def load_manifest(
    path: Path | None,
    *,
    targets: Sequence[str] | None = None,
    overrides: Sequence[str] = (),
    flags: Sequence[Flag] = (),
    variants: Sequence[str] = (),
) -> Manifest:
    """Read the manifest at `path`, or of None what the flags alone say; ManifestError with every problem in it.

    `targets`, where there are any, stand in for the manifest's own list; `overrides` apply after the manifest's. Where
    a matrix makes several variants, what comes is the first with all of them in `variants`, under the one name.
    """
    readings = read_variants(path, Words(targets or (), overrides, flags, variants))
    first = readings[0].manifest
    if not first.variant:
        return first
    made = tuple(reading.manifest for reading in readings)
    together = tuple(dict.fromkeys(target for variant in made for target in variant.targets))
    whole = {"name": readings[0].name, "targets": together, "variant": "", "variants": made}
    return first.model_copy(update=whole)


def read_variants(path: Path | None, words: Words, environ: Mapping[str, str] | None = None) -> list[Reading]:
    """Read what `load_manifest` reads, and return a reading for each variant; for a manifest without a matrix, one."""
    document, declared = _read(path, os.environ if environ is None else environ)
    variants = _variants(document, words.variants)
    if not variants:
        return [_settle(document, path, words, declared, None)]
    readings: list[Reading] = []
    problems: list[Problem] = []
    for variant in variants:
        try:
            readings.append(_settle(document.copy(), path, words, declared, variant))
        except ManifestError as error:
            problems += error.problems
    _raise_any(document, problems)
    return readings


def _read(path: Path | None, environ: Mapping[str, str]) -> tuple[Document, Mapping[str, Variable]]:
    """Return what the file at `path` says with all that it extends, and the variables that it declares."""
    if path is None:
        from maxbuild.manifest.flags import blank_document  # noqa: PLC0415

        return blank_document(), {}
    document = read_document(Path(path))
    declared: Mapping[str, Variable] = {}
    if "environment" in document.root or document.mentions("{env:"):
        from maxbuild.manifest.environment import expand_environment  # noqa: PLC0415

        before = len(document.problems)
        declared = expand_environment(document, environ)
        if len(document.problems) > before:  # what is not known would only look wrong
            _raise_any(document, [])
    if "extends" in document.root:
        from maxbuild.manifest.extends import lay_bases_under  # noqa: PLC0415

        if not lay_bases_under(document, environ):
            _raise_any(document, [])
    return document, declared


def _variants(document: Document, wanted: Sequence[str]) -> Sequence[Variant]:
    """Return the variants that the matrix of `document` makes, those that are wanted; none without a matrix."""
    if "matrix" not in document.root and not wanted:
        return ()
    from maxbuild.manifest.matrix import choose, take_matrix  # noqa: PLC0415

    variants = take_matrix(document) if "matrix" in document.root else []
    chosen = choose(document, variants, wanted)
    if not chosen:
        _raise_any(document, [])
    return chosen


def _settle(
    document: Document,
    path: Path | None,
    words: Words,
    declared: Mapping[str, Variable],
    variant: Variant | None,
) -> Reading:
    """Return what `document` comes to with all that is said over and under it; ManifestError with every problem."""
    if variant is not None:
        variant.apply(document)
    apply_overrides(document, written_overrides(document))
    if words.flags or words.overrides or words.targets:
        from maxbuild.manifest.flags import apply_flags  # noqa: PLC0415

        apply_flags(document, words.flags, words.overrides, words.targets)
    if _names_config_file(document):
        from maxbuild.manifest.config_file import lay_config_files_under  # noqa: PLC0415

        lay_config_files_under(document, declared)
    if path is None:
        from maxbuild.manifest.flags import complete  # noqa: PLC0415

        complete(document)
    if refuse_tokens(document):
        _raise_any(document, [])
    sifted = _in_order_of_roles(sift(document))
    _take_overrides(sifted, words.overrides)
    _check_roles(document)
    name = str(sifted.top.get("name", ""))
    if variant is not None and variant.label:
        sifted.top["variant"] = variant.label
        if name:
            sifted.top["name"] = f"{name}-{variant.suffix}"
    manifest = _build(document, sifted, path)
    if manifest is not None and manifest.speculative is not None:
        from maxbuild.manifest.speculation import check_lengths  # noqa: PLC0415

        check_lengths(document, manifest)
    _raise_any(document, [])
    assert manifest is not None
    return Reading(name, manifest, sifted, document)


def _in_order_of_roles(sifted: Sifted) -> Sifted:
    """Return `sifted` with `main` first, whichever file said a role first, so that plans list them alike."""
    known = [role for role in KNOWN_ROLES if role in sifted.models]
    return replace(sifted, models={role: sifted.models[role] for role in dict.fromkeys([*known, *sifted.models])})


def _names_config_file(document: Document) -> bool:
    models = document.root.get("models")
    roles = models.values() if isinstance(models, dict) else ()
    return any(isinstance(fields, dict) and {"config_file", "section_name"} & fields.keys() for fields in roles)


def _take_overrides(sifted: Sifted, overrides: Sequence[str]) -> None:
    """Put the command line's overrides behind those of the manifest, for whoever wants to see them all."""
    if overrides:
        listed = sifted.top.setdefault("overrides", [])
        if isinstance(listed, list):
            listed.extend(overrides)


def _check_roles(document: Document) -> None:
    """Tell of roles that are missing, and of a draft and a speculative section without each other."""
    models = document.root.get("models")
    if not isinstance(models, dict):
        if models is None:
            place = document.value_place(("models",))
            hint = "for example `models: {main: {model_path: ./model}}`"
            document.problems.append(place.problem("`models` is missing", hint))
        return
    tell = document.problems.append
    if "main" not in models:
        place = document.key_place(("models",))
        tell(place.problem("role `main` is missing from `models`", "for example `main: {model_path: ./model}`"))
    if "draft" in models and SPECULATIVE not in document.root:
        place = document.key_place(("models", "draft"))
        tell(
            place.problem(
                "a `draft` needs a `speculative` section",
                "for example `speculative: {speculative_method: standalone, num_speculative_tokens: 4}`",
            )
        )
    if SPECULATIVE in document.root and "draft" not in models:
        place = document.key_place((SPECULATIVE,))
        tell(place.problem("a `speculative` section needs a role `draft` in `models`"))


def _build(document: Document, sifted: Sifted, path: Path | None) -> Manifest | None:
    """Return the manifest of `sifted`, None where some part of it does not hold; then `document` knows why."""
    # What no file says lies where the command was typed, and is called as it would be if it were written down there.
    file = Path(f"{sifted.top.get('name', 'model')}.yaml") if path is None else Path(path)
    folder = file.parent
    models = {
        role: validated(ModelConfig, fields, document, ("models", role), folder)
        for role, fields in sifted.models.items()
    }
    sections = {
        name: validated(SECTION_MODELS[name], fields, document, (name,), folder)
        for name, fields in sifted.sections.items()
        if name in SECTION_MODELS
    }
    return validated(
        Manifest,
        {
            **sifted.top,
            "models": {role: model for role, model in models.items() if model is not None},
            **{name: section for name, section in sections.items() if section is not None},
            "path": file,
            "origins": _origins(document, sifted),
        },
        document,
        (),
        folder,
    )


def _origins(document: Document, sifted: Sifted) -> dict[str, str]:
    """Return who had the last word on each value, by `role.field`, `section.field` or the name at the top."""
    origins = {name: document.origin((name,)) for name in ("version", "name", "targets")}
    if "custom_architectures" in sifted.top:
        origins["custom_architectures"] = document.origin(("custom_architectures",))
    for role, fields in sifted.models.items():
        for field in ModelConfig.model_fields:
            origins[f"{role}.{field}"] = document.origin(("models", role, field)) if field in fields else "default"
    for section, model in SECTION_MODELS.items():
        if section == SPECULATIVE and section not in sifted.sections:
            continue
        fields = sifted.sections.get(section, {})
        for field in model.model_fields:
            origins[f"{section}.{field}"] = document.origin((section, field)) if field in fields else "default"
    return origins


def _raise_any(document: Document, problems: Sequence[Problem]) -> None:
    """Raise ManifestError with the problems of `document` and `problems`, if there are any."""

    def in_order(problem: Problem) -> tuple[bool, bool, str, int, int]:
        """Sort by place, the manifest's own file first and what was said on the command line last."""
        elsewhere = problem.file != document.file
        return problem.line == 0, elsewhere, problem.file if elsewhere else "", problem.line, problem.column

    # What stands in an aliased mapping is found wrong once per use, in the same words at the same place.
    found = dict.fromkeys([*document.problems, *problems])
    if found:
        raise ManifestError(sorted(found, key=in_order))
