"""Each check fails for what it is there for, by name, and passes for packages that are sound."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from inspect_samples import MODEL, Compiled, Kernels, Workshop, write_region

from maxbuild.inspect import cuda, libraries, wrapper
from maxbuild.inspect.archive import BadArchive, read_archive
from maxbuild.inspect.checks import Check, Outcome
from maxbuild.inspect.elf import read_elf
from maxbuild.inspect.kernels import Aim
from maxbuild.inspect.libraries import check_symbols
from maxbuild.inspect.package import inspect_package
from maxbuild.inspect.region import Region, inspect_region
from maxbuild.inspect.wrapper import check_names, named_files
from maxbuild.inspect.x86 import disassemble
from maxbuild.targets.devices import device_of
from maxbuild.targets.spelling import parse_target


def inspect(path: Path, target: str) -> Region:
    """Inspect one region."""
    parsed = parse_target(target)
    device = None if parsed.api == "cpu" else device_of(parsed)
    return inspect_region(["main/x"], path.parent, path.name, Aim(parsed, device, with_instructions=True))


def failures(checks: Sequence[Check]) -> dict[str, str]:
    """Return what failed, by the name of the check."""
    return {check.name: check.detail for check in checks if check.outcome is Outcome.FAILED}


Build = Callable[..., Region]


@pytest.fixture
def build(kernels: Kernels, workshop: Workshop, tmp_path: Path) -> Build:
    """Return a function that makes and inspects a region of one kernel, as it should be but for what is said."""

    def made(
        target: str = "cuda:sm_90",
        kernel: Compiled | None = None,
        loads: Sequence[tuple[str, str]] | None = None,
        **other: object,
    ) -> Region:
        kernel = kernel or kernels("add", target)
        api = target.partition(":")[0]
        library = workshop.wrapper(api, loads or [(kernel.launch.file, kernel.launch.entry)])
        path = write_region(tmp_path / "x.pt2", library, target, [kernel], **other)  # type: ignore[arg-type]
        return inspect(path, target)

    return made


def test_sound_packages_pass(packages: dict[str, Path]) -> None:
    """Nothing fails, and each check is done for each region and kernel."""
    for target, folder in packages.items():
        inspection = inspect_package(folder, with_instructions=True)
        assert failures(inspection.checks) == {}
        names = {check.name for check in inspection.with_outcome(Outcome.PASSED)}
        expected = {"archive", "machine", "instruction set"}
        if target.startswith("cpu"):
            expected |= {"symbols"}
        else:
            expected |= {"launch metadata", "named kernels", "architecture", "entry point"}
            expected |= {"launch"} if target.startswith("hip") else set()
        assert names == expected
        kernels = [kernel for region in inspection.regions for kernel in region.kernels]
        assert len(kernels) == (0 if target.startswith("cpu") else 4)
        assert all(kernel.usage and kernel.mix for kernel in kernels)


def test_symbols_of_absent_libraries_are_named_as_unchecked(packages: dict[str, Path]) -> None:
    """What a GPU's own libraries would define is neither passed nor failed where they are not here."""
    if libraries.find_library("libtorch_cuda.so") is not None:
        pytest.skip("this torch has CUDA")
    for target, absent, symbol in (
        ("cuda:sm_90", "libtorch_cuda.so", "cuModuleLoad"),
        ("hip:gfx942", "libtorch_hip.so", "hipModuleLoad"),
    ):
        left = inspect_package(packages[target]).with_outcome(Outcome.UNCHECKED)
        assert {check.name for check in left} == {"symbols"}
        assert all(absent in check.detail and symbol in check.detail for check in left)
        assert not any("aoti_torch_get_dim" in check.detail for check in left)


def test_warnings_name_spills_and_too_much_memory(packages: dict[str, Path]) -> None:
    """Both are warned of, with the figures, and neither is a failure."""
    for target, most in (("cuda:sm_90", 232_448), ("hip:gfx942", 65_536)):
        inspection = inspect_package(packages[target])
        told = {warned.subject.split()[-1]: warned.text for warned in inspection.warnings}
        assert set(told) == {"triton_crowded_0", "triton_wide_0"}
        assert "bytes of stack per thread" in told["triton_crowded_0"]
        assert f"needs 262144 bytes of shared memory, `{target}` has {most}" in told["triton_wide_0"]


