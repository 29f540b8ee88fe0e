"""The other sides of the benches, as processes: transformers, eager and compiled, and workers that decode in rounds.

    python -m bench.sides first-token eager|compiled MODEL PROMPT
    python -m bench.sides decode package|draft|eager|compiled MODEL-OR-PACKAGE

`first-token` writes the text of one token. `decode` reads a line of JSON per round, `{"prompt": [...], "count": n}`,
and answers each with a line of JSON, a `Round`. All sides compute in float32 and pick the likeliest token.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Round:
    """One generation. first: seconds to the first token; rest: seconds from there to the last."""

    tokens: list[int]
    first: float
    rest: float
    acceptance: float | None = None

    @property
    def tokens_per_second(self) -> float:
        """Return the speed after the first token, which belongs to the prompt."""
        return (len(self.tokens) - 1) / self.rest


Decoder: TypeAlias = Callable[[Sequence[int], int], Iterator[int]]
"""Continues a prompt by a number of tokens."""


def first_token(side: str, folder: Path, prompt: str) -> None:
    """Write the text of the token that follows `prompt`."""
    import torch  # noqa: PLC0415 - each side pays for its own imports, and for no other's
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    run = torch.compile(model) if side == "compiled" else model
    with torch.inference_mode():
        tokens = tokenizer(prompt, return_tensors="pt").input_ids
        token = run(input_ids=tokens, logits_to_keep=1).logits[0, -1].argmax()
    print(tokenizer.decode([int(token)], skip_special_tokens=True), flush=True)
    # What follows the first token is not measured.
    os._exit(0)


def decode(side: str, folder: Path) -> None:
    """Answer rounds until stdin ends."""
    answers, sys.stdout = sys.stdout, sys.stderr  # what a library prints is no answer
    match side:
        case "package" | "draft":
            work = _package_rounds(folder, use_draft=side == "draft")
        case _:
            work = _transformers_rounds(folder, compiled=side == "compiled")
    for line in sys.stdin:
        request = json.loads(line)
        answers.write(json.dumps(asdict(work(request["prompt"], request["count"]))) + "\n")
        answers.flush()


def _timed(tokens: Iterator[int]) -> Round:
    """Take all `tokens` and the time."""
    begin = time.perf_counter()
    taken = [next(tokens)]
    first = time.perf_counter()
    taken.extend(tokens)
    return Round(taken, first - begin, time.perf_counter() - first)


def _package_rounds(folder: Path, *, use_draft: bool) -> Callable[[Sequence[int], int], Round]:
    from maxbuild.runtime import DRAFT, load_package  # noqa: PLC0415

    package = load_package(folder, leave_out=() if use_draft else (DRAFT,))

    def work(prompt: Sequence[int], count: int) -> Round:
        generation = package.generate(prompt, count, use_draft=use_draft)
        done = _timed(generation.tokens)
        return Round(done.tokens, done.first, done.rest, generation.statistics.acceptance_rate)

    return work


def _transformers_rounds(folder: Path, *, compiled: bool) -> Callable[[Sequence[int], int], Round]:
    import torch  # noqa: PLC0415
    from transformers import AutoModelForCausalLM, DynamicCache, StaticCache  # noqa: PLC0415

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    # As `generate` does with a static cache: the prompt runs eagerly, the steps after it compiled.
    step = torch.compile(model) if compiled else model

    def work(prompt: Sequence[int], count: int) -> Round:
        if compiled:
            cache: Any = StaticCache(config=model.config, max_cache_len=len(prompt) + count)
        else:
            cache = DynamicCache(config=model.config)
        with torch.inference_mode():
            return _timed(_greedy(model, step, cache, torch.tensor([prompt]), count))

    return work


def _greedy(model: Any, step: Any, cache: Any, prompt: torch.Tensor, count: int) -> Iterator[int]:
    """Yield the likeliest continuation, `count` tokens long."""
    import torch  # noqa: PLC0415

    length = prompt.shape[1]
    result = model(input_ids=prompt, past_key_values=cache, use_cache=True, logits_to_keep=1)
    for position in range(length, length + count):
        token = result.logits[:, -1].argmax(dim=-1, keepdim=True)
        yield int(token)
        if position < length + count - 1:
            positions = torch.tensor([[position]])
            result = step(input_ids=token, position_ids=positions, past_key_values=cache, use_cache=True)


def main() -> None:
    """Be the side that the arguments name."""
    task, side, folder, *prompt = sys.argv[1:]
    if task == "decode":
        decode(side, Path(folder))
    else:
        first_token(side, Path(folder), prompt[0])


if __name__ == "__main__":
    main()
