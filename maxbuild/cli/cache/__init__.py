"""`maxbuild cache`: a look into the store, and its housekeeping."""

from __future__ import annotations

from maxbuild.cli.cache.carry import export, import_
from maxbuild.cli.cache.check import verify
from maxbuild.cli.cache.cleaning import gc, prune
from maxbuild.cli.cache.info import info
from maxbuild.cli.cache.pins import pin, unpin
from maxbuild.cli.commands import new_app

cache = new_app(help="Look after the store of results.", no_args_is_help=True)


@cache.callback()
def _group() -> None:
    """Look after the store of results."""


cache.command(short_help="Show how much there is, and what keeps it.")(info)
cache.command(short_help="Read everything again and set aside what is damaged.")(verify)
cache.command(short_help="Let go of results by age and size.")(gc)
cache.command(short_help="Let go of what serves no result.")(prune)
cache.command(short_help="Write a cache to one file.")(export)
cache.command("import", short_help="Take in what `export` wrote.")(import_)
cache.command(short_help="Keep all that a run used.")(pin)
cache.command(short_help="Take a pin away.")(unpin)
