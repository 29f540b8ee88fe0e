"""Where two files differ first: told in the terms of what they hold."""

from __future__ import annotations

import json
import struct
import subprocess
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxbuild.reproducible import locate
from maxbuild.reproducible.locate import Place, first_difference

Pair = Callable[[bytes, bytes], tuple[Path, Path]]


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """Return two shared libraries that differ in a text, and in an address because the text is longer."""
    folder = tmp_path_factory.mktemp("libraries")
    contents = []
    for index, home in enumerate(("/home/alice", "/home/bob/of/the/second/build")):
        source, library = folder / f"{index}.c", folder / f"{index}.so"
        text = f'const char *place(void) {{ return "{home}"; }} const char *after(void) {{ return "the end"; }}'
        source.write_text(text)
        subprocess.run(["gcc", "-shared", "-fPIC", "-Wl,--build-id=none", "-o", library, source], check=True)
        contents.append(library.read_bytes())
    return contents[0], contents[1]


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    """Return a function that writes two files of these contents."""

    def write(first: bytes, second: bytes) -> tuple[Path, Path]:
        paths = tmp_path / "first", tmp_path / "second"
        for path, content in zip(paths, (first, second), strict=True):
            path.write_bytes(content)
        return paths

    return write


def zipped(path: Path, members: Mapping[str, bytes], date: tuple[int, ...] = (1980, 1, 1, 0, 0, 0)) -> Path:
    """Write an archive of these members."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name, date), content)  # type: ignore[arg-type]
    return path


@given(common=st.binary(max_size=64), first=st.binary(max_size=8), second=st.binary(max_size=8))
def test_offset_is_that_of_the_first_byte_that_is_another(common: bytes, first: bytes, second: bytes) -> None:
    """All before it is common to both, it is not; a prefix differs where it ends; equal contents differ nowhere."""
    before, after = common + first, common + second
    offset = locate._offset(before, after)
    if offset is None:
        assert before == after
    else:
        assert before[:offset] == after[:offset]
        assert before[offset : offset + 1] != after[offset : offset + 1]


def test_a_difference_beyond_one_stride_is_found(pair: Pair) -> None:
    """Large files are compared piece by piece; the offset counts from the start of the file."""
    size = 3 * locate._STRIDE
    place = first_difference(*pair(bytes(size), bytes(size - 1) + b"x"))
    assert place is not None
    assert (place.offset, place.start) == (size - 1, size - 9)
    assert place.excerpts == (bytes(9), bytes(8) + b"x")


def test_equal_files_and_one_file_with_two_names_differ_nowhere(pair: Pair, tmp_path: Path) -> None:
    """None, for empty files as well, of which there is no memory map."""
    first, second = pair(b"", b"")
    assert first_difference(first, second) is None
    link = tmp_path / "link"
    link.hardlink_to(first)
    assert first_difference(first, link) is None


def test_sizes_are_told_where_they_differ(pair: Pair) -> None:
    """A file that goes on where the other ends differs at that end."""
    assert first_difference(*pair(b"abc", b"abcd")) == Place(
        3, 0, (b"abc", b"abcd"), note="it has 3 bytes in the first and 4 in the second"
    )


def test_member_of_a_zip_is_named(tmp_path: Path) -> None:
    """The first member whose bytes differ, with the offset in it."""
    first = zipped(tmp_path / "1.pt2", {"a": b"same", "b": b"path /one", "c": b"1"})
    second = zipped(tmp_path / "2.pt2", {"a": b"same", "b": b"path /two", "c": b"2"})
    assert first_difference(first, second) == Place(6, 0, (b"path /one", b"path /two"), member="b")


@pytest.mark.parametrize(
    ("first", "second", "member", "note"),
    [
        ("abx", "aby", "x", "it is in the first alone"),
        ("ab", "aby", "y", "it is in the second alone"),
        ("abc", "acb", "b", "it comes at another place in the order of the members"),
    ],
)
def test_other_members_are_told(first: str, second: str, member: str, note: str, tmp_path: Path) -> None:
    """A member that one archive lacks, and one that comes earlier."""
    paths = [zipped(tmp_path / f"{names}.pt2", {name: name.encode() for name in names}) for names in (first, second)]
    assert first_difference(*paths) == Place(member=member, note=note)


def test_a_damaged_zip_is_compared_as_any_file(tmp_path: Path) -> None:
    """A member that cannot be read is no reason to say nothing."""
    paths = [zipped(tmp_path / f"{index}.pt2", {"a": b"same"}) for index in range(2)]
    paths[1].write_bytes(paths[1].read_bytes().replace(b"same", b"some"))  # the checksum is that of before
    place = first_difference(*paths)
    assert place is not None
    assert (place.member, place.offset) == (None, paths[0].read_bytes().index(b"same") + 1)


def test_times_of_a_zip_are_told_as_the_archives_own(tmp_path: Path) -> None:
    """Members that are equal to the byte can lie in archives that are not."""
    first = zipped(tmp_path / "1.pt2", {"a": b"same"})
    second = zipped(tmp_path / "2.pt2", {"a": b"same"}, (2026, 1, 2, 3, 4, 6))
    place = first_difference(first, second)
    assert place is not None
    assert (place.member, place.note) == (None, "the members are equal, and what the archive says of them is not")


def test_section_of_a_library_in_a_zip_is_named(libraries: tuple[bytes, bytes], tmp_path: Path) -> None:
    """The text that differs is shown, and not the addresses that moved because of it, though they come before."""
    first, second = (zipped(tmp_path / f"{i}.pt2", {"x.so": content}) for i, content in enumerate(libraries))
    place = first_difference(first, second)
    assert place is not None
    assert (place.member, place.part, place.offset) == ("x.so", "section `.rodata`", len("/home/"))
    assert place.excerpts[0].startswith(b"/home/alice\0the end")
    assert place.excerpts[1].startswith(b"/home/bob/of/the/second/build\0")
    assert "so do `.text`, " in str(place.note)


def test_a_library_that_is_damaged_is_compared_all_the_same(libraries: tuple[bytes, bytes], tmp_path: Path) -> None:
    """What cannot be read as a library differs at a byte of the member."""
    cut = libraries[0][: len(libraries[0]) // 2]
    first, second = (zipped(tmp_path / f"{i}.pt2", {"x.so": content}) for i, content in enumerate((libraries[0], cut)))
    place = first_difference(first, second)
    assert place is not None
    assert (place.member, place.part, place.offset) == ("x.so", None, len(cut))


def test_tensor_is_named(pair: Pair, tmp_path: Path) -> None:
    """A weight file differs in a tensor."""
    header = {
        "a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]},
        "b": {"dtype": "U8", "shape": [2], "data_offsets": [4, 6]},
    }
    text = json.dumps(header).encode()
    paths = []
    for index, data in enumerate((b"aaaabb", b"aaaabc")):
        paths.append(tmp_path / f"{index}.safetensors")
        paths[-1].write_bytes(struct.pack("<Q", len(text)) + text + data)
    place = first_difference(*paths)
    assert place is not None
    assert (place.part, place.offset) == ("tensor `b`", 8 + len(text) + 5)
