"""Which paths a repository may give its files: those that stay inside of any folder they are put into.

They become files of the hub cache, inputs of tasks and files of packages, on file systems of every kind.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Final

_LONGEST_NAME: Final = 255
_LONGEST_PATH: Final = 1024

# What Windows keeps for devices, whatever suffix follows; the forbidden characters are its own as well.
# https://learn.microsoft.com/windows/win32/fileio/naming-a-file
_RESERVED = re.compile(r"(?i)(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(?:\..*)?")
_FORBIDDEN = re.compile(r'[<>:"|?*]')


def check_path(path: str) -> None:
    """Raise ValueError unless `path` is that of a file inside a repository, on any file system."""
    parts = PurePosixPath(path)
    if not path or parts.is_absolute() or str(parts) != path or {".", ".."} & set(parts.parts) or "\\" in path:
        raise ValueError(f"not the path of a file in a repository: {path!r}")
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in path):
        raise ValueError(f"the path of a file holds a control character: {path!r}")
    if len(path.encode()) > _LONGEST_PATH or any(len(part.encode()) > _LONGEST_NAME for part in parts.parts):
        raise ValueError(f"the path of a file is too long for a file system: {path!r}")
    for part in parts.parts:
        if _RESERVED.fullmatch(part) or _FORBIDDEN.search(part) or part.endswith((".", " ")) or part == ".git":
            raise ValueError(f"{part!r} in the path {path!r} is reserved, so not a name of a file everywhere")


def check_together(paths: Iterable[str]) -> None:
    """Raise ValueError where two of `paths` cannot lie side by side.

    Those are a path twice, two that differ in case or in the form of an accent alone, and a file under a file.
    """
    places: dict[str, str] = {}
    for path in paths:
        place = _place(path)
        if place in places:
            raise ValueError(
                f"it names the file {path!r} twice"
                if places[place] == path
                else f"{places[place]!r} and {path!r} differ in case alone, so they are one file on some file systems"
            )
        places[place] = path
    for place, path in places.items():
        parents = (str(parent) for parent in PurePosixPath(place).parents)
        if file := next((places[parent] for parent in parents if parent in places), None):
            raise ValueError(f"{file!r} is a file, and {path!r} lies in it")


def _place(path: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())
