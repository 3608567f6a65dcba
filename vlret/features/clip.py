"""CLIP's image towers through open_clip: the last grid of a ResNet, the patches of a transformer, the joint vector.

Source: Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision", sections 2.3 and
2.4; github.com/mlfoundations/open_clip, whose modules and published folders these are.
"""

from pathlib import Path

from torch import Tensor

from vlret.encoders.clip import load_clip
from vlret.features.pixels import Square
from vlret.features.squares import SquareBackbone, of_255
from vlret.files import InputError

OUTPUTS = ("grid", "joint")


class Clip(SquareBackbone):
    """An image tower of CLIP.

    Parameters
    ----------
    weights, architecture
        As `vlret.encoders.clip.load_clip` takes them.
    output
        `grid`: what the attention pooling of a ResNet pools, or the patches of a transformer after its last norm;
        `joint`: one vector an image, in the space of texts, of any length.
    resize
        `shortest` or `squash`; None for what the weights were trained with.
    """

    libraries = ("torch", "open_clip_torch", "pillow")

    def __init__(self, weights: Path, output: str, architecture: str | None = None, resize: str | None = None):
        model, config, file = load_clip(weights, architecture)
        from open_clip.transform import PreprocessCfg

        cfg = PreprocessCfg(**{key: value for key, value in config.get("preprocess_cfg", {}).items() if key != "size"})
        resize = resize or cfg.resize_mode
        size = model.visual.image_size  # a ResNet's is a number
        height, width = size if isinstance(size, tuple) else (size, size)
        if resize not in ("shortest", "squash") or height != width:
            problem = f"images are made {height} × {width} by {resize!r}"
            raise InputError(f"{file}: {problem}, which is unknown: set resize to shortest or squash for a square")
        self.output = output
        prepare = Square(height, resize, cfg.interpolation)
        super().__init__(model.visual, file, prepare, mean=of_255(cfg.mean), std=of_255(cfg.std))

    def cells(self, pixels: Tensor) -> Tensor:
        """`[images, 3, size, size]` to `[images, dim, rows, columns]`, one row and column for the joint vector."""
        if self.output == "joint":
            vectors = self.model(pixels)
            return (vectors[0] if isinstance(vectors, tuple) else vectors)[:, :, None, None]
        last = {"indices": 1, "normalize_intermediates": True, "intermediates_only": True}
        return self.model.forward_intermediates(pixels, **last)["image_intermediates"][0]


backbone = Clip
