"""The floors of docs/development.md: every room has one, and imports point to the same or a lower floor."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]
OUTSIDE = {"__init__", "__main__"}


def floors() -> dict[str, int]:
    """Room -> floor, from the table of the page."""
    page = (ROOT / "docs" / "development.md").read_text()
    lines = re.findall(r"^\| (\d) \| ((?:`\w+`(?:, )?)+)", page, re.MULTILINE)
    listed = [(room, int(floor)) for floor, rooms in lines for room in re.findall(r"`(\w+)`", rooms)]
    assert len(listed) == len(dict(listed)), "a room is on one floor"
    return dict(listed)


def imports() -> dict[str, set[str]]:
    """Room -> the rooms it imports, also within functions."""
    found: dict[str, set[str]] = {}
    for path in (ROOT / "vlret").rglob("*.py"):
        room = path.relative_to(ROOT / "vlret").parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("vlret."):
                found.setdefault(room, set()).add(node.module.split(".")[1])
    return {room: rooms - {room} for room, rooms in found.items()}


def test_every_room_has_a_floor():
    rooms = {
        path.stem for path in (ROOT / "vlret").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert floors().keys() == rooms - OUTSIDE


def test_imports_point_to_the_same_or_a_lower_floor():
    floor = floors()
    up = [
        (room, other)
        for room, rooms in imports().items()
        if room in floor
        for other in rooms
        if floor[other] > floor[room]
    ]
    assert not up


def test_rooms_do_not_import_one_another_in_circles():
    assert list(TopologicalSorter(imports()).static_order())
