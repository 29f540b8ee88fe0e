"""The vision part of a multimodal model's config.json, and values of the manifest's merged into it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from maxbuild.errors import UnsupportedModel

VISION_CONFIG = "vision_config"


def merge_vision_config(document: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a config.json with `overrides` in its vision config; mappings in there are merged too.

    Raise UnsupportedModel where the model has no vision config.
    """
    vision = document.get(VISION_CONFIG)
    if not isinstance(vision, Mapping):
        raise UnsupportedModel(
            f"`vision_config_overrides` is set, but config.json has no `{VISION_CONFIG}`",
            hint="leave `vision_config_overrides` out: this model sees no images",
        )
    return {**document, VISION_CONFIG: _merged(vision, overrides)}


def _merged(values: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(values)
    for name, value in overrides.items():
        below = merged.get(name)
        merged[name] = _merged(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged
