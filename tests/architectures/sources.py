"""Modules of custom architectures as text, and folders of them."""

from __future__ import annotations

import textwrap
from pathlib import Path

from spaces import ROOT

EXAMPLE = ROOT / "examples" / "custom_architecture"

ARCHITECTURE = """
from maxbuild.architectures import Architecture
from transformers import LlamaConfig, LlamaForCausalLM

class {name}Config(LlamaConfig):
    model_type = "{name}"

class {name}ForCausalLM(LlamaForCausalLM):
    config_class = {name}Config

ARCHITECTURES = [Architecture("{name}ForCausalLM", {name}Config, {name}ForCausalLM)]
"""


def write(folder: Path, **files: str) -> Path:
    """Write source files into `folder`, by their paths there without `.py`, and return it."""
    for name, text in files.items():
        path = folder / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    return folder


def package(folder: Path, **files: str) -> Path:
    """Write the package `made` into `folder`: its `__init__.py` (as `init`) and modules."""
    (folder / "made").mkdir(parents=True)
    (folder / "made" / "__init__.py").write_text(textwrap.dedent(files.pop("init", "")))
    write(folder / "made", **files)
    return folder
