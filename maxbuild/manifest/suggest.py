"""The nearest valid name to one that is none: the words after "did you mean"."""

from __future__ import annotations

from collections.abc import Iterable


def normal(name: str) -> str:
    """Return `name` in the manifest's spelling: lower case, underscores instead of dashes."""
    return name.strip().replace("-", "_").lower()


def nearest(name: str, candidates: Iterable[str]) -> str | None:
    """Return the candidate that `name` most likely stands for, None where none is near."""
    # Imported here: a manifest without a mistake has no use for it.
    from difflib import get_close_matches  # noqa: PLC0415

    spellings = {normal(candidate): candidate for candidate in candidates}
    wanted = normal(name)[:200]
    matches = [wanted] if wanted in spellings else get_close_matches(wanted, list(spellings), n=1, cutoff=0.6)
    return spellings[matches[0]] if matches else None


def did_you_mean(name: str, candidates: Iterable[str]) -> str | None:
    """Return the hint that names the nearest candidate, None where none is near."""
    match = nearest(name, candidates)
    return f"did you mean `{match}`?" if match else None
