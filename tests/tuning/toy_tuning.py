"""A package of toy regions with alternatives, a clock that goes by what ran, and tunings to write beside packages."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from toy_model import toy_model

from maxbuild.errors import PackageError
from maxbuild.runtime import LoadedPackage
from maxbuild.runtime.model import RegionCall
from maxbuild.runtime.package import ComponentEntry, FileEntry, PackageHeader
from maxbuild.runtime.tuning import Circumstances, Trial, Tuning

CPU = torch.device("cpu")
REGIONS = ("before", "block", "after")


def header(alternatives: Mapping[str, Mapping[str, str]], target: str = "cuda:sm_90") -> PackageHeader:
    """Return the header of a package of the toy model, with files that are nowhere."""
    component = ComponentEntry(
        program="main/program.json",
        weights="main/weights.json",
        regions={name: f"regions/{name}.pt2" for name in REGIONS},
        files={},
        served_model_name=None,
        alternatives=alternatives,
    )
    files = {path: FileEntry("0" * 64, 1) for path in component.paths}
    return PackageHeader("toy", target, {"main": component}, None, {"torch": torch.__version__}, files)


def write_header(folder: Path, alternatives: Mapping[str, Mapping[str, str]], target: str = "cuda:sm_90") -> Path:
    """Write a package that is nothing but its header, and return its folder."""
    folder.mkdir(parents=True)
    (folder / "package.json").write_text(json.dumps(header(alternatives, target).to_json()))
    return folder


def tuning(
    package: str, choices: Mapping[str, str], *, device: str = "H200", torch_version: str = "2.13.0+cu130"
) -> Tuning:
    """Return a tuning of the package with this digest."""
    made_with = Circumstances(package, device, "cuda:sm_90", torch_version)
    default = Trial("main/block", 0, "regions/block.pt2", {"decode 1": 84_100}, {"decode 1": 1.0}, None, None)
    faster = Trial("main/block", 1, "regions/fast.pt2", {"decode 1": 70_000}, {"decode 1": 0.83}, 0.0, None)
    wrong = Trial("main/block", 2, "regions/wrong.pt2", {}, {}, None, "it is off by 1.0e+00, more than 1e-04")
    return Tuning(made_with, "580.65.06", choices, [default, faster, wrong])


@dataclass
class Works:
    """Regions that note which of them ran, and a clock that takes each for as long as `costs` says."""

    costs: Mapping[str, float]
    device: torch.device = CPU
    ran: list[str] = field(default_factory=list)

    def seconds(self, work: Callable[[], object]) -> float:
        """Do `work` and return what the region that it ran costs."""
        work()
        return self.costs.get(self.ran[-1], 1.0)

    def package(self, alternatives: Mapping[str, Mapping[str, str]]) -> LoadedPackage:
        """Return the toy package with `alternatives`, by region and rank."""
        model = toy_model(1, self.device).with_regions(lambda name, region: self.noting(f"{name}.pt2", region))
        return LoadedPackage(header(alternatives), {"main": model}, Path("toy"), self.device)

    def load(self, path: Path) -> RegionCall:
        """Return the region `path` names, of the toy's block: as it is, or with the mistake that the name tells."""
        if path.stem == "damaged":
            raise PackageError(f"could not load the compiled region `{path.name}`", causes=["no such kernel"])
        block: RegionCall = toy_model(1, self.device)._regions["block"]

        def call(inputs: list[Tensor]) -> Sequence[Tensor]:
            hidden, seen = inputs[0], inputs[3]
            if path.stem == "failing":
                raise PackageError(f"could not run the compiled region `{path.name}`", causes=["too many threads"])
            (mixed,) = block(inputs)
            match path.stem:
                case "wrong":
                    return [mixed + 1]
                case "nan":
                    return [mixed * float("nan")]
                case "wrong_in_prefill" if hidden.shape[1] > 1:
                    return [mixed + 1]
                case "forgetful":
                    seen.zero_()
            return [mixed]

        return self.noting(path.name, call)

    def noting(self, name: str, region: RegionCall) -> RegionCall:
        """Return `region`, noted under `name` whenever it runs; like a compiled one it empties the list it gets."""

        def call(inputs: list[Tensor]) -> Sequence[Tensor]:
            given = list(inputs)
            inputs.clear()
            self.ran.append(name)
            return region(given)

        return call
