"""The command line. Modules of commands are imported when their command is called, so each pays for itself alone."""

from __future__ import annotations

from maxbuild.cli.entry import main, run

__all__ = ["main", "run"]
