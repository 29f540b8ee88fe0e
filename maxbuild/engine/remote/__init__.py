"""A remote cache: results and blobs that other builders have left at an address, and may be left there for others.

It knows keys, digests and files; no store, no graph, no terminal. Every blob is compared with its digest while it comes
in, and a remote that is out of reach or does not tell the truth costs one warning, after which it is not asked again.
An action result is believed as it is: who may write an instance decides what its readers run (docs/remote-cache.md).
Libraries that speak to a network are imported with the first request, not before.
"""

from __future__ import annotations

from maxbuild.engine.remote.action import RemoteOutput, RemoteResult
from maxbuild.engine.remote.address import open_remote
from maxbuild.engine.remote.cache import RemoteCache, RemoteStatistics
from maxbuild.engine.remote.transport import Limits
from maxbuild.engine.remote.trouble import RemoteCacheWarning

__all__ = [
    "Limits",
    "RemoteCache",
    "RemoteCacheWarning",
    "RemoteOutput",
    "RemoteResult",
    "RemoteStatistics",
    "open_remote",
]
