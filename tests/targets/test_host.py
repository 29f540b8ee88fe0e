"""The host: what of each API it has, what its bare targets mean, and what it can run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cuda_drivers import compile_driver

from maxbuild.errors import PackageError, UsageError
from maxbuild.runtime.package import PackageHeader, check_host
from maxbuild.targets.host import Host
from maxbuild.targets.spelling import ARCHITECTURES, Target, parse_target

HostWith = Callable[[str], Host]

V2 = "cx16 lahf_lm popcnt sse4_1 sse4_2 ssse3"
V3 = "avx avx2 bmi1 bmi2 f16c fma abm movbe xsave"
V4 = "avx512f avx512bw avx512cd avx512dq avx512vl"


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the stand-in for NVIDIA's driver."""
    return compile_driver(tmp_path_factory.mktemp("driver"))


@pytest.fixture
def cuda_host(driver: Path, monkeypatch: pytest.MonkeyPatch) -> HostWith:
    """Return a function that makes a host of NVIDIA GPUs by their compute capabilities, as in `8.0 9.0`."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def host(capabilities: str) -> Host:
        monkeypatch.setenv("CUDA_STUB", capabilities)
        return Host(cuda_driver=str(driver))

    return host


@pytest.fixture
def hip_host(tmp_path: Path) -> HostWith:
    """Return a function that makes a host of AMD GPUs by their `gfx_target_version`s; its first node is a CPU."""

    def host(versions: str) -> Host:
        (tmp_path / "kfd").touch()
        for node, version in enumerate(["0", *versions.split()]):
            folder = tmp_path / "nodes" / str(node)
            folder.mkdir(parents=True)
            (folder / "properties").write_text(f"simd_count 304\ngfx_target_version {version}\nvendor_id 4098\n")
        return Host(kfd=tmp_path / "kfd", kfd_nodes=tmp_path / "nodes")

    return host


@pytest.mark.parametrize(
    ("flags", "levels"),
    [
        (f"fpu {V2} {V4}", ("x86-64-v2",)),
        (f"{V2} {V3} {V4}", ("x86-64-v2", "x86-64-v3", "x86-64-v4")),
        (f"{V2} {V3.removesuffix(' xsave')} {V4}", ("x86-64-v2",)),
        (f"{V3} {V4}", ()),
    ],
)
def test_a_level_counts_only_with_all_below(tmp_path: Path, flags: str, levels: tuple[str, ...]) -> None:
    """Levels are read from the flags of the CPU, and none is skipped."""
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\nflags\t\t: {flags}\n")
    host = Host(cpuinfo=cpuinfo)
    assert tuple(host.find("cpu").archs) == levels
    assert [arch for arch in ARCHITECTURES["cpu"] if host.runs(Target("cpu", arch))] == list(levels)


def test_bare_cpu_is_the_best_level_and_runs_here() -> None:
    """The bare spelling stands for a target of this very host."""
    target = parse_target("cpu")
    assert target == Host().target("cpu")
    assert Host().runs(target)


def test_a_cpu_without_a_level_is_told(tmp_path: Path) -> None:
    """A host of another kind of CPU has no bare `cpu`, and can still name a target to build for."""
    with pytest.raises(UsageError) as caught:
        Host(cpuinfo=tmp_path / "nowhere").target("cpu")
    assert "`cpu:x86-64-v2`" in str(caught.value.hint)


def test_cuda_gpus_are_those_that_the_driver_tells(cuda_host: HostWith) -> None:
    """The driver's own calls are made; a bare `cuda` is the first GPU, and any one that can run a target is enough."""
    host = cuda_host("9.0 8.6")
    assert host.find("cuda").archs == ["sm_90", "sm_86"]
    assert host.target("cuda") == Target("cuda", "sm_90")
    can_run = {arch for arch in ARCHITECTURES["cuda"] if host.runs(Target("cuda", arch))}
    assert can_run == {"sm_90", "sm_86", "sm_80"}


