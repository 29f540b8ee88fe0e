"""download, of a file at an address outside of the hub: the same promise, the content that the lock expects."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maxbuild.engine import Job, Task, hash_file
from maxbuild.errors import TaskFailed
from maxbuild.lock import SHA256, LockedAddress
from maxbuild.steps.download import FILE, KIND


def address_task(file: LockedAddress, role: str, *, again: bool = False) -> Task:
    """Return the task that leaves what lies at the address of `file`, wanted under `role`, as its output `file`.

    again: fetch it in every build, whatever is there. That is no part of what it is.
    """
    return Task(
        name=f"download {role}/{file.url.rpartition('/')[2]}",
        kind=KIND,
        params={"algorithm": SHA256, "digest": file.sha256, "size": file.size},
        inputs={},
        toolchain={},  # no version of anything can change content that is verified by its digest
        outputs=(FILE,),
        local={"url": file.url, "again": True} if again else {"url": file.url},
        always=again,
    )


def run_address(job: Job) -> Mapping[str, Path]:
    """Bring the file that `local` names (url) onto this host, unless it is here, and verify it.

    params: digest and size of the content. Raises TaskFailed where other content lies at the address, MaxbuildError
    where nobody gives it, StoreError when the disk refuses.
    """
    # Imported here: plans are made of these tasks by runs that have no use for a network library.
    from maxbuild.hub import address_place, fetch_address  # noqa: PLC0415

    params: Mapping[str, Any] = job.params
    local: Mapping[str, Any] = job.local
    expected = LockedAddress(local["url"], params["size"], params["digest"])
    place = address_place(expected)
    if local.get("again") or not place.exists() or hash_file(place) != expected.sha256:
        found = fetch_address(expected.url, lambda done: job.progress(done, expected.size))
        if found != expected:
            raise TaskFailed(
                f"what lies at {expected.url} is not what the lock expects",
                causes=[f"it has {found.size} bytes of sha256 {found.sha256}", f"expected {expected.sha256}"],
                hint="`maxbuild lock --upgrade` takes what lies there now, if that is what you want",
            )
    job.progress(expected.size, expected.size)
    return {FILE: place}
