"""The inner loops of a grid search, compiled.

All frequencies are `[terms, passages]` uint8, terms by number. What stands beside tf below the line is a norm, one a
distinct length; a passage's is at its length's code. No norm is 0, so that 0 / (0 + norm) is 0.
"""

import numpy as np

from vlret.lexical.compiled import compiled
from vlret.lexical.score import TILE, offer


@compiled
def smallest_codes(passages, frequencies, codes, beyond):
    """The smallest length's code that a term has with each frequency, `beyond` where it has none: `[256]`."""
    smallest = np.full(256, beyond, np.int64)
    for place in range(len(passages)):
        frequency = frequencies[place]
        smallest[frequency] = min(smallest[frequency], codes[np.uint32(passages[place])])
    return smallest


@compiled
def find(passages, frequencies, rows, found):
    """The frequencies of one term in some `rows`, ascending, into `found [rows]`."""
    place = 0
    for number in range(len(rows)):
        place += np.searchsorted(passages[place:], rows[number])
        if place == len(passages):
            break
        if passages[place] == rows[number]:
            found[number] = frequencies[place]


@compiled
def highest_impacts(floors, smallest):
    """The highest tf / (tf + norm) of each term `[blocks, terms]`.

    `floors [blocks, distinct lengths]` are the least norms of a block, `smallest [terms, 256]` the smallest code that
    a term has with each frequency, or one beyond.
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
    """Append the passages that `rows[:size]` lacks; `slots [passages]` is where each stands, from 1; the new size."""
    for place in range(len(passages)):
        row = np.uint32(passages[place])
        if slots[row] == 0:
            rows[size] = row
            size += 1
            slots[row] = size
    return size


@compiled
def collect(passages, frequencies, slots, found):
    """The frequencies of one term into `found [candidates + 1]`, where the slots say; the others' go to the last."""
    for place in range(len(passages)):
        found[slots[np.uint32(passages[place])] - 1] = frequencies[place]


@compiled
def score(frequencies, codes, norms, weights, scores, start, terms):
    """BM25 of passages into `scores [passages]` from `start` on: a search's operations in their order.

    `terms` are the ones that stand in them, ascending: the others' 0 changes no sum.
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
    """The best passages of every point: rows and scores `[points, k]`, each a heap; how many they are `[points]`.

    Parameters
    ----------
    order, ends
        Passages lie by the first term of `order` that they hold; those by the first n end at `ends[n]`.
    prefixes
        `[nodes of level 1]`, how many terms' passages concern each.
    tree
        `[nodes, (level, first point, end)]`, a node before its children, whose level is one higher; from 1.
    floors
        `[nodes, distinct lengths]`, the least norm of the node's points.
    thresholds
        `[points]`, no more than the `k`-th score there; they are raised.
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
    """Put the items whose score reaches a threshold on an empty heap; return its size."""
    size = 0
    for place in range(len(scores)):
        if scores[place] >= threshold:
            size = offer(heap_scores, heap_items, size, scores[place], items[place])
    return size
