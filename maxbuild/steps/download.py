"""download: one file of one repository at one commit, in the standard hub cache. What comes out is what was expected.

The key holds the expected content and nothing else, so where it came from and who asked changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from maxbuild.engine import Job, Task
from maxbuild.errors import MaxbuildError, TaskFailed
from maxbuild.lock import LockedFile, LockedRepository

KIND: Final = "download"
FILE: Final = "file"


@dataclass(frozen=True, slots=True)
class _Content:
    """Content by its digest and its size in bytes."""

    digest: str
    size: int

    def unlike(self, expected: _Content) -> str:
        """Return in what way this is not `expected`."""
        if self.size != expected.size:
            return f"it has {self.size} bytes, expected {expected.size}"
        return f"its digest is {self.digest}, expected {expected.digest}"


def download_task(repository: LockedRepository, file: LockedFile, role: str) -> Task:
    """Return the task that leaves `file` of `repository`, wanted under `role`, as its output `file`."""
    return Task(
        name=f"download {role}/{file.path}",
        kind=KIND,
        params={"algorithm": file.algorithm, "digest": file.digest, "size": file.size},
        inputs={},
        toolchain={},  # no version of anything can change content that is verified by its digest
        outputs=(FILE,),
        local={"repo_id": repository.repo_id, "commit": repository.commit, "path": file.path},
    )


def run(job: Job) -> Mapping[str, Path]:
    """Bring the file that `local` names (repo_id, commit, path) into the hub cache and verify it.

    params: algorithm, digest and size of the content. Leaves `file`, the blob in the hub cache, where it is.
    Wrong content is downloaded a second time. Raises TaskFailed where it is still wrong, MaxbuildError for trouble with
    the hub, StoreError when the disk refuses.
    """
    # Imported here: plans are made of these tasks by runs that have no use for a network library.
    from maxbuild.hub import fetch_file, is_offline  # noqa: PLC0415

    params: Mapping[str, Any] = job.params
    source: Mapping[str, Any] = job.local
    expected = _Content(params["digest"], params["size"])

    def fetch(*, again: bool = False) -> tuple[Path, _Content]:
        place = fetch_file(
            source["repo_id"],
            source["commit"],
            source["path"],
            lambda done: job.progress(done, expected.size),
            again=again,
        )
        return place, _read(place, params["algorithm"])

    place, found = fetch()
    if found != expected:
        trouble = _discard(place, found, expected)
        if is_offline():
            raise _refuse(source, trouble)
        try:
            place, found = fetch(again=True)
        except MaxbuildError as error:
            raise type(error)(error.message, causes=[*error.causes, *trouble], hint=error.hint) from error
    if found != expected:
        raise _refuse(source, ["it was downloaded a second time", *_discard(place, found, expected)])
    job.progress(expected.size, expected.size)
    return {FILE: place.resolve()}


def _read(place: Path, algorithm: str) -> _Content:
    """Return what the file at `place` holds."""
    from maxbuild.hub import content_digest  # noqa: PLC0415

    try:
        return _Content(content_digest(place, algorithm), place.stat().st_size)
    except OSError as error:
        raise TaskFailed(
            f"cannot read `{place}`, which lies in the hub cache",
            causes=[error.strerror or str(error)],
            hint="mend its rights, or choose another place with HF_HOME",
        ) from error


def _discard(place: Path, found: _Content, expected: _Content) -> list[str]:
    """Take damaged content out of the hub cache; return what was wrong and what became of it.

    Content that is what its name in the cache says stays: then the cache is right, and the lock expects something else.
    """
    from maxbuild.hub import blob_name, remove_cached  # noqa: PLC0415

    if blob_name(place) == found.digest:
        return [found.unlike(expected), "it is undamaged: the hub says that this commit holds it"]
    try:
        remove_cached(place)
    except OSError as error:
        return [found.unlike(expected), f"`{place}` is damaged and could not be removed: {error.strerror}"]
    return [found.unlike(expected), f"`{place}` was damaged and has been removed"]


def _refuse(source: Mapping[str, Any], causes: list[str]) -> TaskFailed:
    return TaskFailed(
        f"`{source['path']}` of `{source['repo_id']}` at `{source['commit']}` is not what the lock expects",
        causes=causes,
        hint=(
            "run again with network; if it stays so, either the hub is not the one that the lock was made with"
            " (check HF_ENDPOINT), or the disk is damaged"
        ),
    )
