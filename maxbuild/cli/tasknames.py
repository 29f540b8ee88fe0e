"""Tasks by what people type: a whole name, its beginning, or words of it; never a guess between several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import get_close_matches

from maxbuild.engine import Report
from maxbuild.errors import UsageError

_MOST_LISTED = 10


def find_task(query: str, report: Report) -> str:
    """Return the one task of `report` that `query` means; UsageError with the candidates where there is not one."""
    names = [task.name for task in report.tasks]
    return find_name(query, names, otherwise=_way_to_the_list(report))


def find_name(query: str, names: Sequence[str], *, otherwise: str) -> str:
    """Return the one of `names` that `query` means; UsageError where there is not one.

    A whole name comes before a beginning, and that before words in any order; capitals make no difference.
    otherwise: the hint where no name is anything like the query.
    """
    for matches in _TIERS:
        found = [name for name in names if matches(query.casefold(), name.casefold())]
        if len(found) == 1:
            return found[0]
        if found:
            raise UsageError(f"`{query}` could be {len(found)} tasks", hint="\n".join(["name one of", *_listed(found)]))
    near = get_close_matches(query, names, n=1, cutoff=0.5)
    raise UsageError(f"no task is called `{query}`", hint=f"did you mean `{near[0]}`?" if near else otherwise)


def _is_whole(query: str, name: str) -> bool:
    return " ".join(query.split()) == name


def _is_beginning(query: str, name: str) -> bool:
    words = " ".join(query.split())
    return name.startswith(words) and not name[len(words) : len(words) + 1].isalnum()


def _holds_words(query: str, name: str) -> bool:
    return all(word in name for word in query.split())


_TIERS: Sequence[Callable[[str, str], bool]] = (_is_whole, _is_beginning, _holds_words)


def _listed(names: Sequence[str]) -> list[str]:
    listed = list(names[:_MOST_LISTED])
    return listed if len(names) <= _MOST_LISTED else [*listed, f"and {len(names) - _MOST_LISTED} more"]


def _way_to_the_list(report: Report) -> str:
    if report.deferred:
        after = dict.fromkeys(f"`{part.after}`" for part in report.deferred)
        return f"some tasks are known only after {', '.join(after)}; `maxbuild plan` lists the others"
    return "`maxbuild plan` lists the tasks"
