"""Cancellation: what ends work in a thread when the build was interrupted."""

from __future__ import annotations


class Cancelled(BaseException):
    """The build was interrupted; not an Exception, so that no step catches it by accident."""
