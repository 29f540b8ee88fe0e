"""Reading a manifest: from a file and the command line's words to a `Manifest`, or to every problem at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from maxbuild.errors import ManifestError, Problem
from maxbuild.manifest.document import Document, Place, read_document
from maxbuild.manifest.model import Manifest, ModelConfig, SpeculativeConfig
from maxbuild.manifest.names import Sifted, sift
from maxbuild.manifest.options import SPECULATIVE
from maxbuild.manifest.overrides import apply_overrides, collect_overrides
from maxbuild.manifest.validate import validated


def load_manifest(path: Path, *, targets: Sequence[str] | None = None, overrides: Sequence[str] = ()) -> Manifest:
    """Read the manifest at `path`; ManifestError with every problem in it.

    `targets`, where there are any, stand in for the manifest's own list; `overrides` apply after the manifest's.
    """
    path = Path(path)
    document = read_document(path)
    overridden = apply_overrides(document, collect_overrides(document, overrides))
    sifted = sift(document)
    _take_flags(document, sifted, targets or (), overrides)
    _check_roles(document, sifted)
    manifest = _build(document, sifted, path, _origins(sifted, overridden, targets=bool(targets)))
    if manifest is None or document.problems:
        # What stands in an aliased mapping is found wrong once per use, in the same words at the same place.
        raise ManifestError(sorted(dict.fromkeys(document.problems), key=_in_order_of_file))
    return manifest


def _take_flags(document: Document, sifted: Sifted, targets: Sequence[str], overrides: Sequence[str]) -> None:
    """Put the command line's words among the values of the file."""
    if targets:
        sifted.top["targets"] = list(targets)
        for index, target in enumerate(targets):
            document.values["targets", index] = Place(f"--target {target}")
    listed = sifted.top.setdefault("overrides", [])
    if isinstance(listed, list):
        listed.extend(overrides)


def _check_roles(document: Document, sifted: Sifted) -> None:
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
    if "draft" in models and sifted.speculative is None and SPECULATIVE not in document.root:
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


def _build(document: Document, sifted: Sifted, path: Path, origins: Mapping[str, str]) -> Manifest | None:
    """Return the manifest of `sifted`, None where some part of it does not hold; then `document` knows why."""
    folder = path.parent
    models = {
        role: validated(ModelConfig, fields, document, ("models", role), folder)
        for role, fields in sifted.models.items()
    }
    speculative = None
    if sifted.speculative is not None:
        speculative = validated(SpeculativeConfig, sifted.speculative, document, (SPECULATIVE,), folder)
    return validated(
        Manifest,
        {
            **sifted.top,
            "models": {role: model for role, model in models.items() if model is not None},
            "speculative": speculative,
            "path": path,
            "origins": origins,
        },
        document,
        (),
        folder,
    )


def _origins(sifted: Sifted, overridden: Mapping[str, str], *, targets: bool) -> dict[str, str]:
    """Return who had the last word on each value, by `role.field`, `speculative.field` or the name at the top."""
    origins = dict.fromkeys(("version", "name"), "manifest")
    origins["targets"] = "flag" if targets else "manifest"
    for role, fields in sifted.models.items():
        for field in ModelConfig.model_fields:
            name = f"{role}.{field}"
            origins[name] = overridden.get(name, "manifest") if field in fields else "default"
    if sifted.speculative is not None:
        for field in SpeculativeConfig.model_fields:
            origins[f"{SPECULATIVE}.{field}"] = "manifest" if field in sifted.speculative else "default"
    return origins


def _in_order_of_file(problem: Problem) -> tuple[bool, int, int]:
    """Sort by place, and what was said on the command line last."""
    return problem.line == 0, problem.line, problem.column
