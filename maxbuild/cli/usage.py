"""Mistakes in the command line, as typer finds them, in the words and the form of all other errors."""

from __future__ import annotations

import re
from difflib import get_close_matches

import typer

from maxbuild.errors import UsageError


def usage_error(error: typer.TyperException) -> UsageError:
    """Return what typer found wrong as an error of ours, with the nearest option name or the way to the help."""
    # What typer raises carries what is asked for here though its public base class does not say so.
    context = getattr(error, "ctx", None)
    parameter = getattr(error, "param", None)
    hint = f"`{context.command_path if context else 'maxbuild'} --help` says how it is called"
    match type(error).__name__:
        case "NoSuchOption":
            option = str(getattr(error, "option_name", ""))
            return UsageError(f"no option is called `{option}`", hint=_nearest_option(option, context) or hint)
        case "MissingParameter" if parameter is not None:
            return UsageError(f"{parameter.param_type_name} `{_name(parameter)}` is missing", hint=hint)
        case "BadParameter" if parameter is not None:
            return UsageError(f"`{_name(parameter)}`: {_sentence(error.message)}", hint=hint)
        case _:
            return UsageError(_sentence(error.format_message()), hint=hint)


def _name(parameter: typer.CallbackParam) -> str:
    """Return how people write a parameter: its longest option name, or the placeholder of an argument."""
    if parameter.param_type_name == "option":
        return max(parameter.opts, key=len)
    return str(parameter.metavar or parameter.name)


def _sentence(text: str) -> str:
    """Return typer's sentence as ours are: no capital, no full stop, names in backticks."""
    line = re.sub(r"'([^']*)'", r"`\1`", text.strip().rstrip(".").removeprefix("Value error, "))
    return line[:1].lower() + line[1:]


def _nearest_option(option: str, context: typer.Context | None) -> str | None:
    if context is None:
        return None
    known = [name for parameter in context.command.params for name in (*parameter.opts, *parameter.secondary_opts)]
    known += getattr(context.command, "value_flags", ())
    near = get_close_matches(option, [name for name in [*known, "--help"] if name.startswith("--")], n=1)
    return f"did you mean `{near[0]}`?" if near else None
