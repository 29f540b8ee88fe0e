"""Tokens of the hub: a manifest holds none, and no message shows one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from maxbuild.manifest.nodes import Scalar

if TYPE_CHECKING:
    from maxbuild.manifest.document import Document, Steps, Value

# What the hub gives out: https://huggingface.co/docs/hub/security-tokens, and for organizations `api_org_…`.
_TOKEN: Final = re.compile(r"(?<![A-Za-z0-9])(hf_|api_org_)[A-Za-z0-9]{20,}")


def masked(text: str) -> str:
    """Return `text` with every token in it made unreadable, as wide as before."""
    return _TOKEN.sub(lambda found: found[1] + "*" * (len(found[0]) - len(found[1])), text)


def refuse_tokens(document: Document) -> bool:
    """Make a problem of each value of `document` that is a token, whoever put it there, and tell whether one is."""
    found = list(_tokens((), document.root))
    for steps in found:
        problem = document.value_place(steps).problem(
            "this is a token of the hub, and a manifest holds no secrets",
            "set HF_TOKEN, or log in with `hf auth login`",
        )
        document.problems.append(problem)
    return bool(found)


def _tokens(steps: Steps, value: Value) -> Iterator[Steps]:
    """Yield where in `value`, which stands at `steps`, tokens stand."""
    match value:
        case Scalar(text=text):
            if "_" in text and _TOKEN.search(text):
                yield steps
        case dict():
            for key, item in value.items():
                yield from _tokens((*steps, key), item)
        case list():
            for index, item in enumerate(value):
                yield from _tokens((*steps, index), item)
