"""Irrelevant passages to train against, one module a miner."""
