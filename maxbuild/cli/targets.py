"""`maxbuild targets`: what packages can be built for, and what of it this host can build and run."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from maxbuild.cli.options import Json
from maxbuild.errors import UsageError
from maxbuild.report.documents import document
from maxbuild.report.targets import TargetFacts, sources_text, targets_content, targets_text
from maxbuild.report.terminal import terminal_of
from maxbuild.targets.devices import device_of
from maxbuild.targets.host import Host
from maxbuild.targets.parts import missing_parts
from maxbuild.targets.sources import sources_of
from maxbuild.targets.spelling import ARCHITECTURES, Target, all_targets


def targets(
    *,
    sources: Annotated[
        bool, typer.Option("--sources", help="Show all figures of the GPUs instead, and where each is from.")
    ] = False,
    json: Json = False,
) -> None:
    """List what packages can be built for, and what of it this host can build and run.

    Building for a GPU needs none, and no driver. The sizes of a GPU are those of the product named; shared memory is
    the most that one block can ask for. docs/targets.md says what packages take from them.
    """
    if sources and json:
        raise UsageError("`--sources` and `--json` do not go together", hint="the document has the sources too")
    host = Host()
    found = [_facts(target, host) for target in all_targets()]
    here = [host.find(api) for api in ARCHITECTURES]
    data = terminal_of(sys.stdout, os.environ)
    if json:
        typer.echo(document("targets", targets_content(found, here)))
    elif sources:
        data.write(sources_text(found, data))
    else:
        data.write(targets_text(found, here, data))


def _facts(target: Target, host: Host) -> TargetFacts:
    is_gpu = target.api != "cpu"
    return TargetFacts(
        target=target,
        device=device_of(target) if is_gpu else None,
        sources=sources_of(target) if is_gpu else {},
        missing=missing_parts(target),
        runs=host.runs(target),
    )
