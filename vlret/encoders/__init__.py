"""Text tokens and visual features to hidden states, and hidden states to one vector."""
