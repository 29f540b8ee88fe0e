"""Names inside a package directory, known to who places packages and to who reads them."""

from __future__ import annotations

HEADER = "package.json"
