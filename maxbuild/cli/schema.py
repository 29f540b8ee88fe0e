"""`maxbuild schema`: the JSON Schema of manifests, for editors."""

from __future__ import annotations

from maxbuild.cli.files import leave
from maxbuild.cli.options import OutputFile
from maxbuild.manifest.schema import schema_text


def schema(*, output: OutputFile = None) -> None:
    """Print the JSON Schema of manifests.

    Editors that speak YAML check and complete a manifest by it, when its first line is
    `# yaml-language-server: $schema=./manifest.schema.json`.
    """
    leave(schema_text(), output)
