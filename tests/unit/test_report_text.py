"""Units, words and tables: how numbers, reasons and columns are written."""

from __future__ import annotations

import io
import os
import pty

import pytest

from maxbuild.engine import Explanation, Reason
from maxbuild.errors import TaskFailed
from maxbuild.report import units, words
from maxbuild.report.blocks import error_text
from maxbuild.report.table import Cell, Column, cut, table
from maxbuild.report.terminal import Style, Terminal, terminal_of

PIPE = Terminal(io.StringIO())
DIGEST = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.00 s"),
        (9.994, "9.99 s"),
        (9.996, "10.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3599.7, "1 h 00 min"),
        (7380, "2 h 03 min"),
        (-0.1, "0.00 s"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    """A time span has about three figures, and no unit ever shows sixty."""
    assert units.duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (99_949, "99.9 kB"), (99_960, "100 kB"), (999_600, "1.0 MB"),
     (24_000_000_000, "24.0 GB")],
)  # fmt: skip
def test_sizes(count: int, text: str) -> None:
    """Bytes are counted in decimal units, and no unit ever shows a thousand."""
    assert units.size(count) == text


@pytest.mark.parametrize(
    ("explanation", "text"),
    [
        (Explanation(Reason.NEW, "trace main"), "new"),
        (Explanation(Reason.FORCED, "trace main"), "forced"),
        (Explanation(Reason.PARAM, "max_length", "512", "1024"), "param max_length: 512 → 1024"),
        (Explanation(Reason.PARAM, "top", None, "true"), "param top: nothing → true"),
        (Explanation(Reason.INPUT, "w", DIGEST, None), "input w: 0123456789ab → nothing"),
        (Explanation(Reason.EVICTED, "out", DIGEST), "evicted out: 0123456789ab"),
        (Explanation(Reason.CORRUPT, "out", DIGEST), "corrupt out: 0123456789ab"),
        (Explanation(Reason.EVICTED, "result"), "evicted result"),
        (Explanation(Reason.PARAM, "t", "a\nb", "x" * 99), "param t: a\\nb → " + "x" * 59 + "…"),
    ],
)
def test_reasons(explanation: Explanation, text: str) -> None:
    """A reason is one line: what, and from old to new; digests by their beginning, long values cut."""
    assert words.reason(explanation) == text


def test_nothing_from_outside_steers_a_terminal() -> None:
    """Control characters in a name, of a file on a hub say, are shown and not obeyed."""
    assert words.one_line("a\x1b[2Jb\nc\td\u202e") == "a\\x1b[2Jb\\nc\\td\\u202e"


@pytest.mark.parametrize(
    ("text", "width", "middle", "expected"),
    [("abcdef", 6, False, "abcdef"), ("abcdef", 4, False, "abc…"), ("abcdef", 4, True, "ab…f"), ("ab", 1, True, "…")],
)
def test_cut(text: str, width: int, middle: bool, expected: str) -> None:
    """What does not fit is cut to the width exactly, at the end or in the middle."""
    assert cut(text, width, middle=middle) == expected


def test_table_leaves_out_empty_columns_and_trailing_blanks() -> None:
    """A column that holds nothing is not there, and no line ends in blanks."""
    columns = [Column("name"), Column("empty"), Column("size", right=True), Column("why")]
    rows = [[Cell("a"), Cell(""), Cell("1"), Cell("")], [Cell("bbb"), Cell(""), Cell("12345"), Cell("so")]]
    assert table(columns, rows, PIPE) == "name   size  why\na         1\nbbb   12345  so"


def test_table_gives_way_from_the_last_column_to_the_first() -> None:
    """On a narrow terminal the last column that may be cut is cut first, each down to its least width."""
    columns = [Column("name", least=4), Column("n"), Column("why", least=3)]
    rows = [[Cell("a" * 10), Cell("1"), Cell("b" * 10)]]
    widths = {
        width: table(columns, rows, Terminal(io.StringIO(), width=width)).splitlines()[1] for width in (30, 20, 12)
    }
    assert widths[30] == "aaaaaaaaaa  1  bbbbbbbbbb"
    assert widths[20] == "aaaaaaaaaa  1  bbbb…"
    assert widths[12] == "aaa…  1  bb…"


def test_colour_changes_no_width_and_no_word() -> None:
    """Painted or not, a table reads the same."""
    columns, rows = [Column("state"), Column("task")], [[Cell("failed", Style.RED), Cell("x")]]
    painted = table(columns, rows, Terminal(io.StringIO(), colour=True))
    assert "\x1b[31mfailed\x1b[0m" in painted
    assert Terminal(io.StringIO()).paint("failed", Style.RED) == "failed"
    for style in Style:
        painted = painted.replace(f"\x1b[{style.value}m", "")
    assert painted.replace("\x1b[0m", "") == table(columns, rows, PIPE)


def test_labels_of_errors_are_painted_and_nothing_else() -> None:
    """An error has the same text with and without colour."""
    error = TaskFailed("no", causes=["so"], hint="go")
    assert error_text(error, PIPE) == "error: no\n  Caused by: so\n\nhint: go"
    assert error_text(error, Terminal(io.StringIO(), colour=True)).startswith("\x1b[1;31merror:\x1b[0m no\n")


@pytest.mark.parametrize(
    ("environ", "colour", "live", "width"),
    [
        ({"TERM": "xterm", "COLUMNS": "120"}, True, True, 120),
        ({"TERM": "xterm", "COLUMNS": "7"}, True, True, 40),
        ({"TERM": "dumb", "COLUMNS": "90"}, False, False, 90),
        ({"TERM": "xterm", "NO_COLOR": "1", "COLUMNS": "junk"}, False, True, 80),
        ({"TERM": "xterm", "NO_COLOR": ""}, True, True, 80),
    ],
)
def test_terminals(environ: dict[str, str], colour: bool, live: bool, width: int) -> None:
    """What a terminal can show hangs on TERM, NO_COLOR and COLUMNS; an empty NO_COLOR says nothing."""
    leader, follower = pty.openpty()
    with os.fdopen(leader), os.fdopen(follower, "w") as stream:
        terminal = terminal_of(stream, environ)
        assert (terminal.colour, terminal.live, terminal.width) == (colour, live, width)


def test_a_file_is_no_terminal() -> None:
    """In a file or a pipe there is no colour, no end of line, and nothing is drawn anew."""
    terminal = terminal_of(io.StringIO(), {"TERM": "xterm"})
    assert (terminal.colour, terminal.live, terminal.width) == (False, False, None)
