"""What a manifest says of its draft and of how it is used, compared: what cannot work is told where it is written."""

from __future__ import annotations

from maxbuild.manifest.document import Document
from maxbuild.manifest.model import Manifest
from maxbuild.manifest.options import SPECULATIVE


def check_lengths(document: Document, manifest: Manifest) -> None:
    """Tell of more proposals than rows have room for, as far as the manifest names their length."""
    if manifest.speculative is None or not {"main", "draft"} <= manifest.models.keys():
        return
    count = manifest.speculative.num_speculative_tokens
    for role in ("main", "draft"):
        longest = manifest.models[role].max_length
        if longest is not None and count >= longest:
            place = document.value_place((SPECULATIVE, "num_speculative_tokens"))
            document.problems.append(
                place.problem(
                    f"the draft is to propose {count} tokens at a time, and rows of `{role}` have {longest} at most",
                    f"lower `num_speculative_tokens`, or raise `max_length` of `{role}`",
                )
            )
            return
