"""The counting sort of an inverted index, compiled."""

import numpy as np

from vlret.lexical.compiled import compiled


@compiled
def document_frequencies(tokens, lengths, terms):
    """In how many passages each term stands: `[terms]` int64.

    `tokens [tokens]` int32 are the term numbers of all passages, `lengths [passages]` how many are each passage's.
    """
    state = np.zeros((terms, 2), np.int32)  # the last passage that held the term, from 1; passages
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
    """The postings of the terms from `first` on: passage rows int32 and frequencies uint8, both `[postings]`.

    `starts [terms + 1]` is where those of each term start, in the whole index.
    """
    terms = np.uint32(len(starts) - 1)
    passages = np.empty(starts[-1] - starts[0], np.int32)
    frequencies = np.empty(starts[-1] - starts[0], np.uint8)
    state = np.zeros((terms, 2), np.int64)  # where the next posting goes; the last passage that held the term, from 1
    state[:, 0] = starts[:-1] - starts[0]
    at = 0
    for row in range(len(lengths)):
        for _ in range(lengths[row]):
            term = np.uint32(tokens[at] - first)  # wraps below the first
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
