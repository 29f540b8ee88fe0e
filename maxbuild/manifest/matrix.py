"""`matrix`: several variants of one manifest, as CI systems make several jobs of one description.

An axis is a field, written as in an override, with a list of values; `include` and `exclude` are those of GitHub's
workflows (https://docs.github.com/actions/how-tos/write-workflows/choose-what-workflows-do/run-job-variations).
Combinations that differ in their target alone are one variant with several targets.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Final

from maxbuild.errors import Problem
from maxbuild.manifest.document import Document, Place, Steps, Value, describe, plain
from maxbuild.manifest.names import judge_key
from maxbuild.manifest.nodes import Scalar
from maxbuild.manifest.options import ROLE
from maxbuild.manifest.overrides import Field, find_field, put_part
from maxbuild.manifest.suggest import did_you_mean

MATRIX: Final = "matrix"
TARGET: Final = "target"
MOST_VARIANTS: Final = 256
_INCLUDE, _EXCLUDE = "include", "exclude"
_HINT: Final = f"for example `{MATRIX}: {{quantization_encoding: [float32, bfloat16]}}`"


@dataclass(frozen=True, slots=True)
class Cell:
    """One value of an axis, and where it stands."""

    axis: str
    value: Value
    place: Place


Combination = Mapping[str, Cell]


@dataclass(frozen=True, slots=True)
class Variant:
    """One variant: how it is called, the values that make it what it is, and its targets where the matrix says them."""

    label: str
    cells: tuple[Cell, ...]
    targets: tuple[Cell, ...]

    @property
    def suffix(self) -> str:
        """Return what the name of the variant's packages ends with: the label as part of a name."""
        words = (word.strip(".") for word in re.split("[^A-Za-z0-9._]+", self.label))
        return "-".join(filter(None, words))

    def apply(self, document: Document) -> None:
        """Put the variant's values into `document`, over what its files say."""
        for cell in self.cells:
            for found in _fields(document, cell.axis):
                if problem := put_part(document, found.steps, cell.value, cell.place, MATRIX):
                    document.problems.append(problem)
        if self.targets:
            document.put(("targets",), [cell.value for cell in self.targets], self.targets[0].place, MATRIX)
            for index, cell in enumerate(self.targets):
                document.values["targets", index] = cell.place


def take_matrix(document: Document) -> list[Variant]:
    """Return the variants that the matrix of `document` makes; it is no key of `document` any more.

    None of them where the matrix says nothing, or where something is wrong with it, which becomes a problem.
    """
    said = document.root.pop(MATRIX)
    if isinstance(said, Scalar) and said.empty:
        return []
    before = len(document.problems)
    if not isinstance(said, dict):
        message = f"`{MATRIX}` must be a mapping of axes to lists of values, not {describe(said)}"
        document.problems.append(document.value_place((MATRIX,)).problem(message, _HINT))
        return []
    combinations = _combinations(document, said)
    if len(document.problems) > before:
        return []
    variants = _variants(combinations)
    _check_names(document, variants)
    return variants


def choose(document: Document, variants: list[Variant], wanted: Sequence[str]) -> list[Variant]:
    """Return those of `variants` that are `wanted`, by their labels or by some of their values; all where none is."""
    if not wanted:
        return variants
    chosen: list[Variant] = []
    for text in wanted:
        parts = set(text.split(","))
        found = [variant for variant in variants if variant.label == text]
        found = found or [variant for variant in variants if parts <= set(variant.label.split(","))]
        if not found:
            labels = [variant.label for variant in variants]
            hint = did_you_mean(text, labels) or f"variants: {', '.join(f'`{label}`' for label in labels) or 'none'}"
            document.problems.append(Place(f"--variant {text}").problem(f"no variant is called `{text}`", hint))
        chosen += found
    return [variant for variant in variants if variant in chosen]


