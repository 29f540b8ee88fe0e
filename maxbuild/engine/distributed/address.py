"""Which executor a build gets: what `--executor` may say, checked before anything is imported or connected."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Final
from urllib.parse import urlsplit

from maxbuild.engine.distributed.client import DaskExecutor
from maxbuild.engine.executor import Executor, LocalExecutor
from maxbuild.engine.sharing import Sharing
from maxbuild.errors import UsageError

PATIENCE: Final = "MAXBUILD_DASK_PATIENCE"
"""The variable that says how many seconds a cluster without workers is waited for."""

_LOCAL = "local"
_DEFAULT_PATIENCE = 300.0
_HINT = "write `local`, or the address of a dask scheduler such as `dask://scheduler.example.com:8786`"


def open_executor(spec: str, sharing: Sharing | None, environ: Mapping[str, str] = os.environ) -> Executor:
    """Return the executor that `spec` (`local`, or `dask://host:port`) asks for; it connects when it is first used.

    Raises UsageError for a `spec` that makes no sense, and where a cluster could not be used: without dask, or without
    a remote cache in `sharing` that takes what it is given.
    """
    if spec == _LOCAL:
        return LocalExecutor()
    address = _scheduler(spec)
    patience = _patience(environ)
    if find_spec("distributed") is None:
        raise UsageError(f"the executor {spec} needs dask, which is not installed", hint="pip install 'maxbuild[dask]'")
    if sharing is None or not sharing.cache.writable:
        raise UsageError(
            f"the executor {spec} needs a remote cache that may be written",
            causes=["what tasks consume and leave goes through it, not through the cluster"],
            hint="add `--remote URL --remote-write`",
        )
    return DaskExecutor(address, sharing.cache, patience=patience)


def _scheduler(spec: str) -> str:
    """Return the address of the scheduler as dask spells it; UsageError where `spec` is none."""
    try:
        parts = urlsplit(spec)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise UsageError(f"not an executor: `{spec}`", causes=[str(error)], hint=_HINT) from error
    rest = (parts.username, parts.password, parts.path.strip("/"), parts.query, parts.fragment)
    if parts.scheme != "dask" or not host or not port or any(rest):
        raise UsageError(f"not an executor: `{spec}`", hint=_HINT)
    return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"


def _patience(environ: Mapping[str, str]) -> float:
    text = environ.get(PATIENCE)
    if not text:
        return _DEFAULT_PATIENCE
    if not text.isdecimal():
        raise UsageError(f"{PATIENCE} is `{text}`", hint="give a number of seconds, such as 300")
    return float(text)
