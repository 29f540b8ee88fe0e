"""samplers: the regions that pick tokens from logits and judge proposals; of no model, and for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maxbuild.engine import Job, canonical_json
from maxbuild.targets.environment import clear_environment, use_folder

if TYPE_CHECKING:
    from maxbuild.models.samplers import Acceptance

PROGRAM = "program"
REGIONS = "regions/"


def run(job: Job) -> Mapping[str, Path]:
    """Trace the samplers.

    params: acceptance, None where there is no draft; else `strategy`, and what shapes it besides: `relaxed_topk` and
    `relaxed_delta`, or for `synthetic` `synthetic_acceptance_rate` and `num_speculative_tokens`. Leaves `program` and
    one `regions/…` per sampler.
    """
    clear_environment()
    use_folder(job.scratch / "inductor")  # torch makes it, though nothing is compiled
    # Imported only now: torch reads the environment when it is imported.
    from maxbuild.models.samplers import make_samplers, program_of  # noqa: PLC0415

    params: Mapping[str, Any] = job.params
    acceptance = None if params["acceptance"] is None else _acceptance(params["acceptance"])
    samplers = make_samplers(acceptance)
    outputs = {PROGRAM: _write(job.scratch / "program.json", program_of(samplers, acceptance).to_json())}
    for name, sampler in samplers.items():
        outputs[f"{REGIONS}{name}"] = _write(job.scratch / REGIONS / f"{name}.json", sampler.to_graph().to_json())
    return outputs


def _acceptance(said: Mapping[str, Any]) -> Acceptance:
    from maxbuild.models.samplers import Acceptance, Relaxed, coin_rate_of  # noqa: PLC0415
    from maxbuild.runtime.samplers import Strategy  # noqa: PLC0415

    strategy = Strategy(said["strategy"])
    if strategy is Strategy.SYNTHETIC:
        rate = coin_rate_of(float(said["synthetic_acceptance_rate"]), int(said["num_speculative_tokens"]))
        return Acceptance(strategy, coin_rate=rate)
    relaxed = Relaxed(said["relaxed_topk"], float(said["relaxed_delta"])) if "relaxed_topk" in said else None
    return Acceptance(strategy, relaxed)


def _write(path: Path, document: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(canonical_json(document))
    return path
