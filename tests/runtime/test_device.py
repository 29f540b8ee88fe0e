"""Which device a package runs on, and what is said where it runs on none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from cuda_drivers import compile_driver

from maxbuild.errors import PackageError, UsageError, render
from maxbuild.runtime.device import Gpu, TorchGpus, asked_index, check_memory, choose_device, gpu_of
from maxbuild.runtime.package import PackageHeader, check_host
from maxbuild.runtime.torch_build import TorchBuild, installed_torch, read_build
from maxbuild.targets.host import Host
from maxbuild.targets.spelling import Target

GIB = 1 << 30
H100, A100, MI300X = Target("cuda", "sm_90"), Target("cuda", "sm_80"), Target("hip", "gfx942")
CUDA_TORCH = TorchBuild("2.11.0+cu130", "13.0", None)
CPU_TORCH = TorchBuild("2.11.0+cpu", None, None)
ROCM_TORCH = TorchBuild("2.11.0+rocm7.1", None, "7.1")


@dataclass(frozen=True)
class Machine:
    """GPUs that a test says there are."""

    targets: Sequence[Target]
    free: int = 80 * GIB

    def all(self) -> Sequence[Gpu]:
        return [Gpu(f"GPU of {target.arch}", target) for target in self.targets]

    def memory(self, index: int) -> tuple[int, int]:
        assert index < len(self.targets)
        return self.free, 80 * GIB


def header(target: Target) -> PackageHeader:
    return PackageHeader("demo", target.spelling, {}, None, {"torch": "2.11.0+cpu"}, {})


@pytest.mark.parametrize(
    ("target", "there", "asked", "expected"),
    [
        (H100, [H100], None, "cuda:0"),
        (H100, [A100, H100, H100], None, "cuda:1"),
        (H100, [A100, H100, H100], "cuda", "cuda:1"),
        (H100, [A100, H100, H100], "cuda:2", "cuda:2"),
        (MI300X, [MI300X], "cuda:0", "cuda:0"),
        (A100, [Target("cuda", "sm_86")], None, "cuda:0"),
        (Target("cpu", "x86-64-v3"), [H100], None, "cpu"),
        (Target("cpu", "x86-64-v3"), [H100], "cpu", "cpu"),
    ],
)
def test_the_first_that_fits_or_the_one_that_is_named(
    target: Target, there: Sequence[Target], asked: str | None, expected: str
) -> None:
    """Without a number the first GPU that runs the target is taken; a number means that GPU."""
    device = choose_device(target, asked_index(target, asked), Machine(there))
    assert device == torch.device(expected)


@pytest.mark.parametrize(
    ("target", "there", "asked", "says"),
    [
        (H100, [A100, MI300X], None, ["no GPU here runs", "`cuda:0` is GPU of sm_80 (cuda:sm_80)", "`cuda:1` is"]),
        (H100, [A100, H100], "cuda:0", ["`cuda:0` does not run", "`--device cuda:1` would"]),
        (H100, [H100], "cuda:3", ["`cuda:3` does not run", "`cuda:0` is GPU of sm_90"]),
        (H100, [], None, ["no GPU here runs", "torch sees no GPU"]),
        (H100, [H100], "cpu", ["built for `cuda:sm_90`, it does not run on the device `cpu`"]),
        (Target("cpu", "x86-64-v3"), [H100], "cuda:0", ["does not run on the device `cuda:0`"]),
    ],
)
def test_no_other_device_is_taken_instead(
    target: Target, there: Sequence[Target], asked: str | None, says: Sequence[str]
) -> None:
    """A GPU of another architecture, one that is not there, and a device of another kind are refused by name."""
    with pytest.raises(PackageError) as caught:
        choose_device(target, asked_index(target, asked), Machine(there))
    for words in says:
        assert words in render(caught.value)


@pytest.mark.parametrize("asked", ["gpu", "cuda:", "cuda:x", "hip:0", "cuda:-1", "cuda:1\n", "cuda:٣", ""])
def test_devices_are_spelled_as_torch_does(asked: str) -> None:
    """Anything else is a mistake of the command line, said with what there is."""
    with pytest.raises(UsageError, match="no device is called"):
        asked_index(H100, asked)


def test_weights_that_do_not_fit_are_told_with_both_sizes() -> None:
    """What is needed, free and there is said in GiB; what just fits is let through."""
    machine, device = Machine([H100], free=3 * GIB), torch.device("cuda", 0)
    check_memory(device, 3 * GIB, machine)
    with pytest.raises(PackageError, match=r"weights take 24\.00 GiB, and `cuda:0` has 3\.00 GiB free of 80\.00"):
        check_memory(device, 24 * GIB, machine)


def test_properties_of_torch_name_the_target() -> None:
    """CUDA's are told by their capability; AMD's by LLVM's name, less the features that follow it."""
    nvidia = SimpleNamespace(name="NVIDIA H200", major=9, minor=0)
    amd = SimpleNamespace(name="AMD Instinct MI210", major=9, minor=0, gcnArchName="gfx90a:sramecc+:xnack-")
    assert str(gpu_of(nvidia)) == "NVIDIA H200 (cuda:sm_90)"
    assert gpu_of(amd).target == Target("hip", "gfx90a")


