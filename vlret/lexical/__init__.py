"""BM25: inverted index, search, and tuning of b and k1."""
