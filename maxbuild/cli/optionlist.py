"""`maxbuild options`: every option of a manifest, and what becomes of its value."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from maxbuild.cli.files import leave
from maxbuild.cli.options import Json, OutputFile
from maxbuild.errors import UsageError
from maxbuild.manifest.options import (
    OPTIONS,
    PLACES,
    Option,
    find_anywhere,
    find_option,
    option_of_flag,
    options_at,
)
from maxbuild.manifest.suggest import did_you_mean, normal
from maxbuild.report.documents import document
from maxbuild.report.options import option_text, options_content, options_text
from maxbuild.report.terminal import terminal_of


def options(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="An option, or a section (`runtime`)."),
    ] = None,
    *,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print docs/reference/options.md, which is made of the same table.")
    ] = False,
    output: OutputFile = None,
    json: Json = False,
) -> None:
    """Show every option of a manifest: what it takes, what holds without it, what runs again when it changes.

    An option is effective, carried to a server in the package, or refused with a reason. None is ignored.
    """
    if markdown and (json or name):
        raise UsageError("`--markdown` is the whole page", hint="leave `--json` and the name out")
    if output is not None and not markdown:
        raise UsageError("`--output` takes the page", hint="add `--markdown`")
    if markdown:
        from maxbuild.report.options_page import options_page  # noqa: PLC0415 - who lists options has no use for it

        leave(options_page(), output)
        return
    found = named_options(name) if name else OPTIONS
    data = terminal_of(sys.stdout, os.environ)
    if json:
        typer.echo(document("options", {"options": options_content(found)}))
    elif len(found) == 1:
        data.write(option_text(found[0], data))
    else:
        data.write(options_text(found, data))


def named_options(name: str) -> tuple[Option, ...]:
    """Return the option that `name` is, or the options of the section that it is; UsageError where it is neither."""
    place, _, last = name.rpartition(".")
    by_flag = option_of_flag(name) or option_of_flag(f"--{name.replace('_', '-')}")
    if by_flag is not None:
        option = find_option(*by_flag)
    elif place:
        option = find_option(place, normal(last))
    else:
        option = find_anywhere(normal(name))
    if option is not None:
        return (option,)
    section = options_at(name if place == "models" else normal(name))
    if section and place in {"", "models"}:
        return section
    near = did_you_mean(last.lstrip("-"), (*(option.name for option in OPTIONS), *filter(None, PLACES)))
    raise UsageError(f"no option is called `{name}`", hint=near or "`maxbuild options` lists them")
