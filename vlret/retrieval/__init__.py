"""From checkpoints to ranked passages: embeddings, FAISS indices, search, fusion."""
