"""The arguments and options that several commands share, each described once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

ManifestFile: TypeAlias = Annotated[Path, typer.Argument(metavar="MANIFEST", help="The manifest, a YAML file.")]
ManifestOrValues: TypeAlias = Annotated[
    Path | None,
    typer.Argument(
        metavar="MANIFEST", help="The manifest, a YAML file; without one, the flags say it.", show_default=False
    ),
]
Targets: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--target",
        "-t",
        metavar="TARGET",
        help="Build for TARGET, not for the manifest's list; may be repeated. `maxbuild targets` lists them.",
    ),
]
Overrides: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--override",
        "--model-override",
        metavar="ROLE.FIELD=VALUE",
        help="Override one value, of a model or (`SECTION.FIELD=VALUE`) of a section; may be repeated.",
    ),
]
Variants: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--variant", metavar="VARIANT", help="Of the variants that a matrix makes, only VARIANT; may be repeated."
    ),
]
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
OutputFile: TypeAlias = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write to FILE, not to stdout.")
]
PackageFolder: TypeAlias = Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Where packages go.")]
RunName: TypeAlias = Annotated[
    str, typer.Argument(metavar="RUN", help="A run: its id or the beginning of one, `last`, `last~1`, ….")
]
