"""The distributed executor: steps carried out by the workers of a dask cluster, one errand in JSON for each.

What travels through the cluster is text: the task's document, names of functions, the address of the remote cache.
Content goes through that cache, by digest, and is verified at both ends; credentials go nowhere. dask is imported only
below here, and only once there is something to send.
"""

from __future__ import annotations

from maxbuild.engine.distributed.address import open_executor
from maxbuild.engine.distributed.worker import carry_out_order

__all__ = ["carry_out_order", "open_executor"]
