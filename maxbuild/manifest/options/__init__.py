"""The option table: every option's name, place, type, bounds, meaning, flag, and the task kinds its value enters.

An option is effective, carried or refused; nothing that is in no state exists, so nothing is accepted and then ignored.
The typed manifest, its JSON Schema, the parameters of tasks, the flags and docs/reference/options.md are made of it.
"""

from __future__ import annotations

from typing import Final

from maxbuild.manifest.options.option import Default, Option, State, TaskKind, ValueType
from maxbuild.manifest.options.places import (
    COMMAND_LINE,
    COMPILE,
    DENOISING,
    KV_CACHE,
    LORA,
    PARALLEL,
    PLACES,
    ROLE,
    RUNTIME,
    SAMPLING,
    SECTIONS,
    SPECULATIVE,
    TOP,
)
from maxbuild.manifest.options.table import (
    OPTIONS,
    defaults_at,
    draft_flag,
    find_anywhere,
    find_option,
    get_option,
    option_of_flag,
    options_at,
)

KNOWN_ROLES: Final = ("main", "draft", "transformer", "vae", "text_encoder", "text_encoder_2", "image_encoder")
RESERVED_ROLES: Final = ("architectures", "regions", "samplers")
"""What packages call parts of theirs that are no components."""
ROLE_PATTERN: Final = "[a-z][a-z0-9_]*"

NAME_PATTERN: Final = "[A-Za-z0-9][A-Za-z0-9._-]{0,99}"

__all__ = [
    "COMMAND_LINE",
    "COMPILE",
    "DENOISING",
    "KNOWN_ROLES",
    "KV_CACHE",
    "LORA",
    "NAME_PATTERN",
    "OPTIONS",
    "PARALLEL",
    "PLACES",
    "RESERVED_ROLES",
    "ROLE",
    "ROLE_PATTERN",
    "RUNTIME",
    "SAMPLING",
    "SECTIONS",
    "SPECULATIVE",
    "TOP",
    "WAYS_OF_SAYING",
    "Default",
    "Option",
    "State",
    "TaskKind",
    "ValueType",
    "defaults_at",
    "draft_flag",
    "find_anywhere",
    "find_option",
    "get_option",
    "option_of_flag",
    "options_at",
]
