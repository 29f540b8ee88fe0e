"""Train the demo models and write them as Hugging Face folders under `examples/models`.

    python examples/train_demo_models.py            train both, write both, print the report
    python examples/train_demo_models.py --check    only load what is there, and print the report

One thread and fixed seeds: on one machine, the same command writes the same bytes.
"""

import argparse
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

# Read when `tokenizers` is first used: merging counts in one thread leaves nothing to its timing.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
from demo_check import report
from demo_corpus import END_OF_TURN, START_OF_TURN, document
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GenerationConfig,
    PreTrainedTokenizerFast,
)

MODELS = Path(__file__).parent / "models"
MAIN, DRAFT = "tiny-gemma3", "tiny-gemma3-draft"

VOCABULARY_SIZE = 704
CONTEXT_LENGTH = 1024
# The order is the numbering: <pad> 0, <eos> 1 and <bos> 2 as Gemma numbers them.
SPECIAL_TOKENS = ("<pad>", "<eos>", "<bos>", START_OF_TURN, END_OF_TURN)

# Gemma knows two roles, `user` and `model`; a system message becomes the head of the first turn.
CHAT_TEMPLATE = """\
{%- macro text(content) -%}
{%- if content is string -%}{{ content | trim }}
{%- else -%}
{%- for part in content if part['type'] == 'text' -%}{{ part['text'] | trim }}{%- endfor -%}
{%- endif -%}
{%- endmacro -%}
{{- bos_token -}}
{%- set state = namespace(head='', expected='user') -%}
{%- for message in messages -%}
{%- if message['role'] == 'system' and loop.first -%}
{%- set state.head = text(message['content']) + '\\n\\n' -%}
{%- else -%}
{%- set role = 'model' if message['role'] == 'assistant' else message['role'] -%}
{%- if role != state.expected -%}
{{- raise_exception('expected a turn of ' + state.expected + ', found one of ' + role) -}}
{%- endif -%}
{{- '<start_of_turn>' + role + '\\n' + state.head + text(message['content']) -}}
{{- '<end_of_turn>\\n' -}}
{%- set state.head = '' -%}
{%- set state.expected = 'model' if role == 'user' else 'user' -%}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<start_of_turn>model\\n' -}}{%- endif -%}
"""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one model is shaped and trained; everything else is common to both."""

    name: str
    layer_types: tuple[str, ...]
    steps: int
    seed: int


SLIDING, FULL = "sliding_attention", "full_attention"
# The layers of both have the same shape, so that a build compiles each kind of layer once.
RECIPES = (
    Recipe(MAIN, (SLIDING, SLIDING, FULL) * 2, steps=1000, seed=1),
    Recipe(DRAFT, (SLIDING, FULL), steps=800, seed=2),
)
TOKENS_PER_STEP = 1024
# Short sequences are cheaper; the last third of the steps shows the model later positions.
SHORT_SEQUENCE, LONG_SEQUENCE = 256, 512
LEARNING_RATE = 3e-3
WARM_UP_STEPS = 60


def train_tokenizer() -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer: any UTF-8 text comes back from its tokens unchanged."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    rng = Random(0)
    tokenizer.train_from_iterator((document(rng) for _ in range(20_000)), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A",
        pair="<bos> $A <bos> $B",
        special_tokens=[("<bos>", SPECIAL_TOKENS.index("<bos>"))],
    )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<eos>",
        bos_token="<bos>",
        extra_special_tokens=[START_OF_TURN, END_OF_TURN],
        chat_template=CHAT_TEMPLATE,
        model_max_length=CONTEXT_LENGTH,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def configure(recipe: Recipe) -> Gemma3TextConfig:
    """Give a model's shape; the sliding window is short enough to matter in short texts."""
    return Gemma3TextConfig(
        vocab_size=VOCABULARY_SIZE,
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=len(recipe.layer_types),
        layer_types=list(recipe.layer_types),
        num_attention_heads=8,
        num_key_value_heads=2,
        head_dim=32,
        query_pre_attn_scalar=32,
        sliding_window=32,
        max_position_embeddings=CONTEXT_LENGTH,
        tie_word_embeddings=True,
        pad_token_id=SPECIAL_TOKENS.index("<pad>"),
        bos_token_id=SPECIAL_TOKENS.index("<bos>"),
        eos_token_id=[SPECIAL_TOKENS.index("<eos>"), SPECIAL_TOKENS.index(END_OF_TURN)],
    )


