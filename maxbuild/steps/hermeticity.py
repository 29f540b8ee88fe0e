"""What the steps of a kind may touch beyond what they declare, for the hermeticity lint: each place with its reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from maxbuild.engine.lint import Allowance
from maxbuild.steps.download import KIND as DOWNLOAD

_CONTENT = "what is downloaded is compared with the digest in the key, wherever it was in between"
_ASKING = "says who asks and how the hub is reached, which changes no content that is taken"


def allowances() -> Mapping[str, Sequence[Allowance]]:
    """Return the allowances of each kind that has any, as huggingface_hub is set up now."""
    from huggingface_hub import constants  # noqa: PLC0415 - only the lint has use for it

    return {
        DOWNLOAD: (
            Allowance(constants.HF_HUB_CACHE, _CONTENT, writing=True),
            Allowance(constants.HF_ASSETS_CACHE, _CONTENT, writing=True),
            Allowance(constants.HF_TOKEN_PATH, _ASKING),
            *(Allowance(f"/etc/{name}", _ASKING) for name in ("hosts", "resolv.conf", "gai.conf", "ssl")),
        )
    }
