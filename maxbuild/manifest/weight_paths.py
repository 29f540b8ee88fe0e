"""What an entry of `weight_path` names: a file or a folder of this host, a repository, a file in one, or an address."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final, TypeAlias
from urllib.parse import urlsplit

from maxbuild.manifest.checks import wrong
from maxbuild.manifest.model import HubRepository, LocalFolder, names_repository
from maxbuild.weights.formats import PICKLE, SAFETENSORS, format_of, index_layout

_FORMS: Final = "a weight path is a local file, `organization/name`, `organization/name/file.safetensors`, or a URL"
_FILE_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,199}")


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A weight file of this host, or the index of several; the path is absolute."""

    path: Path


@dataclass(frozen=True, slots=True)
class HubFile:
    """A weight file in a repository of the hub, or the index of several."""

    repo_id: str
    path: str


@dataclass(frozen=True, slots=True)
class Address:
    """A weight file at an address outside of the hub."""

    url: str

    @property
    def name(self) -> str:
        """Return the name of the file."""
        return self.url.rpartition("/")[2]


WeightSource: TypeAlias = LocalFile | LocalFolder | HubFile | HubRepository | Address


def find_weights(texts: Sequence[str], folder: Path) -> tuple[WeightSource, ...]:
    """Return what `texts` name, relative paths by `folder`; raise a validator's error for what cannot be weights."""
    sources = tuple(_find(text, folder) for text in texts)
    named = {name: format_of(name) for source in sources if (name := _name(source)) and not index_layout(name)}
    formats = {form or PurePosixPath(name).suffix: name for name, form in named.items()}
    if len(formats) > 1:
        found = ", ".join(f"`{name}` ({form})" for form, name in sorted(formats.items()))
        raise wrong("weights come from one format at a time", "name the files of one", (found,))
    for form, name in formats.items():
        if form == PICKLE:
            raise wrong(
                f"`{name}` is a pickle, which runs code when it is opened",
                "convert it to safetensors: `model.save_pretrained(folder)` in transformers writes them",
            )
        if form != SAFETENSORS:
            raise wrong(f"`{name}` is no weight file that maxbuild reads", "it reads `*.safetensors`")
    return sources


def _find(text: str, folder: Path) -> WeightSource:
    if re.match(r"(?i)[a-z][a-z0-9+.-]*://", text):
        return _address(text)
    # `os.path` answers no where `Path` raises: a name too long for the system, a home that nobody has.
    path = folder / os.path.expanduser(text)
    if os.path.isfile(path):
        # Not resolved to its end: in a hub cache, a link's target has no suffix.
        return LocalFile(Path(os.path.abspath(path)))
    if os.path.isdir(path):
        return LocalFolder(Path(os.path.realpath(path)))
    if not text.startswith((".", "/", "~")):
        organization, _, rest = text.partition("/")
        name, _, file = rest.partition("/")
        repo_id = f"{organization}/{name}"
        if names_repository(repo_id) and not (file == "" and format_of(name)):
            return _hub_file(repo_id, file) if file else HubRepository(repo_id)
    raise wrong(f"no such weights: `{text}`", _FORMS, (f"looked for {os.path.abspath(path)}",))


def _hub_file(repo_id: str, path: str) -> HubFile:
    parts = PurePosixPath(path)
    if str(parts) != path or ".." in parts.parts or "\\" in path:
        raise wrong(f"`{path}` is no file of a repository", "for example `organization/name/model.safetensors`")
    return HubFile(repo_id, path)


def _address(text: str) -> Address:
    parts = urlsplit(text)
    if parts.scheme.lower() not in {"http", "https"} or not parts.hostname:
        raise wrong(f"`{text}` is no address that can be fetched", "an address begins with `https://`")
    if "@" in parts.netloc:
        raise wrong(
            "an address with a name or password in it would stand in the lock",
            "fetch the file yourself, and name it as a local file",
        )
    if parts.query or parts.fragment:
        raise wrong(
            "an address with `?` or `#` in it may hold a signature, which expires and would stand in the lock",
            "name the address without it; or fetch the file yourself, and name it as a local file",
        )
    name = parts.path.rpartition("/")[2]
    if not _FILE_NAME.fullmatch(name):
        raise wrong(f"the address `{text}` ends in no name of a file", _FORMS)
    return Address(text)


def _name(source: WeightSource) -> str | None:
    """Return the name of the file that `source` is, None where it is a place with files in it."""
    match source:
        case LocalFile(path):
            return path.name
        case HubFile(_, path):
            return path
        case Address():
            return source.name
    return None
