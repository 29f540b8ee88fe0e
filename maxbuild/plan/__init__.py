"""From a manifest and its lock to a graph of tasks.

Invariant: a plan is a function of the manifest, the lock, the toolchain and the results known so far; it runs nothing.
"""

from __future__ import annotations

from maxbuild.plan.graph import ManifestPlan, make_plan
from maxbuild.plan.kinds import KINDS, toolchain_of
from maxbuild.plan.tasks import compile_name, package_name

__all__ = ["KINDS", "ManifestPlan", "compile_name", "make_plan", "package_name", "toolchain_of"]
