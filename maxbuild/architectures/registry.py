"""The custom architectures of this process: which of them a config.json means, and what is asked of them later.

Invariant: one of them is known to transformers only once a config.json named it, and from then on before transformers'
own class of that name or model type.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoModelForCausalLM

from maxbuild.architectures.cutting import lowerings_document
from maxbuild.architectures.declaration import Architecture
from maxbuild.architectures.families import FAMILIES
from maxbuild.architectures.importing import ARCHITECTURES, import_architectures, lay_out_architectures
from maxbuild.architectures.operator import Operator
from maxbuild.errors import UnsupportedModel
from maxbuild.models.graph import admit_operators

_known: list[Architecture] = []


@dataclass(frozen=True, slots=True)
class CustomArchitectures:
    """What a step is given of custom architectures; folder: where their modules lie."""

    folder: Path

    def lowerings(self, overloads: Iterable[str]) -> Mapping[str, Mapping[str, Any]]:
        """Return for each family of targets the lowerings of the custom operators among these; nothing without any.

        Raise UnsupportedModel where one cannot be cut out of its module.
        """
        found = {name: operator for name in overloads if (operator := operator_of(name)) is not None}
        families = sorted(set(FAMILIES.values())) if found else []
        return {family: lowerings_document(found.values(), family, self.folder) for family in families}


def use_custom_architectures(inputs: Mapping[str, Path], scratch: Path) -> CustomArchitectures:
    """Import the custom architectures among a task's inputs; they are this process's from now on.

    Raise UnsupportedModel where a module cannot be imported or brings none.
    """
    folder = lay_out_architectures(inputs, scratch.absolute() / ARCHITECTURES)
    use_architectures(import_architectures(folder))
    return CustomArchitectures(folder)


def use_architectures(architectures: Sequence[Architecture]) -> None:
    """Make these the custom architectures of this process, in place of those before."""
    _known[:] = architectures
    admit_operators(operator.overload for each in _known for operator in each.operators)


def choose_architecture(config: Mapping[str, Any]) -> Architecture | None:
    """Return the custom architecture that the content of a config.json means, made known to transformers.

    It is the one that `architectures` names first; where config.json has no `architectures`, the one of its
    `model_type`. None: there is none. Raise UnsupportedModel where two have that model type, or where name and model
    type disagree.
    """
    names = config.get("architectures") or []
    model_type = config.get("model_type")
    if names:
        meant = [each for each in _known if each.name == names[0]]
    else:
        meant = [each for each in _known if each.config.model_type == model_type]
    if not meant:
        return None
    if len(meant) > 1:
        raise UnsupportedModel(
            f"config.json may mean any of {', '.join(f'`{each.name}`' for each in meant)}",
            hint="name one under `architectures` in config.json",
        )
    chosen = meant[0]
    if chosen.config.model_type != model_type:
        raise UnsupportedModel(
            f"config.json says that `{chosen.name}` is of model type `{model_type}`",
            causes=[f"its config class `{chosen.config.__name__}` is of `{chosen.config.model_type}`"],
        )
    AutoConfig.register(model_type, chosen.config, exist_ok=True)
    AutoModelForCausalLM.register(chosen.config, chosen.model, exist_ok=True)
    return chosen


def blocks_of(model: object) -> str | None:
    """Return the dotted name of a model's list of blocks, where its custom architecture says one."""
    return next((each.blocks for each in _known if type(model) is each.model), None)


def operator_of(overload: str) -> Operator | None:
    """Return the operator that region graphs know as `overload`."""
    operators = (operator for each in _known for operator in each.operators)
    return next((operator for operator in operators if operator.overload == overload), None)
