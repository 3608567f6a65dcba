"""timm's image models, such as the ImageNet ResNet-50 of meerqat's baseline.

Source: github.com/huggingface/pytorch-image-models, whose modules and folder format are used.
"""

from pathlib import Path

import timm
from torch import Tensor

from vlret.encoders.checkpoints import load_strictly, read_tensors, weights_file
from vlret.features.pixels import RESAMPLING, Square
from vlret.features.squares import SquareBackbone, scale_to_255
from vlret.files import InputError, read_json


class Timm(SquareBackbone):
    """A model of timm.

    Parameters
    ----------
    weights
        A folder in timm's format: `config.json` and `model.safetensors` (or `pytorch_model.bin`).
    output
        `grid`: the last feature map, or the patches after the last norm; `pooled`: the classifier's input.
    resize
        `shortest` or `squash`; None for that of the weights' training.

    Raises
    ------
    InputError
        If a file is missing or does not fit, or the folder's config is unsupported.
    """

    libraries = ("torch", "timm", "pillow")

    def __init__(self, weights: Path, output: str, resize: str | None = None):
        place = Path(weights) / "config.json"
        if not place.is_file():
            raise InputError(
                f"{weights}: not a folder with config.json and model.safetensors; write one with "
                "`timm.models.save_for_hf(model, folder)`"
            )
        file = weights_file(Path(weights))
        config = read_json(place)
        try:
            cfg = config["pretrained_cfg"]
            options = {"num_classes": config["num_classes"], **config.get("model_args", {})}
            model = timm.create_model(config["architecture"], **options)
            size, mode = cfg["input_size"], {"center": "shortest", "squash": "squash"}[cfg.get("crop_mode", "center")]
            share, how, mean, std = cfg["crop_pct"], cfg["interpolation"], cfg["mean"], cfg["std"]
        except (KeyError, RuntimeError) as error:
            raise InputError(f"{place}: not a timm model config ({error})") from error
        if size[1] != size[2] or how not in RESAMPLING:
            raise InputError(f"{place}: pretrained_cfg: {how} to {size[1:]} is unsupported; choose another model")
        load_strictly(model.state_dict(), read_tensors(file), file)
        self.output = output
        prepare = Square(size[1], resize or mode, how, share)
        super().__init__(model, file, prepare, mean=scale_to_255(mean), std=scale_to_255(std))

    def cells(self, pixels: Tensor) -> Tensor:
        """`[images, 3, size, size]` to `[images, dim, rows, columns]`; the pooled vector is one cell."""
        if self.output == "pooled":
            features = self.model.forward_features(pixels)
            return self.model.forward_head(features, pre_logits=True)[:, :, None, None]
        last = {"indices": 1, "norm": True, "intermediates_only": True, "output_fmt": "NCHW"}
        return self.model.forward_intermediates(pixels, **last)[0]


backbone = Timm
