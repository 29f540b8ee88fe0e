"""Where data goes: stdout, or the file that was asked for."""

from __future__ import annotations

from pathlib import Path

import typer

from maxbuild.errors import UsageError


def leave(text: str, file: Path | None) -> None:
    """Print `text`, or write it to `file`; UsageError where that cannot be written."""
    if file is None:
        typer.echo(text.removesuffix("\n"))
        return
    try:
        file.write_text(text.removesuffix("\n") + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write `{file}`", causes=[error.strerror or str(error)]) from error
