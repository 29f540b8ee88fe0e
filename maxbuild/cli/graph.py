"""`maxbuild graph`: the graph of tasks as a picture or in other notations."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from maxbuild.cli.files import leave
from maxbuild.cli.network import Offline
from maxbuild.cli.options import Json, ManifestOrValues, OutputFile, Overrides, Targets, Variants
from maxbuild.cli.project import open_project
from maxbuild.cli.values import said
from maxbuild.report.notations import dot, graph_document, mermaid
from maxbuild.report.picture import Picture, picture_of
from maxbuild.report.svg import svg


class Format(StrEnum):
    """How the graph is written."""

    SVG = "svg"
    DOT = "dot"
    MERMAID = "mermaid"
    JSON = "json"


def graph(
    context: typer.Context,
    manifest: ManifestOrValues = None,
    *,
    target: Targets = None,
    override: Overrides = None,
    variant: Variants = None,
    offline: Offline = False,
    notation: Annotated[Format, typer.Option("--format", "-f", help="How to write it.")] = Format.SVG,
    output: OutputFile = None,
    json: Json = False,
) -> None:
    """Draw the graph of tasks, each with its state.

    What is known only once a task has run is drawn dashed. For example `maxbuild graph demo.yaml -o demo.svg`.
    """
    with open_project(said(context, manifest, target, override, variant), offline=offline) as project:
        picture = picture_of(project.manifest.name, project.survey())
    leave(drawn(picture, Format.JSON if json else notation), output)


def drawn(picture: Picture, notation: Format) -> str:
    """Return the text of `picture` in `notation`."""
    match notation:
        case Format.SVG:
            return svg(picture)
        case Format.DOT:
            return dot(picture)
        case Format.MERMAID:
            return mermaid(picture)
        case Format.JSON:
            return graph_document(picture)
