"""Everything that speaks to a model hub; nothing else does. Importing this imports the network library.

huggingface_hub reads HF_HOME, HF_HUB_CACHE, HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE; nothing here reads them again.
Whatever goes wrong leaves this room as a MaxbuildError, without tokens and without signed addresses.
"""

from __future__ import annotations

import logging
import os

from huggingface_hub import logging as _hub_logging

from maxbuild.hub.addresses import address_place, fetch_address
from maxbuild.hub.cached import cached_place, note_revision
from maxbuild.hub.hashing import hash_small_file
from maxbuild.hub.listing import RenamedRepositoryWarning, list_repository, newest_commit
from maxbuild.hub.places import blob_name, remove_cached
from maxbuild.hub.problems import Wanted
from maxbuild.hub.transfer import Fetched, fetch_file, is_offline

__all__ = [
    "Fetched",
    "RenamedRepositoryWarning",
    "Wanted",
    "address_place",
    "blob_name",
    "cached_place",
    "fetch_address",
    "fetch_file",
    "hash_small_file",
    "is_offline",
    "list_repository",
    "newest_commit",
    "note_revision",
    "remove_cached",
]

# Its warnings would be written over the live display, and name signed addresses. What matters in them comes as errors.
if "HF_HUB_VERBOSITY" not in os.environ:
    _hub_logging.set_verbosity(logging.ERROR)