def test_capabilities_of_two_digits_are_told_apart(cuda_host: HostWith) -> None:
    """10.0 is `sm_100` and 12.0 `sm_120`."""
    assert cuda_host("10.0 12.0 10.3").find("cuda").archs == ["sm_100", "sm_120", "sm_103"]


@pytest.mark.parametrize(
    ("capability", "runs"),
    [
        ("8.0", {"sm_80"}),
        ("8.6", {"sm_80", "sm_86"}),
        ("8.9", {"sm_80", "sm_86", "sm_89"}),
        ("9.0", {"sm_90"}),
        ("10.0", {"sm_100"}),
        ("10.3", set()),
        ("12.0", {"sm_120"}),
        ("12.1", set()),
        ("7.5", set()),
    ],
)
def test_cubins_run_by_nvidias_rule(cuda_host: HostWith, capability: str, runs: set[str]) -> None:
    """Code for X.y runs on X.z with z >= y; from 9.0 on it is code for the one capability alone."""
    host = cuda_host(capability)
    assert {arch for arch in ARCHITECTURES["cuda"] if host.runs(Target("cuda", arch))} == runs


def test_triton_makes_code_for_one_capability_alone_from_9_0_on() -> None:
    """What the rule above rests on: Triton adds the `a` of architecture-specific code, and to these targets only."""
    from triton.backends.nvidia.compiler import sm_arch_from_capability

    made = [sm_arch_from_capability(int(arch.removeprefix("sm_"))) for arch in ARCHITECTURES["cuda"]]
    assert made == ["sm_80", "sm_86", "sm_89", "sm_90a", "sm_100a", "sm_120a"]


@pytest.mark.parametrize(
    ("capability", "hint"),
    [
        ("8.7", "spell a target in full: `cuda:sm_80` and `cuda:sm_86` would run on it"),
        ("7.5", "spell a target in full: `cuda:sm_80`, `cuda:sm_86`, `cuda:sm_89`, `cuda:sm_90`"),
    ],
)
def test_a_gpu_that_the_table_lacks_is_named(cuda_host: HostWith, capability: str, hint: str) -> None:
    """The message says what was found, the hint what would run on it, or else all there is."""
    with pytest.raises(UsageError) as caught:
        cuda_host(capability).target("cuda")
    assert f"`cuda:sm_{capability.replace('.', '')}`" in caught.value.message
    assert str(caught.value.hint).startswith(hint)


