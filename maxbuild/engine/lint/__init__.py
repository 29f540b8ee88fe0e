"""The hermeticity lint: steps run watched, and what they touch beyond what they declare is told.

A step may read its inputs and write in its scratch folder. What else shapes its result should be in its key, or on the
list of `allowances`, each with its reason. The watch changes nothing of what a step does or leaves.
"""

from __future__ import annotations

from maxbuild.engine.lint.allowances import Allowance
from maxbuild.engine.lint.executor import LintingExecutor
from maxbuild.engine.lint.judge import Finding, LintReport

__all__ = ["Allowance", "Finding", "LintReport", "LintingExecutor"]
