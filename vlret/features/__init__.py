"""Image features from frozen backbones, computed once and cached."""
