"""The store that a command looks after: the one that `warm` would use."""

from __future__ import annotations

import os

from maxbuild.engine import Store, default_store_root


def open_store() -> Store:
    """Open the store that the environment asks for; StoreError where it cannot be read."""
    return Store(default_store_root(os.environ))
