"""The manifest: one YAML file in which a user says what to build, read strictly into typed, frozen values."""

from __future__ import annotations

from maxbuild.manifest.load import load_manifest
from maxbuild.manifest.model import (
    Encoding,
    HubRepository,
    LocalFolder,
    Manifest,
    ModelConfig,
)
from maxbuild.manifest.options import OPTIONS, Option, TaskKind
from maxbuild.manifest.schema import json_schema, write_json_schema
from maxbuild.manifest.sections import SpeculativeConfig

__all__ = [
    "OPTIONS",
    "Encoding",
    "HubRepository",
    "LocalFolder",
    "Manifest",
    "ModelConfig",
    "Option",
    "SpeculativeConfig",
    "TaskKind",
    "json_schema",
    "load_manifest",
    "write_json_schema",
]