def _combinations(document: Document, said: Mapping[str, Value]) -> list[Combination]:
    axes = {
        key: cells
        for key, value in said.items()
        if key not in (_INCLUDE, _EXCLUDE) and (cells := _cells(document, key, value))
    }
    tell = document.value_place((MATRIX,)).problem
    if prod(len(cells) for cells in axes.values()) > MOST_VARIANTS:
        document.problems.append(tell(f"`{MATRIX}` makes more than {MOST_VARIANTS} combinations"))
        return []
    crossed: list[Combination] = [
        {cell.axis: cell for cell in chosen} for chosen in itertools.product(*axes.values()) if chosen
    ]
    kept = _excluded(document, crossed, _entries(document, said, _EXCLUDE), axes)
    combinations = _included(kept, [entry for _, entry in _entries(document, said, _INCLUDE)])
    if TARGET in axes:
        for combination in combinations:
            if TARGET not in combination:
                message = f"this makes a combination without a `{TARGET}`, which is an axis of this matrix"
                document.problems.append(next(iter(combination.values())).place.problem(message))
    if not combinations and not document.problems:
        document.problems.append(tell(f"`{MATRIX}` leaves no combination", _HINT))
    elif len(combinations) > MOST_VARIANTS:
        document.problems.append(tell(f"`{MATRIX}` makes more than {MOST_VARIANTS} combinations"))
    return combinations


def _cells(document: Document, axis: str, value: Value) -> list[Cell]:
    """Return the values of one axis, none where something is wrong with it."""
    steps: Steps = (MATRIX, axis)
    if not _is_axis(document, axis, document.key_place(steps)):
        return []
    if not isinstance(value, list) or not value:
        message = f"the axis `{axis}` must be a list of at least one value, not {describe(value)}"
        document.problems.append(document.value_place(steps).problem(message, _HINT))
        return []
    cells = [Cell(axis, item, document.value_place((*steps, index))) for index, item in enumerate(value)]
    seen: set[str] = set()
    for cell in cells:
        if (spelling := _spelling(cell.value)) in seen:
            document.problems.append(cell.place.problem(f"{describe(cell.value)} is twice on the axis `{axis}`"))
        seen.add(spelling)
    return cells


def _entries(document: Document, said: Mapping[str, Value], key: str) -> list[tuple[Place, Combination]]:
    """Return the entries of `include` or `exclude`, each with its place."""
    listed = said.get(key, [])
    if isinstance(listed, Scalar) and listed.empty:
        return []
    entries: list[tuple[Place, Combination]] = []
    for index, item in enumerate(listed if isinstance(listed, list) else [listed]):
        steps: Steps = (MATRIX, key, index) if isinstance(listed, list) else (MATRIX, key)
        place = document.value_place(steps)
        if not isinstance(listed, list) or not isinstance(item, dict) or not item:
            hint = f"for example `{key}: [{{target: cpu, quantization_encoding: bfloat16}}]`"
            document.problems.append(place.problem(f"`{key}` lists mappings of axes to values", hint))
            continue
        cells = {}
        for axis, value in item.items():
            if _is_axis(document, axis, document.key_place((*steps, axis))):
                cells[axis] = Cell(axis, value, document.value_place((*steps, axis)))
        entries.append((place, cells))
    return entries


def _excluded(
    document: Document,
    combinations: list[Combination],
    entries: list[tuple[Place, Combination]],
    axes: Mapping[str, object],
) -> list[Combination]:
    """Return `combinations` without those that an entry matches; an entry that matches none is a mistake."""
    left = combinations
    for place, entry in entries:
        strange = [cell for cell in entry.values() if cell.axis not in axes]
        problems = [cell.place.problem(f"`{cell.axis}` is no axis of this matrix") for cell in strange]
        if not problems and not any(_matches(entry, combination) for combination in combinations):
            problems = [place.problem("no combination of the matrix is like this, so it excludes nothing")]
        document.problems += problems
        left = [combination for combination in left if not _matches(entry, combination)]
    return left


def _matches(entry: Combination, combination: Combination) -> bool:
    return all(axis in combination and _same(cell.value, combination[axis].value) for axis, cell in entry.items())


