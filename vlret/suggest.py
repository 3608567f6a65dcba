"""Suggest the name that was probably meant by a wrong one."""

from collections.abc import Iterable
from difflib import get_close_matches

ALIKE = 0.8  # least difflib ratio of a name that is suggested


def nearest(name: str, known: Iterable[str], least: float = ALIKE) -> str | None:
    """The one of `known` most likely meant by `name`, ignoring case."""
    plain = {other.casefold(): other for other in known}
    found = get_close_matches(name.casefold(), plain, n=1, cutoff=least)
    return plain[found[0]] if found else None


def suggestion(name: str | None) -> str:
    """The end of a message that suggests a name; empty without one."""
    return "" if name is None else f"; did you mean {name!r}?"
