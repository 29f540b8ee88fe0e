"""`python -m maxbuild`: the command."""

from __future__ import annotations

import sys

from maxbuild.cli import main

if __name__ == "__main__":
    sys.exit(main())
