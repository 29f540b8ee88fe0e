"""match: a draft's tokens are the main model's; told before anything is traced or compiled for nothing.

The draft's tokens become the main model's input as they are, so each must mean the same to both. Their vocabularies may
end at different sizes all the same: models of one family often pad theirs, or add tokens for images to one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maxbuild.engine import Job, canonical_json
from maxbuild.errors import TaskFailed

AGREEMENT = "agreement"
AGREEMENT_FILE = "agreement.json"

MARKERS = ("<think>", "</think>")
"""What begins and ends a span of thinking, as tokens of the tokenizer."""

_NEEDS = "speculative decoding needs a draft with the main model's tokenizer"
_MOST_TOLD = 3


def run(job: Job) -> Mapping[str, Path]:
    """Compare the draft with the main model.

    params: use_relaxed_acceptance_for_thinking, which needs the markers of thinking. inputs: `ROLE/config.json` and,
    where there are any, `ROLE/tokenizer.json` of `main` and `draft`. Leaves `agreement`: the markers' tokens, or
    none, and whether there were tokenizers to compare. Raise TaskFailed where the two do not go together.
    """
    params: Mapping[str, Any] = job.params
    sizes = {role: _vocab_size(job.inputs[f"{role}/config.json"]) for role in ("main", "draft")}
    tokenizers = [f"{role}/tokenizer.json" for role in sizes]
    compared = all(name in job.inputs for name in tokenizers)
    if not compared and None not in sizes.values() and len(set(sizes.values())) > 1:
        raise _different_sizes(sizes["main"], sizes["draft"])
    read: dict[str, Mapping[str, int]] = {}
    if compared and len({job.digests[name] for name in tokenizers}) > 1:
        read = {name: _vocabulary(job.inputs[name]) for name in tokenizers}
        _check_tokens(*read.values(), least=min((size for size in sizes.values() if size is not None), default=None))
    markers = None
    if params.get("use_relaxed_acceptance_for_thinking", False):
        if tokenizers[0] not in job.inputs:
            raise TaskFailed("`main` has no tokenizer.json, which says what begins and ends a span of thinking")
        markers = _markers(read.get(tokenizers[0]) or _vocabulary(job.inputs[tokenizers[0]]))
    path = job.scratch / AGREEMENT_FILE
    path.write_bytes(canonical_json({"thinking_tokens": markers, "compared": compared}))
    return {AGREEMENT: path}


def check_programs(job: Job, num_speculative_tokens: int) -> None:
    """Raise TaskFailed where what was traced does not go together, by `main/program.json` and `draft/program.json`.

    Vocabularies of other sizes do where tokenizers were compared, by `agreement.json`.

    A config may say nothing of its vocabulary, and the longest row is known for sure only here.
    """
    main, draft = (_read(job.inputs[f"{role}/program.json"]) for role in ("main", "draft"))
    compared = AGREEMENT_FILE in job.inputs and _read(job.inputs[AGREEMENT_FILE])["compared"]
    if main["vocab_size"] != draft["vocab_size"] and not compared:
        raise _different_sizes(main["vocab_size"], draft["vocab_size"])
    longest = min(main["max_length"], draft["max_length"])
    if num_speculative_tokens >= longest:
        raise TaskFailed(
            f"`draft` is to propose {num_speculative_tokens} tokens at a time, and rows have {longest} at most",
            hint="lower `num_speculative_tokens`, or raise `max_length`",
        )


def _different_sizes(main: int | None, draft: int | None) -> TaskFailed:
    return TaskFailed(f"`draft` has a vocabulary of {draft} tokens, `main` one of {main}", hint=_NEEDS)


def _vocab_size(config: Path) -> int | None:
    """Return what a config says of its vocabulary; None where it says nothing, and tracing will tell."""
    document = _read(config)
    for part in (document.get("text_config"), document):
        if isinstance(part, dict) and isinstance(part.get("vocab_size"), int):
            return int(part["vocab_size"])
    return None


def _vocabulary(tokenizer: Path) -> Mapping[str, int]:
    """Return the tokens of a `tokenizer.json` by their text: those of the model, and those that were added."""
    document = _read(tokenizer)
    model = document.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    match vocabulary:
        case dict():
            tokens = dict(vocabulary)
        case list():  # Unigram: pairs of text and score, numbered from 0
            tokens = {str(entry[0]): number for number, entry in enumerate(vocabulary)}
        case _:
            raise TaskFailed(f"`{tokenizer.name}` holds no vocabulary", causes=[str(tokenizer)])
    added = document.get("added_tokens") or ()
    return {**tokens, **{entry["content"]: entry["id"] for entry in added}}


def _check_tokens(main: Mapping[str, int], draft: Mapping[str, int], *, least: int | None) -> None:
    """Raise TaskFailed where the two tokenizers have other tokens; merges and templates do not matter here.

    least: the smaller vocabulary; tokens beyond it are never proposed.
    """
    if least is not None:
        main, draft = ({text: token for text, token in tokens.items() if token < least} for tokens in (main, draft))
    if main == draft:
        return
    texts = sorted({*main, *draft}, key=lambda text: (main.get(text, len(main)), text))
    others = [text for text in texts if main.get(text) != draft.get(text)]
    causes = [
        f"{json.dumps(text, ensure_ascii=False)} is {_number(main.get(text))} of `main`, {_number(draft.get(text))} of"
        " `draft`"
        for text in others[:_MOST_TOLD]
    ]
    more = [f"and {len(others) - _MOST_TOLD} more"] if len(others) > _MOST_TOLD else []
    raise TaskFailed("`draft` has another tokenizer than `main`", causes=[*causes, *more], hint=_NEEDS)


def _number(token: int | None) -> str:
    return "no token" if token is None else f"token {token}"


def _markers(tokens: Mapping[str, int]) -> list[int]:
    missing = [text for text in MARKERS if text not in tokens]
    if missing:
        raise TaskFailed(
            f"the tokenizer of `main` has no token `{missing[0]}`, so that spans of thinking cannot be told",
            hint="leave `use_relaxed_acceptance_for_thinking` out; it is for models that think between these markers",
        )
    return [tokens[text] for text in MARKERS]


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except ValueError as error:
        raise TaskFailed(f"`{path.name}` is not JSON", causes=[str(error)]) from error
    if not isinstance(document, dict):
        raise TaskFailed(f"`{path.name}` is not a JSON object")
    return document
