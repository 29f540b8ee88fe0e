"""What can be wrong with a remote, in words that hold no secret; none of it ever ends a build.

RemoteTrouble       something is wrong with the remote
├─ Unreachable      no answer came, or one that broke off or was too slow
├─ Refusal          an answer that says no
└─ Lie              an answer that cannot be true
"""

from __future__ import annotations


class RemoteCacheWarning(UserWarning):
    """A remote cache is out of reach, refuses or lies; the build goes on without it."""


class RemoteTrouble(Exception):
    """Something is wrong with the remote. `what` continues the sentence "the remote cache at …".

    `again` says that the same request may well succeed a moment later.
    """

    def __init__(self, what: str, *, again: bool = False) -> None:
        super().__init__(what)
        self.what = what
        self.again = again


class Unreachable(RemoteTrouble):
    """No answer came, or one that broke off or was too slow."""


class Refusal(RemoteTrouble):
    """The remote answers, and says no."""


class Lie(RemoteTrouble):
    """The remote sent what cannot be true: bytes of another digest, or something that is no action result."""
