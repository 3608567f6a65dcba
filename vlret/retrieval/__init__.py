"""Dense retrieval: embeddings, FAISS indices, search, fusion."""
