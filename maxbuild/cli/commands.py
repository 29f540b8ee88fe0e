"""The commands by name, and the group that imports one only when it is called.

A command is a function of its own name in its module, or a group of them (a `typer.Typer`) of that name.
"""

from __future__ import annotations

import importlib
from difflib import get_close_matches
from typing import Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from maxbuild.errors import UsageError


class Entry(NamedTuple):
    """One command: its name, where it is, the line that the list of commands shows, and whether it takes values."""

    name: str
    module: str
    summary: str
    takes_values: bool = False
    """Whether every value of a manifest is a flag of the command."""


COMMANDS = (
    Entry(
        "warm", "maxbuild.cli.warm", "Build what a manifest describes, doing only what is missing.", takes_values=True
    ),
    Entry("plan", "maxbuild.cli.plan", "Show what `warm` would do, and do nothing.", takes_values=True),
    Entry("why", "maxbuild.cli.why", "Say why a task would run, or why it ran.", takes_values=True),
    Entry("log", "maxbuild.cli.log", "Print what a task printed."),
    Entry("runs", "maxbuild.cli.runs", "List the runs so far."),
    Entry("diff", "maxbuild.cli.diff", "Say what is different between two runs."),
    Entry("graph", "maxbuild.cli.graph", "Draw the graph of tasks.", takes_values=True),
    Entry("lock", "maxbuild.cli.lock", "Pin what a manifest takes from hubs, and say what changed.", takes_values=True),
    Entry("outdated", "maxbuild.cli.outdated", "Say which locked revisions have moved.", takes_values=True),
    Entry("run", "maxbuild.cli.package", "Load a package and let its model answer a prompt."),
    Entry("verify", "maxbuild.cli.package", "Check that a package is whole and runs here."),
    Entry("tune", "maxbuild.cli.tune", "Time on this GPU what a package leaves to choose, and keep the choice."),
    Entry("inspect", "maxbuild.cli.inspect", "Show what packages hold, and check that it fits their targets."),
    Entry("targets", "maxbuild.cli.targets", "List what packages can be built for, and what this host can."),
    Entry("cache", "maxbuild.cli.cache", "Look after the store of results: how much, how old, how sound."),
    Entry("manifest", "maxbuild.cli.manifest", "Print a manifest with all applied to it.", takes_values=True),
    Entry("options", "maxbuild.cli.optionlist", "List every option of a manifest, and what becomes of it."),
    Entry("schema", "maxbuild.cli.schema", "Print the JSON Schema of manifests."),
)


class Group(TyperGroup):
    """A group that answers a wrong name with the nearest right one."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that `args` begins with; UsageError where there is none of that name."""
        names = self.list_commands(ctx)
        if args[0] not in names and not args[0].startswith("-"):
            near = get_close_matches(args[0], names, n=1)
            hint = f"did you mean `{near[0]}`?" if near else f"commands: {', '.join(names)}"
            raise UsageError(f"no command is called `{ctx.command_path} {args[0]}`", hint=hint)
        return super().resolve_command(ctx, args)


class LazyGroup(Group):
    """The group of all commands: it knows their names and summaries, and imports one to call it."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - the signature is typer's
        """Return the names, in the order in which people meet them."""
        return [entry.name for entry in COMMANDS]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        """Import the command `cmd_name` and return it, None where there is none of that name."""
        entry = next((entry for entry in COMMANDS if entry.name == cmd_name), None)
        return None if entry is None else _load(entry)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(entry.name, entry.summary) for entry in COMMANDS])


def new_app(group: type[Group] = Group, **settings: Any) -> typer.Typer:
    """Return an empty group with the settings all commands share: plain help, and errors left to `main`."""
    return typer.Typer(
        cls=group, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, **settings
    )


def _load(entry: Entry) -> Any:
    """Import the command of `entry` and return it as typer calls it."""
    found = getattr(importlib.import_module(entry.module), entry.name)
    if isinstance(found, typer.Typer):
        return get_command(found)
    app = new_app()
    app.command(entry.name, cls=_class_of(entry), short_help=entry.summary)(found)
    return get_command(app)


def _class_of(entry: Entry) -> type[TyperCommand]:
    if not entry.takes_values:
        return TyperCommand
    from maxbuild.cli.values import ValuesCommand  # noqa: PLC0415 - it needs the table of options

    return ValuesCommand
