"""A model as it is traced: logits only where they are wanted, or one vector for each row; caches are inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from maxbuild.errors import UnsupportedModel
from maxbuild.models.attention import AttentionCall, AttentionHandler
from maxbuild.models.operators import attention
from maxbuild.models.pooling import pool
from maxbuild.runtime.program import Pooling, Results


def cached_attention(caches: Sequence[Tensor], positions: Tensor, key_positions: Tensor) -> AttentionHandler:
    """Answer attention calls with the operator, each call with the next pair of caches."""
    remaining = iter(caches)

    def handle(call: AttentionCall) -> Tensor:
        attended: Tensor = attention(
            call.query,
            call.key,
            call.value,
            next(remaining),
            next(remaining),
            positions,
            key_positions,
            call.scale,
            call.window,
            call.softcap,
            call.sinks,
        )
        return attended

    return handle


class LanguageModel(nn.Module):
    """A causal language model that computes logits only where they are wanted."""

    def __init__(self, model: PreTrainedModel, results: Results) -> None:
        super().__init__()
        self.model = model
        self._results = results

    def forward(self, input_ids: Tensor, positions: Tensor, *places: Tensor) -> Tensor:
        """Return logits; `places` are the inputs of the same name that `Results` describes, and the shape is there.

        Hidden states are picked just before the output embedding.
        """
        head = self.model.get_output_embeddings()
        if head is None:
            raise UnsupportedModel(f"`{type(self.model).__name__}` has no output embedding")
        pick = _PICKS[self._results]

        def pick_first(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor]:
            return (pick(args[0], *places),)

        hook = head.register_forward_pre_hook(pick_first)
        try:
            result = self.model(input_ids=input_ids, position_ids=positions, use_cache=False)
        finally:
            hook.remove()
        logits: Tensor = result.logits
        return logits[0] if self._results is Results.RAGGED else logits


def _pick_chosen(hidden: Tensor, logit_positions: Tensor) -> Tensor:
    return hidden.gather(1, logit_positions[:, :, None].expand(-1, -1, hidden.shape[-1]))


def _pick_ragged(hidden: Tensor, logit_rows: Tensor, logit_positions: Tensor) -> Tensor:
    # As one row: what a model does after its output embedding may count on three dimensions.
    return hidden[logit_rows, logit_positions][None]


def _pick_every(hidden: Tensor) -> Tensor:
    return hidden


_PICKS: dict[Results, Callable[..., Tensor]] = {
    Results.CHOSEN: _pick_chosen,
    Results.RAGGED: _pick_ragged,
    Results.EVERY: _pick_every,
}


class EmbeddingModel(nn.Module):
    """A model without output embedding, and the pooling of what it says of each token; None: it is not pooled."""

    def __init__(self, model: PreTrainedModel, pooling: Pooling | None) -> None:
        super().__init__()
        self.model = model
        self._pooling = pooling

    def forward(self, input_ids: Tensor, positions: Tensor, lengths: Tensor) -> Tensor:
        """Return embeddings, float32, of rows of which `lengths` (batch,) tokens count; `Results` has their shape."""
        result: Any = self.model(input_ids=input_ids, position_ids=positions, use_cache=False)
        hidden: Tensor = result.last_hidden_state
        return hidden.float() if self._pooling is None else pool(hidden, positions, lengths, self._pooling)


def as_traced(model: PreTrainedModel, results: Results, pooling: Pooling | None) -> nn.Module:
    """Return `model` as a function of the inputs of `results` but the last one, which attention alone reads.

    pooling: how one embedding is made of a row, where `results` is embeddings; None: there is one for each token.
    """
    return EmbeddingModel(model, pooling) if results is Results.EMBEDDING else LanguageModel(model, results)
