"""open_clip's CLIP: the whole model, and its text tower for passages (titles) that are compared with images."""

from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional as F

from vlret.encoders.checkpoints import load_strictly, read_tensors, weights_file
from vlret.encoders.joint import Encoded
from vlret.files import InputError, read_json


class ClipText(nn.Module):
    """CLIP's text encoder: one vector per text, in the joint space with images.

    Source: Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision", section 2.4;
    github.com/mlfoundations/open_clip, whose modules these are.

    Parameters
    ----------
    model
        A model of open_clip; its image tower is removed.
    dim
        The width of the joint space.
    """

    def __init__(self, model: nn.Module, dim: int):
        super().__init__()
        model.visual = None
        self.model, self.dim = model, dim

    def forward(self, input_ids: Tensor, attention_mask: Tensor, keep: int = 1) -> Encoded:
        """Token ids `[batch, tokens]` and their mask to text vectors as one position, `[batch, 1, dim]`.

        `InputError` if there are more tokens than CLIP has positions.
        """
        more = self.model.context_length - input_ids.shape[1]
        if more < 0:
            raise InputError(
                f"embedding.passage_tokens: {input_ids.shape[1]} tokens, CLIP reads {self.model.context_length}"
            )
        # open_clip pads with 0 and takes the largest id as a text's end; other tokenizers pad with that id.
        vectors = self.model.encode_text(F.pad(input_ids * attention_mask, (0, more)))
        return Encoded((vectors.unsqueeze(1),), attention_mask[:, :1].bool(), slice(0, 1))


def load_clip_text(folder: Path) -> ClipText:
    """The text tower of a CLIP in open_clip's format; raises as `load_clip` does."""
    model, config, _ = load_clip(folder)
    return ClipText(model, config["model_cfg"]["embed_dim"])


def load_clip(weights: Path, architecture: str | None = None) -> tuple[nn.Module, dict, Path]:
    """A CLIP with its weights, its config, and the weights file.

    Parameters
    ----------
    weights
        A folder in open_clip's format: `open_clip_config.json` and `open_clip_model.safetensors` (or
        `open_clip_pytorch_model.bin`); or only the weights file, which needs an `architecture`.
    architecture
        Its open_clip name, such as `ViT-B-32-quickgelu` (OpenAI's weights need the quick GELU).

    Returns
    -------
    The model; `model_cfg` and `preprocess_cfg` (open_clip's defaults if absent); the file.

    Raises
    ------
    InputError
        If a file is missing or does not fit, the architecture is unknown, or the text tower is not open_clip's.
    """
    import open_clip

    weights = Path(weights)
    if weights.is_dir():
        place = weights / "open_clip_config.json"
        if not place.is_file():
            raise InputError(
                f"{weights}: no open_clip_config.json in it; name the weights file itself, with `architecture`, or "
                "write a folder with `open_clip.push_to_hf_hub.save_for_hf`"
            )
        config, weights = read_json(place), weights_file(weights, "open_clip_")
        field = f"{place}: model_cfg"
    else:
        config, field = {"model_cfg": open_clip.get_model_config(architecture or "")}, "architecture"
        if architecture is None:
            raise InputError(f"{weights}: a file: set `architecture` to its open_clip name, such as ViT-B-32-quickgelu")
        if config["model_cfg"] is None:
            raise InputError(f"{weights}: architecture {architecture!r}: unknown to open_clip")
    sizes = dict(config.get("model_cfg", {}))
    if sizes.get("text_cfg", {}).get("hf_model_name"):
        raise InputError(f"{field}.text_cfg.hf_model_name: only open_clip's own text towers are supported")
    custom = sizes.pop("custom_text", False)
    try:
        model = (open_clip.CustomTextCLIP if custom else open_clip.CLIP)(**sizes)
    except (TypeError, ValueError) as error:
        raise InputError(f"{field}: not a CLIP config: {error}") from error
    load_strictly(model.state_dict(), read_tensors(weights), weights)
    return model, config, weights