def test_no_driver_and_no_gpu_are_told_apart(cuda_host: HostWith, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each way of having no GPU is a cause of its own, and every one has the way out."""
    reasons = {
        "missing": Host(cuda_driver="libno-such-driver.so.1").find("cuda").reason,
        "empty": cuda_host("").find("cuda").reason,
    }
    monkeypatch.setenv("CUDA_STUB_RESULT", "803")
    reasons["broken"] = cuda_host("9.0").find("cuda").reason
    assert reasons == {
        "missing": "no driver: libno-such-driver.so.1: cannot open shared object file: No such file or directory",
        "empty": "the driver has no device",
        "broken": "cuInit answers 803, the library does not fit the kernel's driver",
    }
    with pytest.raises(UsageError) as caught:
        cuda_host("9.0").target("cuda")
    assert caught.value.causes == (reasons["broken"],)
    assert "`cuda:sm_90`" in str(caught.value.hint)


def test_hidden_gpus_are_none(cuda_host: HostWith, monkeypatch: pytest.MonkeyPatch) -> None:
    """`CUDA_VISIBLE_DEVICES=` makes a host without a GPU of one that has one."""
    host = cuda_host("9.0")
    assert host.runs(Target("cuda", "sm_90"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert host.find("cuda").reason == "CUDA_VISIBLE_DEVICES is empty"
    assert not host.runs(Target("cuda", "sm_90"))


@pytest.mark.parametrize(
    ("version", "arch"), [("90010", "gfx90a"), ("90402", "gfx942"), ("90500", "gfx950"), ("110000", "gfx1100")]
)
def test_amd_gpus_are_those_of_the_kernels_topology(hip_host: HostWith, version: str, arch: str) -> None:
    """The kernel's decimal version becomes LLVM's name, CPUs count for nothing, and code runs on its own kind."""
    host = hip_host(version)
    assert host.find("hip").archs == [arch]
    assert host.target("hip") == Target("hip", arch)
    assert [known for known in ARCHITECTURES["hip"] if host.runs(Target("hip", known))] == [arch]


def test_several_amd_gpus_stand_in_the_kernels_order(hip_host: HostWith) -> None:
    """Nodes are ordered by number: the tenth is not the second."""
    host = hip_host("90010 110000 " + "90402 " * 8)
    assert host.find("hip").archs == ["gfx90a", "gfx1100", *["gfx942"] * 8]
    assert host.target("hip") == Target("hip", "gfx90a")


def test_an_amd_gpu_that_cannot_be_read_is_not_there(hip_host: HostWith, tmp_path: Path) -> None:
    """A container sees the nodes of all GPUs, and may read only its own."""
    host = hip_host("90402 110000")
    (tmp_path / "nodes" / "1" / "properties").unlink()
    assert host.find("hip").archs == ["gfx1100"]


def test_a_topology_without_the_device_is_no_gpu(hip_host: HostWith, tmp_path: Path) -> None:
    """Without `/dev/kfd` nothing can be run, whatever the topology lists; nor with it and no GPU."""
    host = hip_host("90402")
    (tmp_path / "kfd").unlink()
    assert host.find("hip").reason == f"{tmp_path}/kfd is not there, or not for this user"
    (tmp_path / "kfd").touch()
    (tmp_path / "nodes" / "1" / "properties").unlink()
    assert host.find("hip").reason == f"{tmp_path}/nodes lists no GPU"


def test_an_unknown_amd_gpu_is_named(hip_host: HostWith) -> None:
    """A processor that the table lacks has no meaning as a bare `hip`, and the list of those that have is given."""
    with pytest.raises(UsageError) as caught:
        hip_host("120001").target("hip")
    assert "`hip:gfx1201`" in caught.value.message
    assert "`hip:gfx942`" in str(caught.value.hint)


@pytest.mark.parametrize("spelling", ["cuda:sm_ninety", "cuda:", "metal:4", "cuda:sm_91"])
def test_a_target_of_nobodys_runs_nowhere(cuda_host: HostWith, spelling: str) -> None:
    """What a package's header says of its target may be anything, and is refused in words."""
    api, _, arch = spelling.partition(":")
    host = cuda_host("9.0")
    assert not host.runs(Target(api, arch))
    assert str(host.find(api)).startswith("this host")


def test_a_package_for_another_host_is_refused_by_its_header(monkeypatch: pytest.MonkeyPatch) -> None:
    """The refusal names the package's target, what this host has of that API, and where to look for a way out."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    header = PackageHeader("demo", "cuda:sm_90", {}, None, {}, {})
    with pytest.raises(PackageError) as caught:
        check_host(header)
    assert caught.value.message == "the package is built for `cuda:sm_90`, which this host cannot run"
    assert caught.value.causes[0] == "this host has no NVIDIA GPU: CUDA_VISIBLE_DEVICES is empty"
    assert "`maxbuild targets`" in str(caught.value.hint)


def test_asking_the_host_imports_nothing_heavy() -> None:
    """Neither torch nor Triton is imported to learn what this host is, nor ctypes for its CPU alone."""
    code = (
        "import sys; from maxbuild.targets.host import Host; Host().find('cpu'); assert 'ctypes' not in sys.modules;"
        "Host().find('cuda'); Host().find('hip'); print(sorted({'torch', 'triton', 'numpy'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
