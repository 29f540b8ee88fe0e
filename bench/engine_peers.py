"""The environment of the peers: a folder with what `peers.txt` names, so that nothing of theirs meets ours."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Collection
from pathlib import Path

from bench.engine_tools import PEERS, Tool, our_tools
from bench.harness import BenchError, child_environment, run_process, talk

REQUIREMENTS = Path(__file__).parent / "peers.txt"


def find_tools(environment: Path, wanted: Collection[str]) -> tuple[list[Tool], list[str]]:
    """Return our engine and those of the `wanted` peers that can be had, and a note on each that cannot.

    The folder `environment` is made and filled where it does not exist. A peer that PyPI does not bring is taken from
    the machine, where Debian may have put it.
    """
    complaints: dict[str, str] = {}
    if wanted and not environment.exists():
        complaints = _install(environment)
    tools = our_tools()
    notes = []
    for peer in PEERS:
        program = shutil.which(peer.name, path=environment / "bin") or shutil.which(peer.name)
        if peer.name in wanted and program is not None:
            tools.append(peer((program,)))
        elif peer.name in wanted:
            notes.append(f"{peer.name} could not be had: {complaints.get(peer.name, 'it is not installed')}")
    return tools, notes


def _install(environment: Path) -> dict[str, str]:
    """Make a virtual environment and put each peer into it; return what went wrong, by the name of the peer."""
    talk(f"installing peers into {environment}")
    run_process((sys.executable, "-m", "venv", environment), child_environment())
    complaints = {}
    for line in REQUIREMENTS.read_text().splitlines():
        requirement = line.strip()
        if requirement and not requirement.startswith("#"):
            pip = (environment / "bin" / "python", "-m", "pip", "install", "--quiet", requirement)
            try:
                run_process(pip, child_environment())
            except BenchError as error:  # the others may still be had
                complaints[requirement.partition("==")[0]] = str(error).splitlines()[-1]
    return complaints
