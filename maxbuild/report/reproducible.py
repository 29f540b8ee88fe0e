"""Whether packages came out the same again, in words and for programs; a difference is told as an error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from maxbuild.errors import MaxbuildError, PackageError
from maxbuild.report.units import duration, plural, size

if TYPE_CHECKING:
    from maxbuild.reproducible.compare import Comparison, Difference
    from maxbuild.reproducible.locate import Place

_MOST_NAMED = 5
_ROW = 16
"""Bytes on a line of an excerpt."""


def reproducible_text(comparisons: Sequence[Comparison], seconds: float) -> str:
    """Return one line: what was compared with a second build that took `seconds`, and what came of it."""
    if not comparisons:
        return f"reproducible: unknown, since the second build failed after {duration(seconds)}"
    same = [found for found in comparisons if found.identical]
    packages = plural(len(comparisons), "package")
    if len(same) < len(comparisons):
        packages = f"{len(same)} of {packages}"
    files, count, shared = (sum(counts) for counts in zip(*map(_counts, same), strict=True)) if same else (0, 0, 0)
    compared = f", {plural(files, 'file')}, {size(count)}" if same else ""
    own = f", {plural(shared, 'file')} of them the models' own" if shared else ""
    return f"reproducible: {packages}{compared} identical byte for byte{own}; built again in {duration(seconds)}"


def _counts(comparison: Comparison) -> tuple[int, int, int]:
    return comparison.files, comparison.bytes, comparison.shared


def reproducible_content(
    comparisons: Sequence[Comparison], errors: Sequence[MaxbuildError], seconds: float
) -> dict[str, object]:
    """Return the same for a JSON document."""
    return {
        "identical": not errors and all(found.identical for found in comparisons),
        "seconds": round(seconds, 3),
        "packages": [
            {
                "target": found.target,
                "identical": found.identical,
                "files": found.files,
                "bytes": found.bytes,
                "shared": found.shared,
                "origins": list(found.origins),
                "differences": [_difference_content(difference) for difference in found.differences],
            }
            for found in comparisons
        ],
        "errors": [error.to_json() for error in errors],
    }


def _difference_content(difference: Difference) -> dict[str, object]:
    place = difference.place
    return {
        "path": difference.path,
        "region": None if difference.region is None else "/".join(difference.region),
        "task": difference.maker,
        "member": None if place is None else place.member,
        "part": None if place is None else place.part,
        "offset": None if place is None else place.offset,
        "note": difference.note if place is None else place.note,
    }


def difference_error(name: str, comparison: Comparison) -> PackageError:
    """Return the error for the package of the manifest `name` that is not identical: its first difference in full."""
    first, *more = comparison.differences
    causes = [
        _what(first),
        *([_where(first.place)] if first.place is not None else []),
        _who(first, comparison.origins),
    ]
    if others := sorted({difference.path for difference in more} - {first.path}):
        named = ", ".join(f"`{path}`" for path in others[:_MOST_NAMED])
        rest = f" and {len(others) - _MOST_NAMED} more" if len(others) > _MOST_NAMED else ""
        causes.append(f"{named}{rest} {'differs' if len(others) == 1 else 'differ'} too")
    return PackageError(
        f"package `{name}` for `{comparison.target}` is not reproducible", causes=causes, hint=_hint(comparison.origins)
    )


def _what(difference: Difference) -> str:
    region = "" if difference.region is None else ", region `{1}` of `{0}`".format(*difference.region)
    if difference.note is not None:
        return f"`{difference.path}`{region}: {difference.note}"
    return f"`{difference.path}`{region}{',' if region else ''} is another in the second build"


def _where(place: Place) -> str:
    """Return where in the file the difference is, with the bytes around it."""
    inside = [f"member `{place.member}`"] if place.member else []
    inside += [place.part] if place.part else []
    if place.offset is None:
        return f"{' '.join(inside)}: {place.note}"
    at = f"byte {place.offset} ({place.offset:#x})"
    lines = [f"{', '.join([*inside, at])}{f': {place.note}' if place.note else ''}"]
    for which, content in zip(("first ", "second"), place.excerpts, strict=True):
        lines += [f"{which} {line}" for line in _hex_lines(content, place.start)]
    return "\n".join(lines)


def _hex_lines(content: bytes, start: int) -> list[str]:
    rows = [content[index : index + _ROW] for index in range(0, len(content), _ROW)] or [b""]
    return [
        f"{start + index * _ROW:08x}  {row.hex(' '):{3 * _ROW}} |{''.join(map(_printable, row))}|"
        for index, row in enumerate(rows)
    ]


def _printable(byte: int) -> str:
    return chr(byte) if 0x20 <= byte < 0x7F else "."


def _who(difference: Difference, origins: Sequence[str]) -> str:
    if difference.maker is None:
        return "it is a file of the model's own, which changed between the builds"
    if difference.maker in origins or not origins:
        return f"task `{difference.maker}` left it, from the same inputs"
    began = ", ".join(f"`{name}`" for name in origins[:_MOST_NAMED])
    return f"task `{difference.maker}` left it, from inputs that differ: it began in {began}"


def _hint(origins: Sequence[str]) -> str | None:
    if not origins:
        return None
    return (
        f'try `--rerun "{origins[0]}"`: if the packages are identical then, the store held something made elsewhere; if'
        " not, the task depends on something that its key does not name (docs/reproducible.md lists what a second build"
        " changes)"
    )
