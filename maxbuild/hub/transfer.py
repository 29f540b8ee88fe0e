"""Files from a hub into the standard hub cache, where every other program finds them too, and out of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from huggingface_hub import constants, hf_hub_download

from maxbuild.hub.problems import EXPECTED, Wanted, explain

Progress = Callable[[int], None]


def is_offline() -> bool:
    """Return whether the environment forbids the network (HF_HUB_OFFLINE)."""
    return constants.is_offline_mode()


def fetch_file(repo_id: str, commit: str, path: str, progress: Progress, *, again: bool = False) -> Path:
    """Bring one file of a repository into the hub cache, unless it is there, and return its place in the snapshot.

    `progress` hears how many bytes have come so far. `again` downloads it even if it is there. The content is not
    verified. Raises MaxbuildError when the hub has no answer, StoreError when the disk refuses.
    """
    try:
        place = hf_hub_download(
            repo_id, path, revision=commit, force_download=again, tqdm_class=_byte_counter(progress)
        )
    except EXPECTED as error:
        raise explain(error, Wanted(repo_id, commit, path)) from error
    return Path(place)


def blob_name(place: Path) -> str:
    """Return the name that the hub cache gives to the content at `place`: the digest that the hub announced."""
    # One step of the link, not its end: where the cache shares blobs between repositories, the end has another name.
    return place.readlink().name if place.is_symlink() else ""


def remove_cached(place: Path) -> None:
    """Take the file at `place` out of the hub cache, its content with it; OSError where that cannot be."""
    content = Path(os.path.realpath(place))
    place.unlink(missing_ok=True)
    content.unlink(missing_ok=True)


def _byte_counter(progress: Progress) -> Any:
    """Return a class that huggingface_hub takes for a progress bar and that shows nothing."""

    class ByteCounter:
        total: int | None = None

        def __init__(self, *_: object, initial: int = 0, **__: object) -> None:
            self.n = initial

        def update(self, count: float | None = 1) -> None:
            self.n += int(count or 0)
            progress(self.n)

        # With this method one bar is made of the two (network, disk) that there would be, and `update` counts the disk.
        def update_transfer(self, _: int) -> None: ...

        def set_postfix_str(self, *_: object, **__: object) -> None: ...

        set_transfer_postfix_str = set_postfix_str

        def close(self) -> None: ...

        def __enter__(self) -> Self:
            return self

        def __exit__(
            self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
        ) -> None: ...

    return ByteCounter
