"""Archives: a cache, or a part of it, as one file that can be read on any host, at any path.

An archive is an uncompressed tar of plain files with names that are fixed by what they hold. It is read with a reader
of its own, that knows no links, no paths and no attributes; nothing in it is believed but what a digest proves.
"""

from __future__ import annotations

from maxbuild.engine.archive.form import BadArchive
from maxbuild.engine.archive.packing import Packed, pack, pack_file
from maxbuild.engine.archive.selection import Selection, select
from maxbuild.engine.archive.unpacking import Unpacked, unpack

__all__ = ["BadArchive", "Packed", "Selection", "Unpacked", "pack", "pack_file", "select", "unpack"]
