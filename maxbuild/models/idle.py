"""Leave out of a model what a run over text never calls: the towers for images and sound of a multimodal model.

Invariant: only what lies outside of the language model and did not run is left out, so what is built computes the same
for text, and whatever needs more fails to trace.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from maxbuild.errors import UnsupportedModel
from maxbuild.models.attention import AttentionCall, answered_by, masks_as_rules

_SHAPE = (2, 3)


def idle_modules(model: PreTrainedModel) -> tuple[str, ...]:
    """Run `model`, which is on the meta device, over text; return the outermost modules that did not run, by name.

    Raise UnsupportedModel where it does not run.
    """
    ran: set[nn.Module] = set()
    hooks = [module.register_forward_pre_hook(lambda module, _: ran.add(module)) for module in model.modules()]
    tokens = torch.zeros(_SHAPE, dtype=torch.int64, device="meta")
    try:
        with torch.no_grad(), masks_as_rules(model), answered_by(_attended_like):
            model(input_ids=tokens, position_ids=tokens, use_cache=False)
    except UnsupportedModel:
        raise
    except Exception as error:
        raise UnsupportedModel(
            f"`{type(model).__name__}` does not run over text alone",
            causes=[f"{type(error).__name__}: {error}".splitlines()[0]],
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
    decoder: nn.Module = model.get_decoder()
    idle: list[str] = []
    for name, module in model.named_modules():
        parts = set(module.modules())
        inside = any(name.startswith(f"{outer}.") for outer in idle)
        if not inside and not parts & ran and not parts & set(decoder.modules()):
            idle.append(name)
    return tuple(idle)


def leave_out(model: PreTrainedModel, names: tuple[str, ...]) -> None:
    """Put modules without weights in the places of those called `names`."""
    for name in names:
        owner, _, local = name.rpartition(".")
        setattr(model.get_submodule(owner), local, nn.Module())


def _attended_like(call: AttentionCall) -> Tensor:
    batch, heads, sequence, _ = call.query.shape
    return call.query.new_empty(batch, sequence, heads, call.value.shape[-1])