@pytest.mark.skipif(torch.cuda.is_available(), reason="torch can use a GPU here")
def test_what_torch_says_of_a_driver_is_handed_on() -> None:
    """A torch that cannot use GPUs, for its build or for the driver, gives its own words as the cause."""
    with pytest.raises(PackageError, match="cannot use this host's GPUs") as caught:
        TorchGpus().all()
    assert caught.value.causes[0]
    assert caught.value.hint is not None


@pytest.fixture(scope="module")
def h100_host(tmp_path_factory: pytest.TempPathFactory) -> Host:
    """Return a host whose driver has a GPU of sm_90 where `CUDA_STUB` says so."""
    return Host(cuda_driver=str(compile_driver(tmp_path_factory.mktemp("driver"))))


@pytest.fixture
def with_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the driver have a GPU of sm_90."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("CUDA_STUB", "9.0")


@pytest.mark.usefixtures("with_gpu")
def test_a_torch_for_cpus_is_told_where_the_gpu_is_there(h100_host: Host) -> None:
    """The GPU is right and torch is not: that is said, with the way to another torch; the right torch passes."""
    check_host(header(H100), h100_host, CUDA_TORCH)
    for torch_here, says in ((CPU_TORCH, "built for CPUs alone"), (ROCM_TORCH, "built for ROCm, with HIP 7.1")):
        with pytest.raises(PackageError, match="the torch of this host cannot use") as caught:
            check_host(header(H100), h100_host, torch_here)
        assert says in caught.value.causes[0]
        assert "torch 2.11.0 for GPUs" in str(caught.value.hint)


@pytest.mark.usefixtures("with_gpu")
def test_all_that_is_wrong_is_told_at_once(h100_host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a visible GPU the reason is given, and an unfit torch beside it; another architecture is named."""
    with pytest.raises(PackageError, match="cannot run") as caught:
        check_host(header(A100), h100_host, CUDA_TORCH)
    assert caught.value.causes == ("this host's NVIDIA GPU is cuda:sm_90",)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(PackageError) as caught:
        check_host(header(H100), h100_host, CPU_TORCH)
    assert "CUDA_VISIBLE_DEVICES is empty" in caught.value.causes[0]
    assert caught.value.causes[1] == "torch 2.11.0+cpu is built for CPUs alone"


@pytest.mark.usefixtures("with_gpu")
def test_another_torch_comes_before_another_build_of_it(h100_host: Host) -> None:
    """A version that does not go with the package would not do with CUDA either."""
    with pytest.raises(PackageError, match=r"built with torch 2\.11\.0"):
        check_host(header(H100), h100_host, TorchBuild("2.13.0+cpu", None, None))


def test_reads_what_torch_was_built_for(tmp_path: Path) -> None:
    """The file that torch's build writes is read, in both forms that there have been; without it torch is a CPU's."""
    source = tmp_path / "version.py"
    source.write_text("cuda: Optional[str] = '13.0'\nhip: Optional[str] = None\ndebug = False\n")
    assert read_build("2.11.0", source) == TorchBuild("2.11.0", "13.0", None)
    source.write_text("cuda = None\nhip = '7.1.52802'\n")
    assert read_build("2.11.0", source).serves("hip")
    assert read_build("2.11.0", tmp_path / "none.py") == TorchBuild("2.11.0", None, None)


def test_the_torch_here_is_read_as_it_says_of_itself() -> None:
    """What is read without an import equals what torch says."""
    assert installed_torch() == TorchBuild(torch.__version__, torch.version.cuda, torch.version.hip)