def _included(crossed: list[Combination], entries: list[Combination]) -> list[Combination]:
    """Return `crossed` with each entry added to those whose own values it leaves; else it is one of its own."""
    extended = [dict(combination) for combination in crossed]
    added: list[Combination] = []
    for entry in entries:
        fitting = [
            more
            for own, more in zip(crossed, extended, strict=True)
            if all(_same(cell.value, own[axis].value) for axis, cell in entry.items() if axis in own)
        ]
        for more in fitting:
            more.update(entry)
        if not fitting:
            added.append(entry)
    return [*extended, *added]


def _variants(combinations: list[Combination]) -> list[Variant]:
    """Return the variants, named as briefly as tells them apart."""
    grouped: dict[tuple[tuple[str, str], ...], tuple[list[Cell], list[Cell]]] = {}
    for combination in combinations:
        cells = [cell for axis, cell in combination.items() if axis != TARGET]
        key = tuple(sorted((cell.axis, _spelling(cell.value)) for cell in cells))
        _, targets = grouped.setdefault(key, (cells, []))
        targets += [cell for axis, cell in combination.items() if axis == TARGET]
    labels = [",".join(_word(cell) for cell in cells) for cells, _ in grouped.values()]
    if len(set(labels)) < len(labels):
        labels = [",".join(f"{c.axis}={_spelling(c.value)}" for c in cells) for cells, _ in grouped.values()]
    return [
        Variant(label, tuple(cells), tuple(targets))
        for label, (cells, targets) in zip(labels, grouped.values(), strict=True)
    ]


def _check_names(document: Document, variants: list[Variant]) -> None:
    """Make a problem of two variants whose packages would lie in one folder."""
    seen: dict[str, Variant] = {}
    for variant in variants:
        other = seen.setdefault(variant.suffix.casefold(), variant)
        if other is not variant:
            message = f"the variants `{other.label}` and `{variant.label}` would have one name, `…-{variant.suffix}`"
            place = variant.cells[0].place if variant.cells else document.value_place((MATRIX,))
            document.problems.append(place.problem(message))


def _word(cell: Cell) -> str:
    """Return how a label calls a value: by its text, and a truth value by the name of what is or is not so."""
    value = plain(cell.value)
    if isinstance(value, bool):
        field = cell.axis.rpartition(".")[2]
        return field if value else f"no_{field}"
    return _spelling(cell.value)


def _spelling(value: Value) -> str:
    match value:
        case Scalar(text=text):
            return text if not value.empty else "default"
        case list():
            return "+".join(map(_spelling, value))
        case _:
            return "+".join(f"{key}={_spelling(item)}" for key, item in value.items())


def _same(one: Value, other: Value) -> bool:
    return _spelling(one) == _spelling(other)


def _is_axis(document: Document, axis: str, place: Place) -> bool:
    """Tell whether values can be given to `axis`; else there is a problem."""
    if axis == TARGET:
        return True
    problem = _axis_problem(axis, _roles(document), place)
    if problem is not None:
        document.problems.append(problem)
    return problem is None


def _axis_problem(axis: str, roles: Mapping[str, Value], place: Place) -> Problem | None:
    if axis == "targets":
        return place.problem(f"unknown axis `{axis}`", f"did you mean `{TARGET}`?")
    if "." in axis:
        found = find_field(axis, roles, place)
        return found if isinstance(found, Problem) else None
    if fault := judge_key(ROLE, axis):
        message, hint = fault
        return place.problem(message.replace("unknown key", "unknown axis"), hint)
    return None


def _fields(document: Document, axis: str) -> Iterator[Field]:
    """Yield the fields that `axis` gives its values to: the one it names, or that of every role."""
    roles = _roles(document)
    for path in [axis] if "." in axis else [f"{role}.{axis}" for role in roles]:
        found = find_field(path, roles, Place(""))
        if isinstance(found, Field):
            yield found


def _roles(document: Document) -> Mapping[str, Value]:
    models = document.root.get("models")
    return models if isinstance(models, dict) else {}
