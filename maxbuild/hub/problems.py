"""What went wrong with a hub, in words: one error of ours for each way in which huggingface_hub fails.

No text that comes out of here holds a token, or the query of an address, which may be a signature.
"""

from __future__ import annotations

import re
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx2
from huggingface_hub import constants, get_token
from huggingface_hub.errors import (
    DisabledRepoError,
    EntryNotFoundError,
    FileMetadataError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
    XetDownloadError,
)

from maxbuild.engine.disk import is_full
from maxbuild.errors import MaxbuildError, StoreError, UsageError
from maxbuild.hub.patience import Patience, wait_asked_for

EXPECTED: Final = (
    httpx2.HTTPError,
    httpx2.InvalidURL,
    OSError,
    ValueError,
    RuntimeError,
    EntryNotFoundError,
    XetDownloadError,
)
"""What calls into huggingface_hub raise when something outside of this program is wrong."""

_LONGEST_REMARK = 200
_LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"
_UNAUTHORIZED, _FORBIDDEN, _TOO_MANY, _SERVER_ERROR = 401, 403, 429, 500


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the hub was asked for."""

    repo_id: str
    revision: str
    path: str | None = None

    @property
    def text(self) -> str:
        """Return it as people write it."""
        file = f"`{self.path}` of " if self.path else ""
        return f"{file}`{self.repo_id}` at `{self.revision}`"


def hub_address() -> str:
    """Return the address of the hub, without a name and password that may stand in it."""
    parts = urlsplit(constants.ENDPOINT)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def origin_of(address: object) -> str:
    """Return the scheme, host and port of an address: all of it that may be shown."""
    parts = urlsplit(str(address))
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def explain(error: Exception, wanted: Wanted) -> MaxbuildError:
    """Return the error that tells people what `error`, met while asking for `wanted`, means for them."""
    match _reason(error):
        case HfHubHTTPError() as answer:
            return _explain_answer(answer, wanted)
        case OfflineModeIsEnabled() | LocalEntryNotFoundError():
            return MaxbuildError(
                f"the hub cache lacks {wanted.text}, and HF_HUB_OFFLINE is set",
                causes=[f"looked in {constants.HF_HUB_CACHE}"],
                hint=(
                    "unset HF_HUB_OFFLINE to download it, or run where there is network:"
                    f" `hf download {wanted.repo_id} {wanted.path or ''}".rstrip()
                    + f" --revision {wanted.revision}`"
                ),
            )
        case httpx2.HTTPError() | httpx2.InvalidURL() as unreachable:
            return MaxbuildError(
                f"could not reach the hub for {wanted.text}",
                causes=[f"{_who(unreachable)}: {_remark(unreachable)}"],
                hint=(
                    "check the network and the proxy, or HF_ENDPOINT if you set it;"
                    " with HF_HUB_OFFLINE=1 only the hub cache is used"
                ),
            )
        case reason:
            return _explain_transfer(reason, wanted)


def _explain_transfer(reason: BaseException, wanted: Wanted) -> MaxbuildError:
    """Return the error for what is neither a refusal nor a hub out of reach."""
    match reason:
        case OSError(errno=int()) as refused:
            return StoreError(
                f"could not write {wanted.text} to the hub cache `{constants.HF_HUB_CACHE}`",
                causes=[refused.strerror or type(refused).__name__, *_room(refused)],
                hint="free some space or mend the rights there, or choose another place with HF_HOME",
            )
        case OSError() as broken if not isinstance(broken, FileMetadataError):
            return MaxbuildError(
                f"the hub sent {wanted.text} incompletely",
                causes=["the answer ended before the size that was announced, or went past it"],
                hint="run again; if it stays so, the hub or a mirror (HF_ENDPOINT) is damaged",
            )
        case HFValidationError() as refused_name:
            hint = "a repository is named `organization/name`; check `model_path`"
            return UsageError("not a name that a hub knows", causes=[_remark(refused_name)], hint=hint)
        case RuntimeError() | XetDownloadError() as broken_off:
            return MaxbuildError(
                f"could not download {wanted.text}",
                causes=[_remark(broken_off)],
                hint="run again; if it stays so, try the plain way of downloading with HF_HUB_DISABLE_XET=1",
            )
        case other:
            return MaxbuildError(
                f"what answered for {wanted.text} is not a hub",
                causes=[f"{hub_address()}: {_remark(other)}"],
                hint="check HF_ENDPOINT and the proxy: something between here and the hub answers in its place",
            )


def _explain_answer(answer: HfHubHTTPError, wanted: Wanted) -> MaxbuildError:
    """Return the error for an answer of the hub that is a refusal."""
    status = answer.response.status_code
    causes = [f"{_who(answer)} answered {status}" + (f": {remark}" if (remark := _said(answer)) else "")]
    if (wait := wait_asked_for(answer.response.headers)) is not None:
        causes.append(f"it asks to be left alone for {wait:.0f} s")
    match answer:
        case GatedRepoError():
            hint = f"ask for access at {hub_address()}/{wanted.repo_id}, then {_LOG_IN}"
            return MaxbuildError(f"no access to `{wanted.repo_id}`: it is gated", causes=causes, hint=hint)
        case DisabledRepoError():
            hint = "its owner or the hub has taken it away: name another repository in `model_path`"
            return MaxbuildError(f"`{wanted.repo_id}` is disabled", causes=causes, hint=hint)
        case RepositoryNotFoundError():
            hint = f"check the spelling of `model_path`; if the repository is private, {_LOG_IN}"
            return UsageError(f"no repository `{wanted.repo_id}` that you can see", causes=causes, hint=hint)
        case RevisionNotFoundError():
            hint = "check `huggingface_model_revision`: a branch, a tag or a whole commit of that repository"
            return UsageError(f"`{wanted.repo_id}` has no revision `{wanted.revision}`", causes=causes, hint=hint)
        case EntryNotFoundError():
            hint = "the lock names a file that this hub does not have: check HF_ENDPOINT, or pin anew without the lock"
            return MaxbuildError(f"the hub has no {wanted.text}", causes=causes, hint=hint)
    return _explain_status(status, causes, wanted)


def _explain_status(status: int, causes: list[str], wanted: Wanted) -> MaxbuildError:
    """Return the error for a refusal that the hub gave no name to."""
    if status == _UNAUTHORIZED:
        hint = f"the token is missing, wrong or expired: {_LOG_IN}"
        return MaxbuildError(f"the hub wants to know who asks for {wanted.text}", causes=causes, hint=hint)
    if status == _FORBIDDEN:
        hint = f"the token has no right to read it: {_LOG_IN} with one that has"
        return MaxbuildError(f"no access to {wanted.text}", causes=causes, hint=hint)
    if status == _TOO_MANY:
        hint = f"wait a few minutes; more is allowed to those who {_LOG_IN}"
        return MaxbuildError(f"the hub was asked too often, and refuses {wanted.text}", causes=causes, hint=hint)
    if status >= _SERVER_ERROR:
        hint = "the hub has a problem of its own: run again later, what is done so far is kept"
        return MaxbuildError(f"the hub failed to answer for {wanted.text}", causes=causes, hint=hint)
    hint = "check HF_ENDPOINT and the proxy: a hub does not answer so"
    return MaxbuildError(f"the hub refused {wanted.text}", causes=causes, hint=hint)


def with_tries(error: MaxbuildError, patience: Patience, received: int, size: int) -> MaxbuildError:
    """Return `error` with what was done before giving up, and what of the file is there."""
    causes = list(error.causes)
    if patience.failures > 1:
        causes.append(f"tried {patience.failures} times, with {patience.waited:.0f} s of waiting in between")
    if received:
        causes.append(f"{received} of {size} bytes are here and stay: the next run goes on from there")
    return type(error)(error.message, causes=causes, hint=error.hint)


def _who(error: httpx2.HTTPError | httpx2.InvalidURL) -> str:
    """Return who answered, or was to answer: the hub, or where it keeps the bytes."""
    address: object = constants.ENDPOINT
    if isinstance(error, HfHubHTTPError):
        address = error.response.url
    elif isinstance(error, httpx2.HTTPError):
        with suppress(RuntimeError):  # it was raised without a request
            address = error.request.url
    return hub_address() if origin_of(address) == origin_of(constants.ENDPOINT) else origin_of(address)


def _room(error: OSError) -> list[str]:
    """Return how much is free in the hub cache, where it is full."""
    if not is_full(error):
        return []
    place = Path(constants.HF_HUB_CACHE)
    while not place.exists():
        place = place.parent
    return [f"{shutil.disk_usage(place).free} bytes are free there"]


def _reason(error: BaseException) -> BaseException:
    """Return what is behind `error`: huggingface_hub wraps what it met in errors that say less."""
    while isinstance(error, (LocalEntryNotFoundError, ValueError)) and not isinstance(error, HfHubHTTPError):
        if error.__cause__ is None:
            break
        error = error.__cause__
    return error


def _said(answer: HfHubHTTPError) -> str:
    """Return the first line of what the server said, fit to be shown."""
    return _harmless(answer.server_message or "")


def _remark(error: BaseException) -> str:
    """Return what `error` says in one line, or its name where it says nothing."""
    if isinstance(error, httpx2.ReadTimeout) and not str(error).startswith("fewer"):
        return f"nothing came for {constants.HF_HUB_DOWNLOAD_TIMEOUT} s (HF_HUB_DOWNLOAD_TIMEOUT)"
    return _harmless(str(error)) or type(error).__name__


def _harmless(text: str) -> str:
    """Return the first line of `text` without the token, without queries of addresses, and not too long."""
    line = next(iter(text.strip().splitlines()), "")
    if token := get_token():
        line = line.replace(token, "[token]")
    line = re.sub(r"\bhf_\w+", "[token]", line)
    line = re.sub(r"(https?://)[^/\s@]*@", r"\1", line)
    line = re.sub(r"(https?://[^\s?]*)\?\S*", r"\1", line)
    return line if len(line) <= _LONGEST_REMARK else line[:_LONGEST_REMARK] + "…"
