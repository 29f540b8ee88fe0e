"""The values of a manifest as flags: every option of the table, in the ancestor's spelling, on each command that plans.

Invariant: the table alone says which flags there are. A command line without any of them costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand

from maxbuild.errors import UsageError
from maxbuild.manifest import Manifest, load_manifest
from maxbuild.manifest.load import Words

if TYPE_CHECKING:
    from maxbuild.manifest.flags import Flag

_META = "maxbuild.flags"
_HELP = (
    ("--model MODEL", "The main model: a folder, or a hub repository (`organization/name`)."),
    ("--draft-model-path MODEL", "The draft, for speculative decoding."),
    ("--max-length N, --draft-max-length N, …", "Any other option of the main model, and of its draft."),
    ("--num-speculative-tokens N, …", "Any option of a section."),
    ("--models JSON|FILE", "All models by role at once."),
    ("--config-file FILE, --section-name NAME", "Further values for the main model, or a section of them."),
    ("--name NAME", "What to call it; without a manifest, the model's own name."),
)


class ValuesCommand(TyperCommand):
    """A command that takes the values of a manifest as flags, besides its own options and in any order with them."""

    @property
    def value_flags(self) -> Sequence[str]:
        """Return the flags that say values, for whoever looks for the one that was meant."""
        from maxbuild.manifest.flags import all_flags  # noqa: PLC0415 - asked for only where one is wrong

        return all_flags()

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Keep the flags that say values for `said`, and parse what is left."""
        flags, rest = self._part(args)
        ctx.meta[_META] = flags
        parsed: list[str] = super().parse_args(ctx, rest)
        return parsed

    def _part(self, args: Sequence[str]) -> tuple[list[Flag], list[str]]:
        """Return the flags of `args`, and all other words."""
        own = {name: parameter for parameter in self.params for name in (*parameter.opts, *parameter.secondary_opts)}
        flags: list[Flag] = []
        rest: list[str] = []
        words = iter(args)
        for word in words:
            spelling, equals, text = word.partition("=")
            if word == "--":
                return flags, [*rest, word, *words]
            if spelling in own or not spelling.startswith("--"):
                rest.append(word)
                if spelling in own and not equals and not getattr(own[spelling], "is_flag", False):
                    rest += _next(words)
            elif flag := _flag(spelling, text if equals else None, words):
                flags.append(flag)
            else:
                rest.append(word)
        return flags, rest

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the command's own options, and of the flags that say values the most used and where all are."""
        super().format_options(ctx, formatter)
        with formatter.section("Values, over those of the manifest or in place of one"):
            formatter.write_dl(_HELP)
            formatter.write_paragraph()
            formatter.write_text("`maxbuild options` lists them all.")


def _flag(spelling: str, text: str | None, words: Iterator[str]) -> Flag | None:
    """Return the flag called `spelling`, with its value, which may be the next of `words`; None where there is none."""
    from maxbuild.manifest.flags import Flag, takes_value  # noqa: PLC0415 - most command lines have none

    takes_one = takes_value(spelling)
    if takes_one is None:
        return None
    if takes_one and text is None:
        text = next(words, None)
        if text is None:
            raise UsageError(f"`{spelling}` needs a value", hint="`maxbuild options` says which")
    if not takes_one and text is not None:
        raise UsageError(f"`{spelling}` takes no value", hint=f"write `{spelling}`, or `{_opposite(spelling)}`")
    return Flag(spelling, text)


def _opposite(spelling: str) -> str:
    return f"--{spelling[5:]}" if spelling.startswith("--no-") else f"--no-{spelling[2:]}"


def _next(words: Iterator[str]) -> list[str]:
    word = next(words, None)
    return [] if word is None else [word]


@dataclass(frozen=True, slots=True)
class Said:
    """What a command line says of a manifest: its file, None where flags alone say it, and all that goes over it."""

    file: Path | None
    words: Words

    def load(self) -> Manifest:
        """Read the manifest; ManifestError with every problem in it."""
        words = self.words
        return load_manifest(
            self.file,
            targets=words.targets,
            overrides=words.overrides,
            flags=words.flags,
            variants=words.variants,
        )


def names_model(context: typer.Context) -> bool:
    """Tell whether the flags of `context` say which model the main one is."""
    return any(flag.spelling in {"--model", "--model-path", "--models"} for flag in context.meta[_META])


def said(
    context: typer.Context,
    manifest: Path | None,
    target: Sequence[str] | None = None,
    override: Sequence[str] | None = None,
    variant: Sequence[str] | None = None,
) -> Said:
    """Return what the command line of `context` says; UsageError where it names neither a manifest nor any value."""
    flags = context.meta[_META]
    if manifest is None and not flags:
        hint = f"for example `{context.command_path} demo.yaml`, or `{context.command_path} --model organization/name`"
        raise UsageError("neither a manifest nor a model is named", hint=hint)
    return Said(manifest, Words(target or (), override or (), flags, variant or ()))
