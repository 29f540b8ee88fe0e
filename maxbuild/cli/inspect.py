"""`maxbuild inspect`: what packages hold and whether it fits their targets, without running any of it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from maxbuild.cli.options import Json
from maxbuild.report.documents import document
from maxbuild.report.terminal import terminal_of


def inspect(
    package: Annotated[list[Path], typer.Argument(metavar="PACKAGE...", help="Folders that `warm` printed.")],
    *,
    kernels: Annotated[
        bool, typer.Option("--kernels", "-k", help="A line per kernel: registers, memory, instructions.")
    ] = False,
    picture: Annotated[
        Path | None, typer.Option("--picture", metavar="FILE", help="Draw the comparison to FILE, as SVG.")
    ] = None,
    json: Json = False,
) -> None:
    """Show what packages hold, side by side, and check that it fits their targets; nothing of them is run.

    Exits with 1 where a check fails. For example `maxbuild inspect packages/demo/*/ --kernels --picture demo.svg`.
    """
    # Imported here: `--help` needs none of it.
    from maxbuild.cli.files import leave  # noqa: PLC0415
    from maxbuild.inspect.checks import Outcome  # noqa: PLC0415
    from maxbuild.inspect.package import inspect_package  # noqa: PLC0415
    from maxbuild.report.inspect import inspection_content, inspection_text  # noqa: PLC0415
    from maxbuild.report.inspect_picture import comparison_svg  # noqa: PLC0415

    inspections = [
        inspect_package(folder, with_instructions=kernels or json or picture is not None) for folder in package
    ]
    if picture is not None:
        leave(comparison_svg(inspections), picture)
    if json:
        typer.echo(document("inspect", inspection_content(inspections)))
    else:
        data = terminal_of(sys.stdout, os.environ)
        data.write(inspection_text(inspections, data, kernels=kernels))
    if any(inspection.with_outcome(Outcome.FAILED) for inspection in inspections):
        raise typer.Exit(1)