def batches(tokenizer: PreTrainedTokenizerFast, seed: int, steps: int) -> Iterator[torch.Tensor]:
    """Yield int64 tokens [n, length] for each step, documents end to end, n * length constant."""
    rng = Random(seed)
    tokens: list[int] = []
    for step in range(steps):
        while len(tokens) < TOKENS_PER_STEP:
            tokens += [*tokenizer.encode(document(rng)), SPECIAL_TOKENS.index("<eos>")]
        length = SHORT_SEQUENCE if 3 * step < 2 * steps else LONG_SEQUENCE
        yield torch.tensor(tokens[:TOKENS_PER_STEP]).view(-1, length)
        tokens = tokens[TOKENS_PER_STEP:]


def learning_rate(step: int, steps: int) -> float:
    """Return the rate at a step, in parts of the peak: a linear rise, then a linear fall."""
    return min((step + 1) / WARM_UP_STEPS, (steps - step) / max(1, steps - WARM_UP_STEPS))


def initialise(recipe: Recipe) -> Gemma3ForCausalLM:
    """Make a model to train.

    Gemma's blocks normalise what they add to the residual stream. As the library initialises them,
    twelve such additions of size one drown an embedding of size 0.2, and copying is learned late;
    here the embedding starts at size one, and all additions together at that size too.
    """
    torch.manual_seed(recipe.seed)
    model = Gemma3ForCausalLM(configure(recipe))
    torch.nn.init.normal_(model.model.embed_tokens.weight, std=model.config.hidden_size**-0.5)
    for layer in model.model.layers:
        for norm in (layer.post_attention_layernorm, layer.post_feedforward_layernorm):
            # The scale is one more than the weight.
            torch.nn.init.constant_(norm.weight, (2 * len(recipe.layer_types)) ** -0.5 - 1)
    return model


def train(recipe: Recipe, tokenizer: PreTrainedTokenizerFast, steps: int) -> Gemma3ForCausalLM:
    """Train one model in float32 and return it in bfloat16."""
    model = initialise(recipe)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate(step, steps))
    started = time.monotonic()
    for step, tokens in enumerate(batches(tokenizer, recipe.seed, steps)):
        loss = model(input_ids=tokens, labels=tokens, use_cache=False).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0 or step == steps - 1:
            seconds = time.monotonic() - started
            print(f"{recipe.name}: step {step}, loss {loss.item():.3f}, {seconds:.0f} s", flush=True)
    torch.nn.Module.to(model, torch.bfloat16)
    return model


def write(model: Gemma3ForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write a model and its tokenizer as a Hugging Face folder, replacing what was there."""
    shutil.rmtree(folder, ignore_errors=True)
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        bos_token_id=model.config.bos_token_id,
        eos_token_id=model.config.eos_token_id,
        pad_token_id=model.config.pad_token_id,
        do_sample=False,
    )
    model.save_pretrained(folder)
    # One file for the tokenizer's settings: the template stands in tokenizer_config.json.
    tokenizer.save_pretrained(folder, save_jinja_files=False)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Train the demo models, or check them.")
    parser.add_argument("--out", type=Path, default=MODELS, help="where the folders are written")
    parser.add_argument("--steps", type=int, help="train this many steps, for a quick trial")
    parser.add_argument("--check", action="store_true", help="print the report, train nothing")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(mode=True)
    if not arguments.check:
        tokenizer = train_tokenizer()
        for recipe in RECIPES:
            model = train(recipe, tokenizer, arguments.steps or recipe.steps)
            write(model, tokenizer, arguments.out / recipe.name)
    print(report(arguments.out / MAIN, arguments.out / DRAFT))


if __name__ == "__main__":
    main()
