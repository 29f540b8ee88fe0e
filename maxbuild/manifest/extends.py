"""`extends`: what other manifests say, laid under what this one says.

An extended manifest is taken for what it comes to, its own overrides included. A key with nothing after it takes away
what lies under it, as in JSON Merge Patch (RFC 7396).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from maxbuild.errors import ManifestError
from maxbuild.manifest.document import Document, Place, Steps, Value, describe, read_document
from maxbuild.manifest.environment import expand_environment
from maxbuild.manifest.layers import Layer, lay_under
from maxbuild.manifest.nodes import MOST_NODES, Scalar
from maxbuild.manifest.overrides import apply_overrides, written_overrides

EXTENDS: Final = "extends"
LONGEST_CHAIN: Final = 16
MOST_FILES: Final = 64
# What a file says of itself, and not of what is to be built.
_OWN: Final = ("version", EXTENDS, "overrides")


def lay_bases_under(document: Document, environ: Mapping[str, str]) -> bool:
    """Lay what the manifests named by `extends` come to under `document`, later ones over earlier ones.

    What is wrong becomes a problem of `document`. Return whether each of them could be read at all: else much of what
    `document` says may look wrong, and is not.
    """
    own = Path(document.file)
    reader = _Reader(environ)
    reader.lay_under(document, (_File(os.path.realpath(own), str(own)),))
    return reader.could_read


@dataclass(frozen=True, slots=True)
class _File:
    """A file on the chain from the manifest to what it extends: the one it is, and how it was named."""

    identity: str
    name: str


@dataclass(slots=True)
class _Reader:
    """Reads each file once, however many others extend it."""

    environ: Mapping[str, str]
    could_read: bool = True
    read: dict[str, Document] = field(default_factory=dict)

    def lay_under(self, document: Document, chain: tuple[_File, ...]) -> None:
        """Lay what `document` extends under it."""
        bases: list[Document] = []
        for place, text in _named(document):
            try:
                bases.append(self._base(place, text, chain))
            except ManifestError as error:
                self.could_read = False
                document.problems += error.problems
        covered: list[Steps] = []
        for base in reversed(bases):
            document.problems += [problem for problem in base.problems if problem not in document.problems]
            covered += lay_under(document, (), document.root, Layer(base, (), EXTENDS), base.root)
            if len(document.values) > MOST_NODES:
                place = document.value_place(())
                raise ManifestError([place.problem(f"more than {MOST_NODES} values with all that is extended")])
        for steps in filter(_is_part, covered):
            _take_away(document, steps)

    def _base(self, place: Place, text: str, chain: tuple[_File, ...]) -> Document:
        """Return what the file `text`, named at `place`, comes to with all that it extends itself.

        ManifestError where it cannot be read, or where the chain of files does not end.
        """
        path = place.find(text)
        file = _File(os.path.realpath(path), str(path))
        names = [known.name for known in (*chain, file)]
        identities = [known.identity for known in chain]
        if file.identity in identities:
            circle = names[identities.index(file.identity) :]
            raise ManifestError([place.problem(f"`{EXTENDS}` goes in a circle", causes=(" → ".join(circle),))])
        if len(names) > LONGEST_CHAIN:
            raise ManifestError(
                [place.problem(f"more than {LONGEST_CHAIN} manifests extend one another", causes=(" → ".join(names),))]
            )
        if file.identity not in self.read:
            if len(self.read) >= MOST_FILES:
                raise ManifestError([place.problem(f"more than {MOST_FILES} manifests are extended in all")])
            self.read[file.identity] = self._settled(place, path, (*chain, file))
        return self.read[file.identity]

    def _settled(self, place: Place, path: Path, chain: tuple[_File, ...]) -> Document:
        if not os.path.lexists(path):
            causes = (f"looked for {path.absolute()}",)
            raise ManifestError([place.problem(f"no such manifest: `{path.name}`", causes=causes)])
        base = read_document(path)
        before = len(base.problems)
        expand_environment(base, self.environ)
        self.could_read &= len(base.problems) == before
        self.lay_under(base, chain)
        _check_version(base)
        layer = Layer(base, (), EXTENDS)
        apply_overrides(base, [replace(said, origin=layer.origin(said.place)) for said in written_overrides(base)])
        for key in _OWN:
            base.root.pop(key, None)
        return base


def _named(document: Document) -> list[tuple[Place, str]]:
    """Return the files that `extends` of `document` names, and where it does; it is no key of `document` any more."""
    said = document.root.pop(EXTENDS, None)
    named = []
    for index, item in enumerate(said if isinstance(said, list) else [] if said is None else [said]):
        place = document.value_place((EXTENDS, index) if isinstance(said, list) else (EXTENDS,))
        if isinstance(item, Scalar) and item.text.strip() and "\0" not in item.text:
            named.append((place, item.text))
        elif not (isinstance(item, Scalar) and item.empty and item is said):
            message = f"`{EXTENDS}` takes a manifest's path, or a list of them, not {describe(item)}"
            document.problems.append(place.problem(message, f"for example `{EXTENDS}: base.yaml`"))
    return named


def _check_version(base: Document) -> None:
    """Refuse a version of the format that the manifest on top would otherwise hide."""
    version = base.root.get("version")
    if isinstance(version, Scalar) and not version.empty and version.value() != 1:
        message = f"this program does not know version {describe(version)} of the manifest"
        base.problems.append(base.value_place(("version",)).problem(message, "write `version: 1`"))


def _is_part(steps: Steps) -> bool:
    """Tell whether a section or a role stands at `steps`, which can be taken away; a field that says nothing stays.

    It stays because it has a say against a `config_file` as well.
    """
    return len(steps) == 1 or (len(steps) == 2 and steps[0] == "models")


def _take_away(document: Document, steps: Steps) -> None:
    """Take out the key at `steps`, which says nothing; it has done so to whatever lay under it."""
    inner: Value = document.root
    for step in steps[:-1]:
        inner = inner[step] if isinstance(inner, dict) else {}  # type: ignore[index]
    if isinstance(inner, dict):
        inner.pop(str(steps[-1]), None)
