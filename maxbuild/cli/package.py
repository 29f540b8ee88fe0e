"""`maxbuild run` and `maxbuild verify`: use a package, and check one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from maxbuild.cli.options import Json
from maxbuild.cli.scoring import echoed, embedding_text, perplexity
from maxbuild.report.documents import document
from maxbuild.report.words import one_line

if TYPE_CHECKING:
    from maxbuild.runtime.generate import Statistics
    from maxbuild.verify import Comparison

Package = Annotated[Path, typer.Argument(metavar="PACKAGE", help="A folder that `warm` printed.")]
Device = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="DEVICE",
        help="Run on DEVICE: cpu, cuda or cuda:N (AMD's GPUs too); by default the first that the package fits.",
    ),
]


def run(
    package: Package,
    *,
    prompt: Annotated[str, typer.Option("--prompt", "-p", help="The text to continue; `-` reads stdin.")],
    chat: Annotated[bool, typer.Option("--chat", help="Put the prompt into the model's chat format.")] = False,
    max_new_tokens: Annotated[
        int, typer.Option("--max-new-tokens", min=1, metavar="N", help="Stop after N tokens.")
    ] = 64,
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest token; higher is bolder.")] = 0.0,
    top_k: Annotated[int, typer.Option("--top-k", help="Sample among the K likeliest tokens (0: all).")] = 0,
    top_p: Annotated[
        float, typer.Option("--top-p", help="Sample among the likeliest with this probability in all.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same text.")] = 0,
    no_draft: Annotated[bool, typer.Option("--no-draft", help="Leave the draft model out.")] = False,
    echo: Annotated[
        bool, typer.Option("--echo", help="Write the prompt too; with --json how likely each of its tokens is.")
    ] = False,
    device: Device = None,
    json: Json = False,
) -> None:
    """Load a package and let its main model continue a prompt.

    The text goes to stdout as it comes; speed, and how many of the draft's tokens were right, to stderr. An embedding
    model gives the prompt's embedding instead, as JSON.
    """
    from maxbuild.runtime import DRAFT, MAIN, load_package  # noqa: PLC0415 - `--help` needs no torch
    from maxbuild.runtime.sampling import Sampling  # noqa: PLC0415

    sampling = Sampling(temperature, top_k, top_p, seed)
    if prompt == "-":
        prompt = sys.stdin.read()
    loaded = load_package(package, device=device, leave_out=(DRAFT,) if no_draft else ())
    if loaded.tuning.unused is not None:
        typer.echo(one_line(f"the package runs as it was built, not tuned: {loaded.tuning.unused}"), err=True)
    text = loaded.text
    tokens = text.encode_chat([{"role": "user", "content": prompt}]) if chat else text.encode(prompt)
    name = loaded.header.components[MAIN].served_model_name or loaded.header.name
    if loaded.embeds and not echo:
        typer.echo(embedding_text(loaded, name, tokens, as_document=json))
        return
    echoed_prompt = echoed(loaded, tokens) if echo else []
    generation = loaded.generate(
        tokens, max_new_tokens, stop_tokens=text.stop_tokens, sampling=sampling, use_draft=not no_draft
    )
    if echo and not json:
        typer.echo(text.decode(tokens), nl=False)
    pieces = []
    for piece in text.stream(generation.tokens):
        pieces.append(piece)
        if not json:
            typer.echo(piece, nl=False)
            sys.stdout.flush()
    if json:
        figures = {**({"prompt": echoed_prompt} if echo else {}), **_figures(generation.statistics)}
        typer.echo(document("run", {"model": name, "text": "".join(pieces), **figures}))
    else:
        typer.echo()
        typer.echo(", ".join([_summary(generation.statistics), *_told_of(echoed_prompt)]), err=True)


def _figures(statistics: Statistics) -> dict[str, object]:
    return {
        "prompt_tokens": statistics.prompt_tokens,
        "new_tokens": statistics.new_tokens,
        "prefill_seconds": statistics.prefill_seconds,
        "decode_seconds": statistics.decode_seconds,
        "tokens_per_second": statistics.tokens_per_second,
        "acceptance_rate": statistics.acceptance_rate,
        "acceptance_rates": list(statistics.acceptance.rates),
    }


def _summary(statistics: Statistics) -> str:
    parts = [f"{statistics.new_tokens} tokens"]
    if statistics.tokens_per_second is not None:
        parts.append(f"{statistics.tokens_per_second:.1f} tokens/s")
    if statistics.acceptance_rate is not None:
        share = f"{statistics.acceptance_rate:.0%}"
        parts.append(f"{share} of the draft's tokens accepted ({statistics.accepted} of {statistics.proposed})")
        parts.append("by place " + " ".join(f"{rate:.0%}" for rate in statistics.acceptance.rates))
    return ", ".join(parts)


def _told_of(prompt: list[dict[str, object]]) -> list[str]:
    told = perplexity(prompt)
    return [] if told is None else [f"the prompt has a perplexity of {told:.1f}"]


def verify(package: Package, *, device: Device = None, json: Json = False) -> None:
    """Check every file's digest, then compare the compiled regions and the logits with transformers, on one device.

    Exits with 1 where an error is larger than rounding explains.
    """
    from maxbuild.verify import verify_package  # noqa: PLC0415 - `--help` needs no torch

    comparisons = verify_package(package, device)
    if json:
        rows = [
            {"component": c.role, "what": c.what, "error": c.error, "tolerance": c.tolerance, "within": c.within}
            for c in comparisons
        ]
        typer.echo(document("verify", {"package": str(package), "comparisons": rows}))
    else:
        typer.echo(_table(comparisons))
    if not all(comparison.within for comparison in comparisons):
        raise typer.Exit(1)


def _table(comparisons: list[Comparison]) -> str:
    width = max(len(f"{c.role}/{c.what}") for c in comparisons)
    lines = [f"{'compared':{width}}  worst error  tolerance"]
    for c in comparisons:
        judgement = "" if c.within else "  too large"
        lines.append(f"{f'{c.role}/{c.what}':{width}}  {c.error:11.2e}  {c.tolerance:9.0e}{judgement}")
    return "\n".join(lines)