def test_kernels_of_another_gpu_are_found(build: Build, kernels: Kernels) -> None:
    """A kernel for another architecture, or of another maker, fails; so does a region for another target."""
    older = build(kernel=kernels("add", "cuda:sm_80"))
    assert failures(older.checks) == {"architecture": "it is built for sm_80, not for sm_90"}
    blackwell = build(kernel=kernels("add", "cuda:sm_100"))
    assert failures(blackwell.checks) == {"architecture": "it is built for sm_100, not for sm_90"}
    other = build("hip:gfx942", kernels("add", "hip:gfx90a"))
    assert failures(other.checks) == {"architecture": "it is built for gfx90a, not for gfx942"}
    amd = kernels("add", "hip:gfx942")
    foreign = build(kernel=replace(kernels("add", "cuda:sm_90"), binary=amd.binary))
    assert set(failures(foreign.checks)) == {"machine"}
    assert "AMDGPU" in failures(foreign.checks)["machine"]


def test_entry_points_must_be_there(build: Build, kernels: Kernels) -> None:
    """A launch of a kernel that the file does not have fails and says which it has."""
    for target in ("cuda:sm_90", "hip:gfx942"):
        compiled = kernels("add", target)
        renamed = replace(compiled, launch=replace(compiled.launch, entry="subtract"))
        region = build(target, renamed)
        assert set(failures(region.checks)) == {"entry point"}
        assert "`add`" in failures(region.checks)["entry point"]


def test_launches_must_fit_the_code(build: Build, kernels: Kernels) -> None:
    """Wavefronts of another size, and more threads than a kernel is compiled for, fail."""
    compiled = kernels("add", "hip:gfx942")
    narrow = build("hip:gfx942", replace(compiled, launch=replace(compiled.launch, warp_size=32)))
    assert failures(narrow.checks) == {"launch": "its wavefronts have 64 threads, the launch says 32"}
    large = build("hip:gfx942", replace(compiled, launch=replace(compiled.launch, num_warps=8)))
    assert failures(large.checks) == {"launch": "it is launched with 512 threads, and compiled for 256 at most"}


def test_metadata_and_archive_must_agree(build: Build, kernels: Kernels) -> None:
    """Kernels that are not described, and descriptions of kernels that are not there, fail."""
    launch = kernels("add", "cuda:sm_90").launch
    undescribed = build(described=[])
    assert failures(undescribed.checks)["launch metadata"] == "it does not describe triton_add_0.cubin"
    missing = build(described=[launch, replace(launch, file="triton_gone_1.cubin")])
    assert "triton_gone_1.cubin" in failures(missing.checks)["launch metadata"]


def test_regions_must_be_for_the_packages_target(kernels: Kernels, workshop: Workshop, tmp_path: Path) -> None:
    """A region that says it is for another target fails, and one for a GPU that describes nothing at all."""
    compiled = kernels("add", "cuda:sm_90")
    library = workshop.wrapper("cuda", [(compiled.launch.file, compiled.launch.entry)])
    other = inspect(write_region(tmp_path / "a.pt2", library, "cuda:sm_100", [compiled]), "cuda:sm_90")
    assert failures(other.checks) == {
        "launch metadata": "the region is built for `cuda:sm_100`, the package for `cuda:sm_90`"
    }
    silent = inspect(write_region(tmp_path / "b.pt2", library, "cpu:x86-64-v2"), "cuda:sm_90")
    assert "no maxbuild.json" in failures(silent.checks)["launch metadata"]


