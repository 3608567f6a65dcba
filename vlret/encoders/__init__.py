"""Encoders: text tokens and visual features to hidden states, pooled to one vector."""
