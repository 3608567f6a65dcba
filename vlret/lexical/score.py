"""The inner loops of a search, compiled: accumulating scores and selecting the best.

A heap is `scores [k]` float64 and `items [k]` int64, filled up to `size`; its root is the worst item: the lowest score,
and of equal ones the highest item.
"""

import numpy as np

from vlret.lexical.compiled import compiled

TILE = 256


@compiled
def add(scores, passages, frequencies, codes, impacts, weight):
    """Add one term to `scores [passages]` float64 of its passages: weight times `impacts[frequency, length code]`."""
    for place in range(len(passages)):
        row = np.uint32(passages[place])
        scores[row] += weight * impacts[frequencies[place], codes[row]]


@compiled
def offer(heap_scores, heap_items, size, score, item):
    """Push an item to the heap if there is room, or replace the worst if it is better; return the new size."""
    if size < len(heap_scores):
        place = size
        size += 1
        while place > 0:  # up
            above = (place - 1) >> 1
            if heap_scores[above] < score or (heap_scores[above] == score and heap_items[above] > item):
                break
            heap_scores[place], heap_items[place] = heap_scores[above], heap_items[above]
            place = above
        heap_scores[place], heap_items[place] = score, item
        return size
    if score < heap_scores[0] or (score == heap_scores[0] and item > heap_items[0]):
        return size
    _sink(heap_scores, heap_items, size, score, item)
    return size


@compiled
def _sink(heap_scores, heap_items, size, score, item):
    """Replace the root by an item and sift it down."""
    place = 0
    while True:
        below = 2 * place + 1
        if below >= size:
            break
        other = below + 1
        if other < size and (
            heap_scores[other] < heap_scores[below]
            or (heap_scores[other] == heap_scores[below] and heap_items[other] > heap_items[below])
        ):
            below = other
        if heap_scores[below] > score or (heap_scores[below] == score and heap_items[below] < item):
            break
        heap_scores[place], heap_items[place] = heap_scores[below], heap_items[below]
        place = below
    heap_scores[place], heap_items[place] = score, item


@compiled
def sort(heap_scores, heap_items, size):
    """Sort a heap in place, best first."""
    for last in range(size - 1, 0, -1):
        score, item = heap_scores[last], heap_items[last]
        heap_scores[last], heap_items[last] = heap_scores[0], heap_items[0]
        _sink(heap_scores, heap_items, last, score, item)


@compiled
def take_best(scores, k):
    """The rows of the best `k` scores above 0, and the scores, best first; resets all scores to 0."""
    heap_scores, heap_rows, size = np.empty(k, np.float64), np.empty(k, np.int64), 0
    for first in range(0, len(scores), TILE):
        tile = scores[first : first + TILE]
        least = heap_scores[0] if size == k else 0.0
        better = 0
        for place in range(len(tile)):
            better += tile[place] > least
        if better:
            for place in range(len(tile)):
                if tile[place] > least:
                    size = offer(heap_scores, heap_rows, size, tile[place], first + place)
        tile[:] = 0
    sort(heap_scores, heap_rows, size)
    return heap_rows[:size], heap_scores[:size]


@compiled
def reciprocal_ranks(rows, scores, sizes, relevant):
    """1 / rank of the first relevant passage of several rankings, 0 if there is none: `[rankings]`.

    `rows` and `scores [rankings, k]` are unsorted and filled up to `sizes [rankings]`; `relevant` are ascending rows.
    """
    found = np.zeros(len(rows))
    for ranking in range(len(rows)):
        size, best = sizes[ranking], -1
        for place in range(size):
            row, score = rows[ranking, place], scores[ranking, place]
            if best >= 0 and (
                score < scores[ranking, best] or (score == scores[ranking, best] and row > rows[ranking, best])
            ):
                continue
            at = np.searchsorted(relevant, row)
            if at < len(relevant) and relevant[at] == row:
                best = place
        if best >= 0:
            score, row, rank = scores[ranking, best], rows[ranking, best], 1
            for place in range(size):
                other = scores[ranking, place]
                rank += other > score or (other == score and rows[ranking, place] < row)
            found[ranking] = 1 / rank
    return found
