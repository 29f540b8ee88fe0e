"""`${env:NAME}` in a value: what a variable of the environment holds, where the file declares that it reads it.

A file's own `environment` declares, for its values alone; so a reader sees in each file what of outside it depends on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from maxbuild.errors import Problem
from maxbuild.manifest.document import Document, Place, Steps, Value, describe
from maxbuild.manifest.nodes import Scalar
from maxbuild.manifest.suggest import did_you_mean

ENVIRONMENT: Final = "environment"
LONGEST_VALUE: Final = 1 << 16
_MARK: Final = "{env:"
# A doubled sign stands for itself, so that a text can hold what else would be replaced.
_REFERENCE: Final = re.compile(r"\$(\$?)\{env:([^{}]*)\}")
_NAME: Final = re.compile("[A-Za-z_][A-Za-z0-9_]*")
_DECLARE: Final = f"declare it at the top of this file: `{ENVIRONMENT}: [{{}}]`"


@dataclass(frozen=True, slots=True)
class Variable:
    """A declared variable: what it holds, or why nothing can be had of it."""

    text: str
    origin: str
    fault: tuple[str, str] | None = None


def expand_environment(document: Document, environ: Mapping[str, str]) -> Mapping[str, Variable]:
    """Replace what `document` refers to by what `environ` holds, and return its declarations, which are then gone.

    Whatever is referred to and not declared, or declared and not to be had, becomes a problem at the reference.
    """
    declared = _declared(document, environ) if ENVIRONMENT in document.root else {}
    expand_with(document, declared)
    return declared


def expand_with(document: Document, declared: Mapping[str, Variable]) -> None:
    """Replace what `document` refers to by what is `declared`, in this file or by the one that names it."""
    for steps, place in document.keys.items():
        if _MARK in str(steps[-1]):
            message = "a variable of the environment stands for a value, never for a key"
            document.problems.append(place.problem(message))
    _expand(document, (), document.root, declared)


def _expand(document: Document, steps: Steps, value: Value, declared: Mapping[str, Variable]) -> Value:
    match value:
        case Scalar(text=text) if _MARK in text:
            return _expanded(document, steps, value, declared)
        case dict():
            for key in value:
                value[key] = _expand(document, (*steps, key), value[key], declared)
        case list():
            value[:] = [_expand(document, (*steps, index), item, declared) for index, item in enumerate(value)]
    return value


def _expanded(document: Document, steps: Steps, scalar: Scalar, declared: Mapping[str, Variable]) -> Scalar:
    place = document.value_place(steps)
    found = list(_REFERENCE.finditer(scalar.text))
    names = [reference[2] for reference in found if not reference[1]]
    problems = [problem for name in names if (problem := _problem(name, place, declared))]
    if problems:
        document.problems += problems
        return scalar
    text = _REFERENCE.sub(lambda found: found[0][1:] if found[1] else declared[found[2]].text, scalar.text)
    if len(text) > LONGEST_VALUE:
        document.problems.append(place.problem(f"longer than {LONGEST_VALUE} characters with its variables replaced"))
        return scalar
    if names:
        document.origins[steps] = " + ".join(dict.fromkeys(declared[name].origin for name in names))
    # Where flow style demands quotes, a reference alone still takes the type of its field.
    alone = len(found) == 1 and found[0][0] == scalar.text and bool(names)
    return Scalar(scalar.position, text, plain=scalar.plain or alone)


def _problem(name: str, place: Place, declared: Mapping[str, Variable]) -> Problem | None:
    if not _NAME.fullmatch(name):
        return place.problem(f"`${{env:{name}}}` names no variable of the environment", "for example `${env:MODEL}`")
    variable = declared.get(name)
    if variable is None:
        hint = did_you_mean(name, declared) or _DECLARE.format(name)
        return place.problem(f"the environment variable `{name}` is not declared", hint)
    return place.problem(*variable.fault) if variable.fault else None


def _declared(document: Document, environ: Mapping[str, str]) -> dict[str, Variable]:
    """Return the variables that the file declares, and take the declaration out of it."""
    said = document.root.pop(ENVIRONMENT)
    declared: dict[str, Variable] = {}
    for steps, name, default in _declarations(document, said):
        place = document.key_place(steps)
        if not _NAME.fullmatch(name):
            message = f"`{name}` is no name for a variable of the environment"
            document.problems.append(place.problem(message, "letters, digits and `_`, no digit first"))
        elif name in declared:
            document.problems.append(place.problem(f"`{name}` is declared twice"))
        else:
            declared[name] = _variable(name, default, environ)
    return declared


def _declarations(document: Document, said: Value) -> Iterator[tuple[Steps, str, str | None]]:
    """Yield place, name and default of each declaration: of a list's names, and of mappings from names to defaults."""
    for index, item in enumerate(said if isinstance(said, list) else [said]):
        steps: Steps = (ENVIRONMENT, index) if isinstance(said, list) else (ENVIRONMENT,)
        match item:
            case Scalar(text=text) if isinstance(said, list) and not item.empty:
                yield steps, text, None
            case dict():
                for name, default in item.items():
                    if isinstance(default, Scalar) and _MARK not in default.text:
                        yield (*steps, name), name, None if default.empty else default.text
                    else:
                        message = f"the default of `{name}` must be a text or a number, not {describe(default)}"
                        document.problems.append(document.value_place((*steps, name)).problem(message))
            case Scalar() if item is said and item.empty:
                pass
            case _:
                message = f"`{ENVIRONMENT}` lists names of variables, and {describe(item)} is none"
                hint = f"for example `{ENVIRONMENT}: [MODEL, {{LENGTH: 512}}]`"
                document.problems.append(document.value_place(steps).problem(message, hint))


def _variable(name: str, default: str | None, environ: Mapping[str, str]) -> Variable:
    # Empty is as good as unset: that is how CI systems pass on what nobody set.
    text = environ.get(name)
    origin = f"environment {name}"
    if not text:
        fault = None
        if default is None:
            state = "empty" if text == "" else "not set"
            hint = f"set it, or declare a default: `{ENVIRONMENT}: {{{name}: …}}`"
            fault = (f"the environment variable `{name}` is {state}", hint)
        return Variable(default or "", f"{origin} (its default)", fault)
    if any(0xDC80 <= ord(character) <= 0xDCFF for character in text):
        return Variable("", origin, (f"the environment variable `{name}` is not UTF-8", "set it to a text"))
    return Variable(text, origin)
