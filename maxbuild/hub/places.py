"""Where the standard hub cache keeps a file: its content by the hub's name of it, and a link from each commit.

The layout is upstream's: https://huggingface.co/docs/huggingface_hub/guides/manage-cache
"""

from __future__ import annotations

import errno
import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from filelock import Timeout
from huggingface_hub import constants
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.utils._fixes import WeakFileLock

from maxbuild.hub.partial import SUFFIX
from maxbuild.hub.problems import Wanted
from maxbuild.lock import LockedFile

_GLANCE: Final = 0.5
_NAME = re.compile(r"[0-9A-Za-z_-][0-9A-Za-z._-]{0,127}")
_NO_LINKS: Final = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EACCES})


class Places(NamedTuple):
    """The places of one file at one commit: its link, the folder of contents, and that of locks."""

    link: Path
    contents: Path
    locks: Path

    @classmethod
    def of(cls, wanted: Wanted) -> Places:
        """Return the places of the file `wanted`, whose revision is a commit."""
        cache = Path(constants.HF_HUB_CACHE).expanduser()
        name = repo_folder_name(repo_id=wanted.repo_id, repo_type=constants.REPO_TYPE_MODEL)
        link = cache / name / "snapshots" / wanted.revision / (wanted.path or "")
        return cls(link, cache / name / "blobs", cache / ".locks" / name)

    def partial(self, expected: LockedFile) -> Path:
        """Return where the file grows."""
        return self.contents / f"{expected.digest}{SUFFIX}"

    def content(self, expected: LockedFile, etag: str | None) -> Path:
        """Return where the content goes: under the hub's name of it, if that is fit for a file."""
        name = etag if etag is not None and _NAME.fullmatch(etag) else expected.digest
        return self.contents / name

    def candidates(self, expected: LockedFile) -> Iterator[Path]:
        """Yield where the content may lie already: linked from this commit, or known from another one."""
        for place in (self.link, *(self.contents / name for name in (expected.sha256, expected.git_oid) if name)):
            if place.is_file():
                yield place

    def publish(self, partial: Path, content: Path) -> Path:
        """Make the whole file `partial` the content of the link; return where it lies then."""
        partial.replace(content)
        return self.point(content)

    def point(self, content: Path) -> Path:
        """Have the link lead to `content`, and return where that lies: in place of the link where there can be none."""
        target = os.path.relpath(content, self.link.parent)
        if self.link.is_symlink() and os.fspath(self.link.readlink()) == target:
            return content
        self.link.parent.mkdir(parents=True, exist_ok=True)
        scratch = self.contents / f".link-{secrets.token_hex(8)}"
        try:
            if constants.HF_HUB_DISABLE_SYMLINKS:
                raise OSError(errno.EPERM, "no symbolic links are wanted")
            scratch.symlink_to(target)  # from its own place it leads nowhere, and it does not stay there
            scratch.replace(self.link)
        except OSError as error:
            with suppress(OSError):
                scratch.unlink(missing_ok=True)
            if error.errno not in _NO_LINKS:
                raise
            content.replace(self.link)
            return self.link
        return content

    @contextmanager
    def locked(self, expected: LockedFile, alive: Callable[[], None]) -> Iterator[None]:
        """Keep other programs that know of this lock, upstream's own among them, from fetching the same file.

        `alive` is called while somebody else has it, and may raise to end the wait.
        """
        self.locks.mkdir(parents=True, exist_ok=True)
        lock = self.locks / f"{expected.digest}.lock"
        while True:
            alive()
            holder = WeakFileLock(lock, timeout=_GLANCE)
            try:
                holder.__enter__()
            except Timeout:
                continue
            break
        try:
            yield
        finally:
            holder.__exit__(None, None, None)


def blob_name(place: Path) -> str:
    """Return the name that the hub cache gives to the content at `place`: the digest that the hub announced."""
    # One step of the link, not its end: where the cache shares blobs between repositories, the end has another name.
    if place.is_symlink() and place.parent.name != "blobs":
        return place.readlink().name
    return place.name if place.parent.name == "blobs" else ""


def remove_cached(place: Path) -> None:
    """Take the file at `place` out of the hub cache, its content with it; OSError where that cannot be."""
    content = Path(os.path.realpath(place))
    place.unlink(missing_ok=True)
    content.unlink(missing_ok=True)
