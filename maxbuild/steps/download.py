"""download: one file of one repository at one commit, in the standard hub cache. What comes out is what was expected.

The key holds the expected content and nothing else, so where it came from and who asked changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from maxbuild.engine import JSON, Digest, Job, Task, Vouched
from maxbuild.lock import GIT_BLOB_SHA1, SHA256, LockedFile, LockedRepository

KIND: Final = "download"
FILE: Final = "file"


def download_task(repository: LockedRepository, file: LockedFile, role: str, *, again: bool = False) -> Task:
    """Return the task that leaves `file` of `repository`, wanted under `role`, as its output `file`.

    again: download it in every build, whatever is there. That is no part of what it is.
    """
    local: dict[str, JSON] = {
        "repo_id": repository.repo_id,
        "revision": repository.revision,
        "commit": repository.commit,
        "path": file.path,
    }
    return Task(
        name=f"download {role}/{file.path}",
        kind=KIND,
        params={"algorithm": file.algorithm, "digest": file.digest, "size": file.size},
        inputs={},
        toolchain={},  # no version of anything can change content that is verified by its digest
        outputs=(FILE,),
        local={**local, "again": True} if again else local,
        always=again,
    )


def run(job: Job) -> Mapping[str, Path]:
    """Bring the file that `local` names (repo_id, revision, commit, path) into the hub cache and verify it.

    params: algorithm, digest and size of the content. Leaves `file`, the blob in the hub cache, where it is. With
    `again` in `local` it is downloaded even if it is there. Raises what `fetch_file` does.
    """
    if "url" in job.local:
        from maxbuild.steps.address import run_address  # noqa: PLC0415 - hardly any file comes from outside of the hub

        return run_address(job)
    # Imported here: plans are made of these tasks by runs that have no use for a network library.
    from maxbuild.hub import Wanted, fetch_file, note_revision  # noqa: PLC0415

    local: Mapping[str, Any] = job.local
    expected = _expected(job)
    fetched = fetch_file(
        Wanted(local["repo_id"], local["commit"], local["path"]),
        expected,
        lambda done: job.progress(done, expected.size),
        again=bool(local.get("again")),
    )
    if fetched.status is not None:
        job.vouched[fetched.place] = Vouched(Digest(fetched.sha256), fetched.status)
    note_revision(local["repo_id"], local["revision"], local["commit"])
    job.progress(expected.size, expected.size)
    return {FILE: fetched.place}


def _expected(job: Job) -> LockedFile:
    params: Mapping[str, Any] = job.params
    digests = {SHA256: None, GIT_BLOB_SHA1: None, params["algorithm"]: params["digest"]}
    return LockedFile(str(job.local["path"]), params["size"], digests[SHA256], digests[GIT_BLOB_SHA1])