@pytest.mark.parametrize("level", ["x86-64", "x86-64-v3", "x86-64-v4"])
@pytest.mark.parametrize("optimization", ["-O0", "-O1", "-O2", "-O3", "-Os"])
def test_wrappers_must_name_the_kernels(optimization: str, level: str, workshop: Workshop) -> None:
    """However the compiler cuts names into pieces, files that are not named are found, and names without a file."""
    flags = (optimization, f"-march={level}")
    names = [
        "triton_poi_fused_add_0",
        "triton_red_fused__to_copy_mean_mul_pow_rsqrt_1",
        "attend_decode_12",
        "k",
        "x" * 200,
    ]
    files = [f"{name}.cubin" for name in names]
    library = workshop.wrapper("cuda", list(zip(files, names, strict=True)), *flags)
    elf, listing = read_elf(library), disassemble(library)
    assert listing is not None

    def judge(files: Sequence[str], names: Sequence[str]) -> str:
        return failures([check_names("x", library, elf, listing, files, names)]).get("named kernels", "")

    named = named_files(library, elf, listing)
    assert named >= set(files[:-1])
    assert all(any(file.endswith(name) for file in files) for name in named)
    assert judge(files, names) == ""
    for index, file in enumerate(files):
        others = files[:index] + files[index + 1 :]
        told = judge(others, names).removeprefix("the library names kernels that are not in the region: ")
        assert told
        assert file.endswith(told)
    assert judge([*files, "quite_another_7.cubin"], names) == "the library never names quite_another_7.cubin"
    assert judge(files, [*names, "quite_another"]) == "the library never names quite_another"


def test_undefined_symbols_must_be_defined(workshop: Workshop) -> None:
    """A symbol that no needed library has fails; so does a misspelled function of CUDA's, whose library is not here."""
    declaration = 'extern "C" int {name}(int); extern "C" int run(int x) { return {name}(x); }\n'
    lost = workshop.library(declaration.replace("{name}", "aoti_torch_no_such_function"))
    assert failures([check_symbols("x", read_elf(lost))]) == {
        "symbols": "no library that it needs defines aoti_torch_no_such_function"
    }
    stub = str(workshop.stub("libtorch_cuda.so"))
    for name, outcome in (("cuModuleLaod", Outcome.FAILED), ("cuModuleLoad", Outcome.UNCHECKED)):
        library = workshop.library(declaration.replace("{name}", name), "-Wl,--no-as-needed", stub)
        if libraries.find_library("libtorch_cuda.so") is None:
            assert check_symbols("x", read_elf(library)).outcome is outcome
    unlinked = workshop.library(declaration.replace("{name}", "cuModuleLoad"))
    assert "cuModuleLoad" in failures([check_symbols("x", read_elf(unlinked))])["symbols"]


def test_symbols_are_found_where_the_linker_would_find_them() -> None:
    """Libraries count that are needed by those that are needed, as `libtorch.so` needs what has all symbols."""
    found = libraries.provide(["aoti_torch_get_dim", "nobody_has_this"], ["libtorch.so", "libnowhere.so.7"], {})
    assert (found.left, found.absent) == (("nobody_has_this",), ("libnowhere.so.7",))


def test_versions_of_symbols_must_be_defined(workshop: Workshop) -> None:
    """A library that was linked with a newer C++ library than this host's fails, and names the version."""
    elf = read_elf(workshop.wrapper("cuda", [("triton_add_0.cubin", "add")]))
    assert check_symbols("x", elf).outcome is not Outcome.FAILED
    newer = replace(elf, versions={"libstdc++.so.6": ("GLIBCXX_3.4", "GLIBCXX_9.9.9")})
    assert failures([check_symbols("x", newer)]) == {
        "symbols": "this host's libraries have no GLIBCXX_9.9.9 in libstdc++.so.6"
    }


_LOOP = 'extern "C" void run(float* x) { for (int i = 0; i < 4096; i++) x[i] *= x[i] + 1; }\n'


def test_code_beyond_the_target_is_found(workshop: Workshop, tmp_path: Path) -> None:
    """A library with AVX-512 in a package for x86-64-v3 fails and names an instruction; so for GPUs, beyond v2."""
    wide = workshop.library(_LOOP, "-O3", "-march=x86-64-v4", "-mprefer-vector-width=512")
    region = inspect(write_region(tmp_path / "wide.pt2", wide, "cpu:x86-64-v3"), "cpu:x86-64-v3")
    assert set(failures(region.checks)) == {"instruction set"}
    assert "zmm" in failures(region.checks)["instruction set"]
    right = inspect(write_region(tmp_path / "right.pt2", wide, "cpu:x86-64-v4"), "cpu:x86-64-v4")
    assert failures(right.checks) == {}
    avx = workshop.library(_LOOP, "-O3", "-march=x86-64-v3")
    gpu = inspect(write_region(tmp_path / "gpu.pt2", avx, "cuda:sm_90"), "cuda:sm_90")
    assert "built for x86-64-v2" in failures(gpu.checks)["instruction set"]


