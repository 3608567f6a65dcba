"""BM25: the inverted index, its search, and the tuning of b and k1."""
