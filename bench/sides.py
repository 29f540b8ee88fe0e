"""The other sides of the benches, as processes: transformers, eager and compiled, and workers that decode in rounds.

    python -m bench.sides first-token eager|compiled DEVICE MODEL PROMPT
    python -m bench.sides decode package|draft|eager|compiled DEVICE MODEL-OR-PACKAGE
    python -m bench.sides load package|draft DEVICE PACKAGE

`first-token` writes the text of one token. `decode` reads a line of JSON per round, `{"prompt": [...], "count": n}`,
and answers each with a line of JSON, a `Round`. `load` writes how many seconds loading takes, imports included. All
sides compute in float32 on DEVICE, as torch calls it, and pick the likeliest token.
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


def first_token(side: str, device: str, folder: Path, prompt: str) -> None:
    """Write the text of the token that follows `prompt`."""
    import torch  # noqa: PLC0415 - each side pays for its own imports, and for no other's
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).to(device)
    run = torch.compile(model) if side == "compiled" else model
    with torch.inference_mode():
        tokens = tokenizer(prompt, return_tensors="pt").input_ids.to(device)
        token = run(input_ids=tokens, logits_to_keep=1).logits[0, -1].argmax()
    print(tokenizer.decode([int(token)], skip_special_tokens=True), flush=True)
    # What follows the first token is not measured.
    os._exit(0)


def load(side: str, device: str, folder: Path) -> None:
    """Write the seconds that loading the package takes, whole, with its digests checked."""
    begin = time.perf_counter()
    from maxbuild.runtime import DRAFT, load_package  # noqa: PLC0415

    load_package(folder, device=device, leave_out=() if side == "draft" else (DRAFT,))
    print(time.perf_counter() - begin)


def decode(side: str, device: str, folder: Path) -> None:
    """Answer rounds until stdin ends."""
    answers, sys.stdout = sys.stdout, sys.stderr  # what a library prints is no answer
    match side:
        case "package" | "draft":
            work = _package_rounds(folder, device, use_draft=side == "draft")
        case _:
            work = _transformers_rounds(folder, device, compiled=side == "compiled")
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


def _package_rounds(folder: Path, device: str, *, use_draft: bool) -> Callable[[Sequence[int], int], Round]:
    from maxbuild.runtime import DRAFT, load_package  # noqa: PLC0415

    package = load_package(folder, device=device, leave_out=() if use_draft else (DRAFT,))

    def work(prompt: Sequence[int], count: int) -> Round:
        generation = package.generate(prompt, count, use_draft=use_draft)
        done = _timed(generation.tokens)
        return Round(done.tokens, done.first, done.rest, generation.statistics.acceptance_rate)

    return work


def _transformers_rounds(folder: Path, device: str, *, compiled: bool) -> Callable[[Sequence[int], int], Round]:
    import torch  # noqa: PLC0415
    from transformers import AutoModelForCausalLM, DynamicCache, StaticCache  # noqa: PLC0415

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).to(device)
    # As `generate` does with a static cache: the prompt runs eagerly, the steps after it compiled.
    step = torch.compile(model) if compiled else model

    def work(prompt: Sequence[int], count: int) -> Round:
        if compiled:
            cache: Any = StaticCache(config=model.config, max_cache_len=len(prompt) + count)
        else:
            cache = DynamicCache(config=model.config)
        with torch.inference_mode():
            return _timed(_greedy(model, step, cache, torch.tensor([prompt], device=device), count))

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
            positions = torch.tensor([[position]], device=prompt.device)
            result = step(input_ids=token, position_ids=positions, past_key_values=cache, use_cache=True)


def main() -> None:
    """Be the side that the arguments name."""
    task, side, device, folder, *prompt = sys.argv[1:]
    match task:
        case "decode":
            decode(side, device, Path(folder))
        case "load":
            load(side, device, Path(folder))
        case _:
            first_token(side, device, Path(folder), prompt[0])


if __name__ == "__main__":
    main()