def test_without_tools_nothing_passes_unseen(
    build: Build, monkeypatch: pytest.MonkeyPatch, packages: dict[str, Path]
) -> None:
    """Without objdump the metadata's word is told as such, and without cuobjdump registers are told to be unknown."""
    monkeypatch.setattr("maxbuild.inspect.x86.objdump", lambda: None)
    monkeypatch.setattr(cuda, "cuobjdump", lambda: None)
    found = inspect_package(packages["cpu:x86-64-v3"])
    assert [check.name for check in found.with_outcome(Outcome.UNCHECKED)] == ["instruction set"]
    told = found.regions[0].wrapper
    assert told is not None
    assert (told.level, told.level_by_header) == ("x86-64-v3", True)
    region = build()
    assert {check.name for check in region.checks if check.outcome is Outcome.UNCHECKED} >= {
        "registers",
        "instruction set",
    }
    assert region.kernels[0].usage is None
    above = build(metadata={"AOTI_CPU_ISA": "AVX512 AVX512_VNNI"})
    assert "by its metadata" in failures(above.checks)["instruction set"]


def test_a_wrapper_must_be_a_library(kernels: Kernels, tmp_path: Path) -> None:
    """Neither text nor a kernel passes for one."""
    for content, says in ((b"text" * 20, "no ELF file"), (kernels("add", "cuda:sm_90").binary, "for CUDA")):
        region = inspect(write_region(tmp_path / "x.pt2", content, "cpu:x86-64-v3"), "cpu:x86-64-v3")
        assert says in failures(region.checks)["machine"]
        assert region.wrapper is None


def test_archives_lack_nothing_and_pack_nothing(tmp_path: Path) -> None:
    """Not a zip file, one without or with two libraries, a packed one and malformed documents are told apart."""

    def archive(members: dict[str, str], compression: int = zipfile.ZIP_STORED) -> Path:
        path = tmp_path / "x.pt2"
        with zipfile.ZipFile(path, "w", compression) as file:
            for name, text in members.items():
                file.writestr(name, text)
        return path

    library, metadata = {f"{MODEL}/a.wrapper.so": "x" * 99}, {f"{MODEL}/a.wrapper_metadata.json": "{}"}
    launches = {"schema": "maxbuild.launches.v1", "target": "cuda:sm_90", "kernels": [{"name": 1}]}
    read_archive(archive(library | metadata))
    wrong = {
        "has 0 files": archive_of(metadata),
        "has 2 files": archive_of(library | metadata | {"b.wrapper.so": ""}),
        "Expecting value": archive_of(library | {f"{MODEL}/a.wrapper_metadata.json": "}"}),
        "not a JSON object": archive_of(library | {f"{MODEL}/a.wrapper_metadata.json": "[]"}),
        "has schema 'v7'": archive_of(library | metadata | {"maxbuild.json": '{"schema": "v7"}'}),
        "is malformed": archive_of(library | metadata | {"maxbuild.json": json.dumps(launches)}),
        "malformed: TypeError": archive_of(library | metadata | {"maxbuild.json": "7"}),
    }
    for says, members in wrong.items():
        with pytest.raises(BadArchive, match=says):
            read_archive(archive(members))
    with pytest.raises(BadArchive, match="is compressed"):
        read_archive(archive(library | metadata, zipfile.ZIP_DEFLATED))
    (tmp_path / "y.pt2").write_text("no zip file")
    with pytest.raises(BadArchive):
        read_archive(tmp_path / "y.pt2")


def archive_of(members: dict[str, str]) -> dict[str, str]:
    """Return `members` as they are: a name for what is wrong beside what is right."""
    return members


def test_newest_versions_are_told_by_number() -> None:
    """3.4.30 is newer than 3.4.9, which the alphabet has the other way round."""
    versions = ["GLIBCXX_3.4.9", "GLIBCXX_3.4.30", "CXXABI_1.3"]
    assert max(versions, key=wrapper._version_key) == "GLIBCXX_3.4.30"
