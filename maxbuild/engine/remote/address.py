"""Where a remote lies and who asks: addresses, instances and credentials, checked before anything is opened."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Final
from urllib.parse import SplitResult, urlsplit

from maxbuild.engine.remote.cache import RemoteCache
from maxbuild.engine.remote.transport import Limits, Transport
from maxbuild.errors import UsageError, printable

TOKEN: Final = "MAXBUILD_REMOTE_TOKEN"  # noqa: S105 - the name of a variable
USER: Final = "MAXBUILD_REMOTE_USER"
PASSWORD: Final = "MAXBUILD_REMOTE_PASSWORD"  # noqa: S105 - the name of a variable

_HTTP = frozenset({"http", "https"})
# A closed list: fsspec's own schemes hold some that chain, unpack or cache, and none of that is wanted here.
_PROVIDERS: Mapping[str, tuple[str | None, str]] = {
    "file": (None, "fsspec"),
    "s3": ("s3fs", "'maxbuild[s3]'"),
    "gs": ("gcsfs", "fsspec gcsfs"),
    "abfs": ("adlfs", "fsspec adlfs"),
}
_INSTANCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)
_HOLDERS = frozenset({"ac", "cas"})
_HINT = "give an address such as https://cache.example.com/maxbuild or s3://bucket/maxbuild"


@dataclass(frozen=True, slots=True)
class Address:
    """Where one instance lies, without slash at its end, and the header that says who asks, which is never printed."""

    scheme: str
    url: str
    authorization: str | None = field(repr=False)


def open_remote(
    url: str, *, instance: str, write: bool, environ: Mapping[str, str], limits: Limits | None = None
) -> RemoteCache:
    """Return the remote cache at `url`, as far as `instance` goes; no connection is made before the first request.

    Credentials come from `environ`; for other addresses than http and https, from where the provider's library looks.
    Raises UsageError for an address, an instance or a credential that makes no sense, and for `write` without one.
    """
    parts = _checked_url(url)
    if _INSTANCE.fullmatch(instance) is None or instance in _HOLDERS:
        raise UsageError(
            f"not a name for an instance of a remote cache: `{instance}`",
            hint="use letters, digits, `.`, `_` and `-`, such as `main` or `pr-1234`; not `ac` or `cas`",
        )
    authorization = None
    if parts.scheme in _HTTP:
        authorization = _authorization(environ)
        if write and authorization is None:
            raise UsageError(
                "writing to a remote cache needs a credential",
                hint=f"set {TOKEN}, or {USER} and {PASSWORD}, or leave out --remote-write",
            )
    else:
        _check_provider(parts.scheme)
    address = Address(parts.scheme, f"{url.rstrip('/')}/{instance}", authorization)
    limits = limits or Limits()
    return RemoteCache(printable(address.url), _opener(address, limits), writable=write, limits=limits)


def _checked_url(url: str) -> SplitResult:
    """Return the parts of `url`; UsageError when it is no address of a remote. What may be secret is not repeated."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises for what is no port
    except ValueError as error:
        raise UsageError("not an address of a remote cache", causes=[str(error)], hint=_HINT) from error
    if "@" in parts.netloc:
        raise UsageError(
            "the address of the remote cache holds a name or a password",
            hint=f"leave it out, and set {USER} and {PASSWORD} (or {TOKEN}) instead",
        )
    if parts.query or parts.fragment or "?" in url or "#" in url:
        raise UsageError("the address of the remote cache has a `?` or a `#`, and nothing can follow it", hint=_HINT)
    if not url.isprintable() or " " in url or "\\" in url or "::" in parts.path:
        raise UsageError(f"not an address of a remote cache: {url!r}", hint=_HINT)
    if parts.scheme not in _HTTP and parts.scheme not in _PROVIDERS:
        known = ", ".join(f"{scheme}://" for scheme in sorted(_HTTP | set(_PROVIDERS)))
        raise UsageError(
            f"not an address of a remote cache: `{url}`", causes=[f"it begins with none of {known}"], hint=_HINT
        )
    if parts.scheme == "file":
        if parts.netloc or not parts.path.startswith("/"):
            raise UsageError(f"not the address of a folder: `{url}`", hint="write three slashes: file:///srv/maxbuild")
    elif not (parts.hostname if parts.scheme in _HTTP else parts.netloc):
        raise UsageError(f"the address of the remote cache names no host: `{url}`", hint=_HINT)
    return parts


def _authorization(environ: Mapping[str, str]) -> str | None:
    """Return the header `Authorization` that the environment asks for, None for none; UsageError when it is unclear."""
    token, user, password = (environ.get(name) or None for name in (TOKEN, USER, PASSWORD))
    if token is not None and (user or password):
        raise UsageError(f"{TOKEN} is set, and {USER} or {PASSWORD} too", hint="set the token, or the other two")
    if (user is None) != (password is None):
        there, missing = (USER, PASSWORD) if user else (PASSWORD, USER)
        raise UsageError(f"{there} is set, and {missing} is not", hint="set both, or neither")
    if token is not None:
        if not (token.isascii() and token.isprintable()) or " " in token:
            raise UsageError(f"{TOKEN} is no token", hint="it is one word of ASCII; look for a line break at its end")
        return f"Bearer {token}"
    if user is None or password is None:
        return None
    if ":" in user or not (user + password).isprintable():
        raise UsageError(f"{USER} and {PASSWORD} cannot be sent", hint="no `:` in the name, no line break in either")
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def _check_provider(scheme: str) -> None:
    """Raise UsageError when the libraries that speak to `scheme` are not installed; nothing is imported."""
    module, packages = _PROVIDERS[scheme]
    for name in ("fsspec", module):
        if name is not None and find_spec(name) is None:
            hint = f"pip install {packages}"
            raise UsageError(f"a remote cache at {scheme}:// needs `{name}`, which is not installed", hint=hint)


def _opener(address: Address, limits: Limits) -> Callable[[], Transport]:
    """Return what opens the way to `address`, and imports what is needed for it, once it is called."""

    def over_http() -> Transport:
        from maxbuild.engine.remote.http import HttpTransport  # noqa: PLC0415 - imports a network library

        return HttpTransport(address.url, address.authorization, limits)

    def over_provider() -> Transport:
        from maxbuild.engine.remote.filesystem import FilesystemTransport  # noqa: PLC0415 - imports fsspec

        return FilesystemTransport(address.scheme, address.url, limits)

    return over_http if address.scheme in _HTTP else over_provider
