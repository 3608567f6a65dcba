"""CLIP's image towers by open_clip: a ResNet's last grid, a transformer's patches, or the joint vector.

Source: Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision", sections 2.3 and
2.4; github.com/mlfoundations/open_clip, whose modules and folder format are used.
"""

from pathlib import Path

from torch import Tensor

from vlret.encoders.clip import load_clip
from vlret.features.pixels import Square
from vlret.features.squares import SquareBackbone, scale_to_255
from vlret.files import InputError

OUTPUTS = ("grid", "joint")


class Clip(SquareBackbone):
    """An image tower of CLIP.

    Parameters
    ----------
    weights, architecture
        As for `vlret.encoders.clip.load_clip`.
    output
        `grid`: the input of a ResNet's attention pooling, or a transformer's patches after its last norm; `joint`: one
        unnormalised vector per image, in the joint space with texts.
    resize
        `shortest` or `squash`; None for that of the weights' training.
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
            problem = f"resizing to {height} × {width} by {resize!r} is unsupported"
            raise InputError(f"{file}: {problem}; set resize to shortest or squash for square images")
        self.output = output
        prepare = Square(height, resize, cfg.interpolation)
        super().__init__(model.visual, file, prepare, mean=scale_to_255(cfg.mean), std=scale_to_255(cfg.std))

    def cells(self, pixels: Tensor) -> Tensor:
        """`[images, 3, size, size]` to `[images, dim, rows, columns]`; the joint vector is one cell."""
        if self.output == "joint":
            vectors = self.model(pixels)
            return (vectors[0] if isinstance(vectors, tuple) else vectors)[:, :, None, None]
        last = {"indices": 1, "normalize_intermediates": True, "intermediates_only": True}
        return self.model.forward_intermediates(pixels, **last)["image_intermediates"][0]


backbone = Clip
