"""Downloads under the hermeticity lint."""

from __future__ import annotations

from pathlib import Path

import pytest
from hub_world import REPOSITORY
from server import Hub

from maxbuild.engine import Kind, Store, execute
from maxbuild.engine.lint import Allowance, LintingExecutor, LintReport
from maxbuild.hub import list_repository
from maxbuild.lock import LockedRepository
from maxbuild.steps.download import KIND, download_task
from maxbuild.steps.hermeticity import allowances


class OneDownload:
    """A plan of one download."""

    def __init__(self, repository: LockedRepository) -> None:
        self.tasks = [download_task(repository, repository.files[0], "main")]

    def grow(self, _results: object) -> tuple[()]:
        return ()

    def deferred(self, _results: object) -> tuple[()]:
        return ()


@pytest.mark.parametrize("told", [True, False])
def test_downloads_touch_the_hub_cache_alone(hub: Hub, told: bool, tmp_path: Path) -> None:
    """A download reads and writes in the hub cache, which only its kind is allowed to, and nowhere else."""
    hub.push(REPOSITORY, {"config.json": b"{}"})
    reports: list[LintReport] = []
    known: dict[str, tuple[Allowance, ...]] = {kind: tuple(places) for kind, places in allowances().items()}
    executor = LintingExecutor(reports.append, known if told else None)
    kinds = {KIND: Kind(KIND, "maxbuild.steps.download:run", isolated=False)}

    with Store(tmp_path / "store") as store:
        done = execute(
            OneDownload(list_repository(REPOSITORY, "main")), store, kinds, scope="s", jobs=1, executor=executor
        )

    assert done.tasks[0].error is None
    (report,) = reports
    assert (report.findings == ()) is told, report.findings
