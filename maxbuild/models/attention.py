"""The hook by which transformers' decoders hand over their attention, and the rules that stand for their masks.

Invariant: a model whose attention or mask is not understood is refused, never traced to something else.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from maxbuild.errors import UnsupportedModel

IMPLEMENTATION = "maxbuild"
"""The name under which transformers knows this attention (`attn_implementation="maxbuild"`)."""

# Keyword arguments that models pass to an attention function and that carry nothing it needs: positions reach the
# operator by another way, dropout is zero in inference, and the rest only steers what a forward pass returns.
_IGNORED_ARGUMENTS = frozenset(
    {"dropout", "position_ids", "cache_position", "use_cache", "output_attentions", "output_router_logits"}
)


@dataclass(frozen=True, slots=True)
class MaskRule:
    """Which keys a query sees: those at its own position and before, at most `window` of them (0: all).

    window None: the model makes a sliding mask without a window. Some always make it, and use it in no layer.
    """

    window: int | None = 0


@dataclass(frozen=True, slots=True)
class AttentionCall:
    """One call of the attention function, as the model made it.

    query: (batch, heads, sequence, key size); key: (batch, key/value heads, sequence, key size);
    value: (batch, key/value heads, sequence, value size); sinks: (heads,) or None.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    scale: float
    window: int
    softcap: float
    sinks: Tensor | None


AttentionHandler = Callable[[AttentionCall], Tensor]
"""Answers one call with the attended values, shape (batch, sequence, heads, value size)."""

_handler: ContextVar[AttentionHandler] = ContextVar("attention_handler")


@contextlib.contextmanager
def answered_by(handler: AttentionHandler) -> Iterator[None]:
    """Let `handler` answer every attention call made in this context."""
    token = _handler.set(handler)
    try:
        yield
    finally:
        _handler.reset(token)


def _attention_function(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: object,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    is_causal: bool | None = None,
    **arguments: object,
) -> tuple[Tensor, None]:
    """Speak transformers' attention interface: check the call, then hand it to the current handler."""
    if not isinstance(attention_mask, MaskRule):
        raise UnsupportedModel(
            f"`{type(module).__name__}` builds its own attention mask",
            hint="only causal and sliding-window attention masks made by transformers' mask functions can be outlined",
        )
    window = attention_mask.window
    if window is None:
        raise UnsupportedModel(f"`{type(module).__name__}` slides, but the config has no `sliding_window`")
    if sliding_window and window not in (0, sliding_window):
        raise UnsupportedModel(
            f"`{type(module).__name__}` asks for a window of {sliding_window}, its mask has {window}"
        )
    if is_causal is False:
        raise UnsupportedModel(f"`{type(module).__name__}` attends in both directions")
    unknown = sorted(name for name, value in arguments.items() if value is not None and name not in _IGNORED_ARGUMENTS)
    if unknown:
        raise UnsupportedModel(f"`{type(module).__name__}` passes `{unknown[0]}` to attention, which is not supported")
    call = AttentionCall(
        query,
        key,
        value,
        scale=query.shape[-1] ** -0.5 if scaling is None else float(scaling),
        window=window,
        softcap=float(softcap or 0.0),
        sinks=s_aux,
    )
    return _handler.get()(call), None


ALL_ATTENTION_FUNCTIONS.register(IMPLEMENTATION, _attention_function)


def _causal(config: PreTrainedConfig, *_: object, **arguments: object) -> MaskRule:
    _refuse_other_masks(config, arguments)
    return MaskRule()


def _sliding(config: PreTrainedConfig, *_: object, **arguments: object) -> MaskRule:
    _refuse_other_masks(config, arguments)
    window = getattr(config, "sliding_window", None)
    return MaskRule(window if isinstance(window, int) and window > 0 else None)


def _refuse_other_masks(config: PreTrainedConfig, arguments: Mapping[str, object]) -> None:
    # transformers' causal masks become bidirectional ones for a config that says so.
    if not getattr(config, "is_causal", True):
        raise UnsupportedModel("bidirectional attention masks cannot be outlined")
    for name in ("or_mask_function", "and_mask_function", "block_sequence_ids"):
        if arguments.get(name) is not None:
            raise UnsupportedModel(f"the model's attention mask is not plainly causal (it uses `{name}`)")


def _for_generate(config: PreTrainedConfig, *_: object, **arguments: object) -> MaskRule | Mapping[str, MaskRule]:
    """Answer what makes all masks of a model at once: by kind of layer where the config lists kinds, else one."""
    text = config.get_text_config()
    kinds = getattr(text, "layer_types", None)
    if kinds is None:
        return _sliding(text, **arguments) if getattr(text, "sliding_window", None) else _causal(text, **arguments)
    rules = {"full_attention": _causal, "sliding_attention": _sliding}
    for kind in kinds:
        if kind not in rules:
            raise UnsupportedModel(f"attention masks of layers of type `{kind}` cannot be outlined")
    return {kind: rules[kind](text, **arguments) for kind in dict.fromkeys(kinds)}


def _refused(kind: str) -> Callable[..., MaskRule]:
    def refuse(*_: object, **__: object) -> MaskRule:
        raise UnsupportedModel(f"{kind} attention masks cannot be outlined")

    return refuse


# transformers' mask functions, and what stands in for each while a model is traced. A mask becomes a rule that travels
# through the model untouched: were a model to compute with it, the trace would fail instead of being wrong in silence.
_MASK_FUNCTIONS: dict[str, Callable[..., MaskRule | Mapping[str, MaskRule]]] = {
    "create_causal_mask": _causal,
    "create_sliding_window_causal_mask": _sliding,
    "create_masks_for_generate": _for_generate,
    "create_chunked_causal_mask": _refused("chunked"),
    "create_bidirectional_mask": _refused("bidirectional"),
    "create_bidirectional_sliding_window_mask": _refused("bidirectional"),
    "create_recurrent_attention_mask": _refused("recurrent"),
}


@contextlib.contextmanager
def masks_as_rules(model: torch.nn.Module) -> Iterator[None]:
    """Replace the mask functions in the modules that define `model`'s classes while the context lasts."""
    namespaces: list[Any] = [sys.modules[name] for name in sorted({type(m).__module__ for m in model.modules()})]
    replaced: list[tuple[Any, str, object]] = []
    try:
        for namespace in namespaces:
            for name, substitute in _MASK_FUNCTIONS.items():
                if hasattr(namespace, name):
                    replaced.append((namespace, name, getattr(namespace, name)))
                    setattr(namespace, name, substitute)
        yield
    finally:
        for namespace, name, original in replaced:
            setattr(namespace, name, original)
