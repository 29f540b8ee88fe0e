"""Measure the demo models: what they continue, what they add up, how often the draft is right."""

import re
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from demo_corpus import START_OF_TURN, document
from transformers import AutoTokenizer, Gemma3ForCausalLM
from transformers import PreTrainedTokenizerFast as Tokenizer

PROMPTS = ("one two three four", "2 4 6 8", "3 + 4 =", "the small cat", "once the big dog")
QUESTIONS = (
    *("what is 3 + 4 ?", "count from 3 to 9", "what is the opposite of hot ?"),
    *("what comes after tuesday ?", "tell me a story about a fox ."),
)
MODEL_TURN = f"{START_OF_TURN}model\n"
# Training draws its documents from other generator states.
HELD_OUT_SEED = 1000
HELD_OUT_PROMPTS = 80
LONGEST_CONTINUATION = 192
# Logits this close, of float32, are told apart by no reduced precision.
NEAR_TIE = 0.1


@dataclass(frozen=True, slots=True)
class Agreement:
    """Where two predictions of main's own greedy output agree, in parts of one."""

    positions: int
    draft: float
    bfloat16: float
    near_ties: float


def load(folder: Path, dtype: torch.dtype = torch.float32) -> Gemma3ForCausalLM:
    """Load a model for inference in the dtype named."""
    return Gemma3ForCausalLM.from_pretrained(folder, dtype=dtype)


def continue_greedily(model: Gemma3ForCausalLM, prompt: torch.Tensor) -> torch.Tensor:
    """Return int64 tokens [1, n]: the prompt [1, p], and what the model adds until it ends."""
    output = model.generate(  # type: ignore[misc]
        prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=LONGEST_CONTINUATION
    )
    assert isinstance(output, torch.Tensor)  # it is an object only where more was asked for
    return output


def encode(tokenizer: Tokenizer, text: str) -> torch.Tensor:
    """Return int64 tokens [1, n]; the tokenizer itself puts <bos> in front."""
    return torch.tensor([tokenizer.encode(text)])


def encode_question(tokenizer: Tokenizer, question: str) -> torch.Tensor:
    """Return int64 tokens [1, n] of one user turn and the opening of the model's."""
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
    )
    return torch.tensor([tokenizer.encode(str(text), add_special_tokens=False)])


def continuation(model: Gemma3ForCausalLM, tokenizer: Tokenizer, prompt: torch.Tensor) -> str:
    """Return the text, with its special tokens, that the model adds to a prompt [1, n]."""
    return str(tokenizer.decode(continue_greedily(model, prompt)[0, prompt.shape[1] :]))


def right_additions(model: Gemma3ForCausalLM, tokenizer: Tokenizer) -> int:
    """Count the sums of two one-digit numbers, of a hundred, whose value comes out right."""
    return sum(
        continuation(model, tokenizer, encode(tokenizer, f"{left} + {right} =")).split()[:1] == [str(left + right)]
        for left in range(10)
        for right in range(10)
    )


def held_out_prompts(tokenizer: Tokenizer) -> list[torch.Tensor]:
    """Cut documents not trained on: conversations before an answer, the rest after a few words."""
    rng = Random(HELD_OUT_SEED)
    prompts = []
    for text in (document(rng) for _ in range(HELD_OUT_PROMPTS)):
        question, turn, _ = text.partition(MODEL_TURN)
        words = re.match(r"(\S+\s?){1,4}", text)
        prompts.append(question + turn if turn or words is None else words[0].rstrip())
    return [encode(tokenizer, prompt) for prompt in prompts]


@torch.inference_mode()
def measure_agreement(main: Path, draft: Path, tokenizer: Tokenizer) -> Agreement:
    """Compare, over main's greedy continuations, the draft's choice and bfloat16's with main's."""
    model, low_precision, small = load(main), load(main, torch.bfloat16), load(draft)
    draft_agrees, bfloat16_agrees, near_ties = [], [], []
    for prompt in held_out_prompts(tokenizer):
        tokens = continue_greedily(model, prompt)
        here = slice(prompt.shape[1] - 1, -1)
        chosen = tokens[0, prompt.shape[1] :]
        best = model(tokens).logits[0, here].topk(2).values
        near_ties.append(best[:, 0] - best[:, 1] < NEAR_TIE)
        draft_agrees.append(small(tokens).logits[0, here].argmax(-1) == chosen)
        bfloat16_agrees.append(low_precision(tokens).logits[0, here].argmax(-1) == chosen)
    return Agreement(
        positions=torch.cat(near_ties).numel(),
        draft=torch.cat(draft_agrees).float().mean().item(),
        bfloat16=torch.cat(bfloat16_agrees).float().mean().item(),
        near_ties=torch.cat(near_ties).float().mean().item(),
    )


def report(main: Path, draft: Path) -> str:
    """Return the report on the two models, as text."""
    tokenizer = AutoTokenizer.from_pretrained(main)
    assert isinstance(tokenizer, Tokenizer)
    lines = []
    for folder in (main, draft):
        model = load(folder)
        size = sum(file.stat().st_size for file in folder.iterdir())
        lines += [f"{folder.name}: {model.num_parameters()} parameters, {size} bytes"]
        prompts = {text: encode(tokenizer, text) for text in PROMPTS}
        prompts |= {text: encode_question(tokenizer, text) for text in QUESTIONS}
        for text, prompt in prompts.items():
            lines.append(f"  {text!r} -> {continuation(model, tokenizer, prompt)!r}")
        lines.append(f"  sums of two one-digit numbers right: {right_additions(model, tokenizer)} of 100")
    agreement = measure_agreement(main, draft, tokenizer)
    lines += [
        f"over {agreement.positions} tokens of main's greedy output:",
        f"  the draft chooses the same token: {agreement.draft:.1%}",
        f"  main in bfloat16 chooses the same token: {agreement.bfloat16:.1%}",
        f"  main's two best tokens lie within {NEAR_TIE} logits: {agreement.near_ties:.1%}",
    ]
    return "\n".join(lines)
