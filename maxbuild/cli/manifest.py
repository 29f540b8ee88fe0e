"""`maxbuild manifest`: what a manifest, or flags alone, come to, as a manifest with nothing left to apply."""

from __future__ import annotations

from pathlib import Path

import typer

from maxbuild.cli.files import leave
from maxbuild.cli.options import ManifestOrValues, OutputFile, Overrides, Targets, Variants
from maxbuild.cli.values import said
from maxbuild.errors import UsageError
from maxbuild.manifest.load import read_variants
from maxbuild.manifest.write import manifest_text


def manifest(
    context: typer.Context,
    file: ManifestOrValues = None,
    *,
    target: Targets = None,
    override: Overrides = None,
    variant: Variants = None,
    output: OutputFile = None,
) -> None:
    """Print a manifest with all that is said applied, or what flags alone say as a manifest.

    What it extends, config files, variables, overrides and flags are in it; of a matrix, name one variant. Relative
    paths in it are relative to where it is written: FILE's folder, or this one.
    """
    asked = said(context, file, target, override, variant)
    readings = read_variants(asked.file, asked.words)
    if len(readings) > 1:
        labels = ", ".join(f"`{reading.manifest.variant}`" for reading in readings)
        raise UsageError(
            f"`{readings[0].name}` has {len(readings)} variants, and one manifest says one of them",
            hint=f"name one with `--variant`: {labels}",
        )
    leave(manifest_text(readings[0], Path() if output is None else output.parent), output)
