"""A causal language model as it is traced: logits only where they are wanted, attention over caches that are inputs."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from transformers import PreTrainedModel

from maxbuild.errors import UnsupportedModel
from maxbuild.models.attention import AttentionCall, AttentionHandler
from maxbuild.models.operators import attention


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

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, positions: Tensor, logit_positions: Tensor) -> Tensor:
        """Return logits (batch, logits, vocabulary): hidden states are picked just before the output embedding."""
        head = self.model.get_output_embeddings()
        if head is None:
            raise UnsupportedModel(f"`{type(self.model).__name__}` has no output embedding")

        def pick(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor]:
            rows = logit_positions[:, :, None].expand(-1, -1, args[0].shape[-1])
            return (args[0].gather(1, rows),)

        hook = head.register_forward_pre_hook(pick)
        try:
            result = self.model(input_ids=input_ids, position_ids=positions, use_cache=False)
        finally:
            hook.remove()
        logits: Tensor = result.logits
        return logits
