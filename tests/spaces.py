"""Scratch worlds for tests: a folder, a store, and the real command in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parent.parent
MODELS = ROOT / "examples" / "models"


@dataclass(frozen=True)
class Space:
    """A scratch world: a folder to work in, and a store. Commands are the real ones, in processes of their own."""

    folder: Path
    store: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    def maxbuild(self, *arguments: str | Path, timeout: float = 900) -> subprocess.CompletedProcess[str]:
        """Run `maxbuild` with these arguments and return what it printed and its exit code."""
        return subprocess.run(
            [sys.executable, "-m", "maxbuild", *map(str, arguments)],
            cwd=self.folder,
            env={**os.environ, "MAXBUILD_STORE": str(self.store), "NO_COLOR": "1", **self.environment},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )


def states(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """Return the state of each task of a `--json` answer."""
    assert done.returncode == 0, done.stderr
    return {task["name"]: task["state"] for task in json.loads(done.stdout)["tasks"]}


def write_demo_manifest(folder: Path, *overrides: str, models: Path = MODELS) -> Path:
    """Write a manifest like the demo's, over the models in `models` and with these overrides, into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "demo.yaml"
    path.write_text(
        f"""version: 1
name: demo
targets: [cpu]
models:
  main: {{model_path: {models / "tiny-gemma3"}, max_length: 512}}
  draft: {{model_path: {models / "tiny-gemma3-draft"}, max_length: 512}}
speculative: {{speculative_method: standalone, num_speculative_tokens: 4, rejection_sampling_strategy: greedy}}
overrides: [{", ".join(("main.quantization_encoding=float32", "draft.quantization_encoding=float32", *overrides))}]
"""
    )
    return path
