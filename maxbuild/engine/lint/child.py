"""The watched side of an isolated task: the worker as it always is, with the audit hook in place before its step.

`python -m maxbuild.engine.lint.child FILE` appends a line to FILE for each access, at once: the process may be killed.
"""

from __future__ import annotations

import os
import sys

from maxbuild.engine.lint.access import Access
from maxbuild.engine.lint.hook import watch_process


def main() -> None:
    """Watch this process and carry out the request on stdin."""
    descriptor = os.open(sys.argv.pop(), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def note(access: Access) -> None:
        os.write(descriptor, access.to_line())

    watch_process(note)
    from maxbuild.engine import worker  # noqa: PLC0415 - watched, like all that follows

    worker.main()


if __name__ == "__main__":
    main()
