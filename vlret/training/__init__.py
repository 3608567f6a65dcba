"""Contrastive training of a bi-encoder."""
