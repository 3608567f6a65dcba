"""The inner loops of a grid search, compiled.

All frequencies are `[terms, passages]` uint8, terms by number. A norm is the addend of tf in BM25's denominator; each
distinct length has one, at its code. No norm is 0, so that 0 / (0 + norm) is 0.
"""

import numpy as np

from vlret.lexical.compiled import compiled
from vlret.lexical.score import TILE, offer


@compiled
def smallest_codes(passages, frequencies, codes, beyond):
    """The smallest length code of a term with each frequency, `beyond` if none: `[256]`."""
    smallest = np.full(256, beyond, np.int64)
    for place in range(len(passages)):
        frequency = frequencies[place]
        smallest[frequency] = min(smallest[frequency], codes[np.uint32(passages[place])])
    return smallest


@compiled
def find(passages, frequencies, rows, found):
    """Write the frequencies of one term in ascending `rows` to `found [rows]`."""
    place = 0
    for number in range(len(rows)):
        place += np.searchsorted(passages[place:], rows[number])
        if place == len(passages):
            break
        if passages[place] == rows[number]:
            found[number] = frequencies[place]


@compiled
def highest_impacts(floors, smallest):
    """The highest tf / (tf + norm) of each term: `[blocks, terms]`.

    `floors [blocks, distinct lengths]` are the minimum norms of a block, `smallest [terms, 256]` the smallest code of a
    term with each frequency, or a larger one if none.
    """
    blocks, codes = floors.shape
    highest = np.zeros((blocks, len(smallest)))
    for term in range(len(smallest)):
        for frequency in range(1, 256):
            if smallest[term, frequency] < codes:
                for block in range(blocks):
                    impact = frequency / (frequency + floors[block, smallest[term, frequency]])
                    highest[block, term] = max(highest[block, term], impact)
    return highest


@compiled
def enlist(passages, slots, rows, size):
    """Append missing passages to `rows[:size]`; `slots [passages]` are their places, from 1; returns the new size."""
    for place in range(len(passages)):
        row = np.uint32(passages[place])
        if slots[row] == 0:
            rows[size] = row
            size += 1
            slots[row] = size
    return size


@compiled
def collect(passages, frequencies, slots, found):
    """Write one term's frequencies to `found [candidates + 1]` by slot; those without a slot go to the last place."""
    for place in range(len(passages)):
        found[slots[np.uint32(passages[place])] - 1] = frequencies[place]


@compiled
def score(frequencies, codes, norms, weights, scores, start, terms):
    """Write BM25 scores to `scores [passages]` from `start`, with a search's operations in the same order.

    `terms` are those the passages contain, ascending; others would add 0.
    """
    below = np.empty(TILE)
    for first in range(start, len(scores), TILE):
        tile = scores[first : first + TILE]
        tile[:] = 0
        for place in range(len(tile)):
            below[place] = norms[codes[first + place]]
        for term in terms:
            here, weight = frequencies[term, first : first + TILE], weights[term]
            for place in range(len(tile)):
                frequency = float(here[place])
                tile[place] += weight * (frequency / (frequency + below[place]))


@compiled
def raise_thresholds(frequencies, codes, norms, weights, k, thresholds):
    """Raise the threshold of each point to the `k`-th score that some passages have there.

    `norms [points, distinct lengths]`, `thresholds [points]`.
    """
    scores, terms = np.empty(len(codes)), np.arange(len(weights))
    if len(scores) < k:
        return
    for point in range(len(thresholds)):
        score(frequencies, codes, norms[point], weights, scores, 0, terms)
        last = scores.min() if len(scores) == k else np.partition(scores, len(scores) - k)[len(scores) - k]
        thresholds[point] = max(thresholds[point], last)


@compiled
def descend(
    frequencies, codes, rows, order, ends, prefixes, tree, floors, norms, weights, thresholds, best_rows, best_scores
):
    """Find the best passages of every point: rows and scores `[points, k]`, as heaps; returns their sizes `[points]`.

    Parameters
    ----------
    order, ends
        Passages are grouped by the first term of `order` they contain; those of the first n terms end at `ends[n]`.
    prefixes
        `[nodes of level 1]`, the number of terms whose passages each node needs.
    tree
        `[nodes, (level, first point, end)]`, nodes before their children, levels from 1.
    floors
        `[nodes, distinct lengths]`, the minimum norm of the node's points.
    thresholds
        `[points]`, lower bounds of the `k`-th score; raised in place.
    """
    k, width = best_rows.shape[1], len(rows)
    levels = tree[:, 0].max()
    sizes = np.zeros(levels, np.int64)
    kept_frequencies = np.empty((levels, len(weights), width), np.uint8)
    kept_codes = np.empty((levels, width), codes.dtype)
    kept_rows = np.empty((levels, width), rows.dtype)
    found = np.zeros(len(thresholds), np.int64)
    scores, heap, items = np.empty(width), np.empty(k), np.empty(k, np.int64)
    root, terms = 0, np.arange(len(weights))
    for node in range(len(tree)):
        level, first, end = tree[node]
        if level == 1:
            here_frequencies, here_codes, here_rows = frequencies, codes, rows
            size = ends[prefixes[root]]
            for group in range(prefixes[root]):
                held = np.sort(order[group:])
                score(frequencies, codes, floors[node], weights, scores[: ends[group + 1]], ends[group], held)
            root += 1
        else:
            here_frequencies = kept_frequencies[level - 2]
            here_codes, here_rows = kept_codes[level - 2], kept_rows[level - 2]
            size = sizes[level - 2]
            score(here_frequencies, here_codes, floors[node], weights, scores[:size], 0, terms)
        if end - first == 1:
            found[first] = _keep(scores[:size], here_rows, thresholds[first], best_scores[first], best_rows[first])
            continue
        filled = _keep(scores[:size], np.arange(size), thresholds[first:end].min(), heap, items)
        if filled == k:
            best_frequencies, best_codes = here_frequencies[:, items], here_codes[items]
            raise_thresholds(best_frequencies, best_codes, norms[first:end], weights, k, thresholds[first:end])
        kept = np.flatnonzero(scores[:size] >= thresholds[first:end].min())
        sizes[level - 1] = len(kept)
        for place in range(len(kept)):
            kept_frequencies[level - 1, :, place] = here_frequencies[:, kept[place]]
            kept_codes[level - 1, place] = here_codes[kept[place]]
            kept_rows[level - 1, place] = here_rows[kept[place]]
    return found


@compiled
def _keep(scores, items, threshold, heap_scores, heap_items):
    """Push the items whose score reaches a threshold to an empty heap; return its size."""
    size = 0
    for place in range(len(scores)):
        if scores[place] >= threshold:
            size = offer(heap_scores, heap_items, size, scores[place], items[place])
    return size
