"""Everything that speaks to a model hub; nothing else does. Importing this imports the network library.

huggingface_hub reads HF_HOME, HF_HUB_CACHE, HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE; nothing here reads them again.
Whatever goes wrong leaves this room as a MaxbuildError, without tokens and without signed addresses.
"""

from __future__ import annotations

import logging
import os

from huggingface_hub import logging as _hub_logging

from maxbuild.hub.content import content_digest
from maxbuild.hub.listing import list_repository
from maxbuild.hub.transfer import blob_name, fetch_file, is_offline, remove_cached

__all__ = ["blob_name", "content_digest", "fetch_file", "is_offline", "list_repository", "remove_cached"]

# Its warnings would be written over the live display, and name signed addresses. What matters in them comes as errors.
if "HF_HUB_VERBOSITY" not in os.environ:
    _hub_logging.set_verbosity(logging.ERROR)
