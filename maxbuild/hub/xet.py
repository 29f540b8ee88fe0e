"""Files that the hub keeps in chunks ("Xet"): upstream's own client brings them, several chunks at a time.

It writes them itself, and out of order, so their bytes cannot be hashed as they pass: they are read once afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from huggingface_hub import hf_hub_download

from maxbuild.hub.problems import Wanted


def bring_by_xet(wanted: Wanted, progress: Callable[[int], None], *, again: bool) -> Path:
    """Bring the file `wanted` into the hub cache and return its place in the snapshot.

    Raises what huggingface_hub raises. Nothing is kept of a file that was broken off.
    """
    return Path(
        hf_hub_download(
            wanted.repo_id,
            wanted.path or "",
            revision=wanted.revision,
            force_download=again,
            tqdm_class=_byte_counter(progress),
        )
    )


def _byte_counter(progress: Callable[[int], None]) -> Any:
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
