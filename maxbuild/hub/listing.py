"""What a repository holds at a revision: its commit, and every file with its size and digest."""

from __future__ import annotations

import time
from typing import Final

import httpx2  # the client that huggingface_hub speaks HTTP with: its errors come through
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.hf_api import ModelInfo, RepoSibling

from maxbuild.errors import MaxbuildError
from maxbuild.hub.cached import list_cached
from maxbuild.hub.problems import EXPECTED, Wanted, explain, hub_address
from maxbuild.lock import LockedFile, LockedRepository

WAITS: Final = (1.0, 3.0)
"""Seconds before each further try, where trying again may help."""

_TRANSIENT = (httpx2.TimeoutException, httpx2.NetworkError, httpx2.RemoteProtocolError)
_TRANSIENT_STATUS = frozenset({408, 500, 502, 503, 504})


def list_repository(repo_id: str, revision: str) -> LockedRepository:
    """Return the repository as the hub lists it, or offline as the hub's cache on this host holds it.

    Raises UsageError for a repository or a revision that is not there, MaxbuildError when the hub cannot be asked.
    """
    if constants.is_offline_mode():
        return list_cached(repo_id, revision)
    try:
        info = _ask_patiently(repo_id, revision)
    except (*EXPECTED, TypeError, KeyError, AttributeError) as error:  # the last three: an answer that is no listing
        raise explain(error, Wanted(repo_id, revision)) from error
    try:
        files = tuple(_file(sibling) for sibling in info.siblings or ())
        return LockedRepository(repo_id, revision, info.sha or "", files)
    except ValueError as error:
        raise MaxbuildError(
            f"the hub lists `{repo_id}` at `{revision}` in a way that cannot be used",
            causes=[str(error)],
            hint=f"see that HF_ENDPOINT names a hub: {hub_address()}",
        ) from error


def _ask_patiently(repo_id: str, revision: str) -> ModelInfo:
    for wait in WAITS:
        try:
            return _ask(repo_id, revision)
        except _TRANSIENT:
            pass
        except HfHubHTTPError as error:
            if error.response.status_code not in _TRANSIENT_STATUS:
                raise
        time.sleep(wait)
    return _ask(repo_id, revision)


def _ask(repo_id: str, revision: str) -> ModelInfo:
    # Without a timeout of ours, huggingface_hub would wait for ever here.
    timeout = constants.HF_HUB_ETAG_TIMEOUT
    return HfApi().model_info(repo_id, revision=revision, files_metadata=True, timeout=timeout)


def _file(sibling: RepoSibling) -> LockedFile:
    """Return a file of the listing. What git names a file in large file storage is the digest of its pointer."""
    if sibling.lfs is not None:
        return LockedFile(sibling.rfilename, sibling.lfs.size, sibling.lfs.sha256, None)
    return LockedFile(sibling.rfilename, -1 if sibling.size is None else sibling.size, None, sibling.blob_id)
