"""Memory: what a person writes for an amount of it, and how much of it this host lets a build take."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from maxbuild.errors import UsageError

_RESERVED_SHARE = 8
_LEAST_RESERVE = 512 << 20
_V1_UNLIMITED = 1 << 60
"""Version 1 of control groups spells "no limit" as a number near the largest."""


def parse_memory(text: str) -> int:
    """Return the bytes that `text` says, as in `8GiB`; UsageError where it says none."""
    # Imported here: most builds are not told how much memory to take.
    from maxbuild.cli.amounts import parse_size  # noqa: PLC0415

    count = parse_size("--memory", text)
    if not count:
        raise UsageError(f"`--memory`: nothing can run in `{text}`", hint="leave it out to take what the host has")
    return count


def memory_for_builds(root: Path = Path("/")) -> int | None:
    """Return the bytes that tasks may take together: what this host or its control group has, less a reserve.

    The reserve is an eighth, and at least half a gibibyte. None where nothing can be told. root: of the file system
    that is asked.
    """
    known = [limit for limit in (_host(root), *_control_groups(root)) if limit is not None]
    if not known:
        return None
    least = min(known)
    return max(least - max(least // _RESERVED_SHARE, _LEAST_RESERVE), 1)


def _host(root: Path) -> int | None:
    with suppress(OSError, ValueError, IndexError):
        for line in (root / "proc/meminfo").read_text().splitlines():
            if line.startswith("MemTotal:"):
                return int(line.split()[1]) * 1024
    return None


def _control_groups(root: Path) -> Iterator[int | None]:
    """Yield the limit of every control group that this process is in, of either version; see cgroups(7)."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if not controllers:
            yield from _limits(root / "sys/fs/cgroup", path, "memory.max")
        elif "memory" in controllers.split(","):
            yield from _limits(root / "sys/fs/cgroup/memory", path, "memory.limit_in_bytes")


def _limits(mount: Path, path: str, name: str) -> Iterator[int | None]:
    """Yield the limits from a group up to the top; inside a container its own group is mounted as the top."""
    group = Path(os.path.normpath(f"/{path.lstrip('/')}"))
    for place in (group, *group.parents):
        with suppress(OSError, ValueError):
            limit = int((mount / place.relative_to("/") / name).read_text())
            yield limit if limit < _V1_UNLIMITED else None
