"""`python -m maxbuild`: the command."""

from __future__ import annotations

from maxbuild.cli import run

if __name__ == "__main__":
    run()
