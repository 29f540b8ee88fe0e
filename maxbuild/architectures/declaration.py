"""What one architecture is declared by: its name in config.json, its classes, its blocks, its operators."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from maxbuild.architectures.operator import Operator

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel


@dataclass(frozen=True, slots=True)
class Architecture:
    """One architecture that a module brings, as an entry of its list `ARCHITECTURES`.

    name: what `architectures` in config.json says. config: the class that reads config.json; its `model_type` is the
    one there. model: the causal language model; it takes `input_ids` and `position_ids`, int64 (batch, sequence), and
    its output has `logits` (batch, sequence, vocabulary). blocks: the dotted name of the `ModuleList` whose modules
    are the repeated blocks; None: it is found by its length, `num_hidden_layers`. operators: those that the model's
    code calls.
    """

    name: str
    config: type[PreTrainedConfig]
    model: type[PreTrainedModel]
    blocks: str | None = None
    operators: tuple[Operator, ...] = ()

    def mistakes(self) -> Iterator[str]:
        """Yield what is wrong with the declaration, one sentence each."""
        from transformers import PreTrainedConfig, PreTrainedModel  # noqa: PLC0415 - costly to import

        if not isinstance(self.name, str) or not self.name.isidentifier():
            yield f"`name` must be the name of a class, as config.json has it, and is {self.name!r}"
        if not _is_class(self.config, PreTrainedConfig):
            yield f"`config` must be a subclass of transformers.PreTrainedConfig, and is {self.config!r}"
        elif not self.config.model_type:
            yield f"`{self.config.__name__}.model_type` is not set"
        if not _is_class(self.model, PreTrainedModel):
            yield f"`model` must be a subclass of transformers.PreTrainedModel, and is {self.model!r}"
        elif self.model.config_class is not self.config:
            yield f"`{self.model.__name__}.config_class` is {self.model.config_class!r}, and `config` another"
        if self.blocks is not None and not isinstance(self.blocks, str):
            yield f"`blocks` must be the dotted name of a ModuleList, and is {self.blocks!r}"
        if not isinstance(self.operators, tuple) or not all(isinstance(each, Operator) for each in self.operators):
            yield f"`operators` must be a tuple of Operator, and is {self.operators!r}"


def _is_class(value: object, base: type) -> bool:
    return isinstance(value, type) and issubclass(value, base)
