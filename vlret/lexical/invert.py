"""The counting sort of an inverted index, compiled."""

import numpy as np

from vlret.lexical.compiled import compiled


@compiled
def document_frequencies(tokens, lengths, terms):
    """The number of passages with each term: `[terms]` int64.

    `tokens [tokens]` int32 are the term numbers of all passages, `lengths [passages]` their counts per passage.
    """
    state = np.zeros((terms, 2), np.int32)  # the last passage with the term, from 1; passages
    at = 0
    for row in range(len(lengths)):
        for _ in range(lengths[row]):
            term = np.uint32(tokens[at])
            at += 1
            state[term, 1] += state[term, 0] != row + 1
            state[term, 0] = row + 1
    return state[:, 1].astype(np.int64)


@compiled
def fill(tokens, lengths, starts, first):
    """The postings of the terms from `first`: passage rows int32 and frequencies uint8, both `[postings]`.

    `starts [terms + 1]` are the offsets of each term's postings in the whole index.
    """
    terms = np.uint32(len(starts) - 1)
    passages = np.empty(starts[-1] - starts[0], np.int32)
    frequencies = np.empty(starts[-1] - starts[0], np.uint8)
    state = np.zeros((terms, 2), np.int64)  # the next posting's offset; the last passage with the term, from 1
    state[:, 0] = starts[:-1] - starts[0]
    at = 0
    for row in range(len(lengths)):
        for _ in range(lengths[row]):
            term = np.uint32(tokens[at] - first)  # wraps around if below `first`
            at += 1
            if term >= terms:
                continue
            place = state[term, 0]
            if state[term, 1] == row + 1:
                frequencies[place - 1] += frequencies[place - 1] < 255
            else:
                passages[place] = row
                frequencies[place] = 1
                state[term, 0] = place + 1
                state[term, 1] = row + 1
    return passages, frequencies
