"""`maxbuild tune`: time on the device what a package leaves to choose, and keep the choice beside the package."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from maxbuild.cli.options import Json
from maxbuild.cli.package import Device, Package
from maxbuild.errors import UsageError
from maxbuild.report.documents import document
from maxbuild.report.terminal import Terminal, terminal_of

if TYPE_CHECKING:
    from maxbuild.runtime.tuning import Tuning


def tune(
    package: Package,
    *,
    device: Device = None,
    show: Annotated[bool, typer.Option("--show", help="Show what was found before, and run nothing.")] = False,
    remove: Annotated[
        bool, typer.Option("--remove", help="Remove it: the package runs as it was built again.")
    ] = False,
    json: Json = False,
) -> None:
    """Time the alternatives in a package on this host's GPU, and let what wins run from now on.

    What was found goes into PACKAGE.tuning.json beside the package, which stays as it is. It holds for this package,
    this kind of device and this torch; elsewhere the package runs as it was built.
    """
    if show and remove:
        raise UsageError("`--show` and `--remove` do not go together", hint="name one of them")
    # Imported here: `--help` needs none of it.
    from maxbuild.runtime.package import read_header  # noqa: PLC0415
    from maxbuild.runtime.tuning import tuning_file  # noqa: PLC0415
    from maxbuild.tuning.record import remove_tuning  # noqa: PLC0415

    talk = terminal_of(sys.stderr, os.environ)
    read_header(package)
    file = tuning_file(package)
    if remove:
        talk.write(f"removed {file}" if remove_tuning(file) else f"there is no {file}")
    else:
        _print(_read(package, file, talk) if show else _tune(package, device, file, talk), file, json=json)


def _read(package: Path, file: Path, talk: Terminal) -> Tuning:
    """Return what was found before, and say whether it is of this very build of the package."""
    from maxbuild.runtime.tuning import header_digest, read_tuning  # noqa: PLC0415

    found = read_tuning(file)
    if found is None:
        raise UsageError(f"there is no `{file}`", hint=f"`maxbuild tune {package}` makes it")
    if found.made_with.package != header_digest(package):
        talk.write("it was made for another build of the package, and is not used")
    return found


def _tune(package: Path, device: str | None, file: Path, talk: Terminal) -> Tuning:
    from maxbuild.tuning.on_device import tune_package  # noqa: PLC0415
    from maxbuild.tuning.record import write_tuning  # noqa: PLC0415

    found = tune_package(package, device, talk.write)
    write_tuning(found, file)
    talk.write(f"wrote {file}")
    return found


def _print(found: Tuning, file: Path, *, json: bool) -> None:
    from maxbuild.report.tuning import tuning_text  # noqa: PLC0415

    if json:
        content = {name: value for name, value in found.to_json().items() if name != "schema"}
        typer.echo(document("tune", {"file": str(file), **content}))
    else:
        data = terminal_of(sys.stdout, os.environ)
        data.write(tuning_text(found, data))
