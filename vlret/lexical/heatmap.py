"""The tuning surface as an SVG heatmap, with each point's value in a tooltip."""

import html
from collections.abc import Sequence

CELL, LEFT, TOP = (26, 20), 54, 34
PALE, DARK = (240, 244, 248), (8, 64, 124)
LABELS = 12  # maximum per axis


def draw(surface: Sequence[dict], best: dict, metric: str) -> str:
    """SVG of a surface: b upwards, k1 to the right, darker is better; the best point is framed.

    `best` and the points of `surface` are `{"b", "k1", "mrr"}`; `surface` has every combination of b and k1 once.
    """
    bs, k1s = (sorted({point[name] for point in surface}) for name in ("b", "k1"))
    low, high = (pick(point["mrr"] for point in surface) for pick in (min, max))
    (width, height), (right, below) = CELL, (LEFT + CELL[0] * len(k1s), TOP + CELL[1] * len(bs))

    def corner(point: dict) -> str:
        return f'x="{LEFT + width * k1s.index(point["k1"])}" y="{below - height * (bs.index(point["b"]) + 1)}"'

    size = f'width="{width}" height="{height}"'
    cells = [
        f'<rect {corner(point)} {size} fill="{_colour(point["mrr"], low, high)}">'
        f"<title>b {point['b']:g}, k1 {point['k1']:g}: {point['mrr']:.4f}</title></rect>"
        for point in surface
    ]
    title = f"{metric} on validation, {low:.4f} (pale) to {high:.4f} (dark); best at b {best['b']:g}, k1 {best['k1']:g}"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {max(right + 20, 480)} {below + 48}" role="img" '
        'font-family="system-ui, sans-serif" font-size="12" fill="#1b1f24">',
        f'<rect width="100%" height="100%" fill="#fff"/><text x="{LEFT}" y="20">{html.escape(title)}</text>',
        *cells,
        f'<rect {corner(best)} {size} fill="none" stroke="#d9480f" stroke-width="2.5"/>',
        *(
            f'<text x="{LEFT + width * (place + 0.5):g}" y="{below + 17}" text-anchor="middle">{k1:g}</text>'
            for place, k1 in _labelled(k1s)
        ),
        *(
            f'<text x="{LEFT - 8}" y="{below - height * (place + 0.5) + 4:g}" text-anchor="end">{b:g}</text>'
            for place, b in _labelled(bs)
        ),
        f'<text x="{(LEFT + right) / 2:g}" y="{below + 38}" text-anchor="middle" font-style="italic">k1</text>',
        f'<text x="14" y="{(TOP + below) / 2:g}" font-style="italic">b</text></svg>',
    ]
    return "\n".join(lines) + "\n"


def _labelled(values: Sequence[float]) -> list[tuple[int, float]]:
    """Evenly spaced indices of an axis, from the first, and their values."""
    step = -(-len(values) // LABELS)
    return list(enumerate(values))[::step]


def _colour(value: float, low: float, high: float) -> str:
    share = (value - low) / (high - low) if high > low else 0.0
    return "#" + "".join(f"{round(pale + share * (dark - pale)):02x}" for pale, dark in zip(PALE, DARK, strict=True))
