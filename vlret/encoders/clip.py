"""CLIP as open_clip has it: the whole model, and its text tower for passages (titles) that are compared with images."""

from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional as F

from vlret.encoders.checkpoints import load_strictly, read_tensors, weights_file
from vlret.encoders.joint import Encoded
from vlret.files import InputError, read_json


class ClipText(nn.Module):
    """CLIP's encoder of texts: one vector a text, in the space of images.

    Source: Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision", section 2.4;
    github.com/mlfoundations/open_clip, whose modules these are.

    Parameters
    ----------
    model
        A model of open_clip; its image tower is dropped.
    dim
        The width of the joint space.
    """

    def __init__(self, model: nn.Module, dim: int):
        super().__init__()
        model.visual = None
        self.model, self.dim = model, dim

    def forward(self, input_ids: Tensor, attention_mask: Tensor, keep: int = 1) -> Encoded:
        """Token ids `[batch, tokens]` and their mask to the texts' vectors as one position, `[batch, 1, dim]`.

        An `InputError` if there are more tokens than CLIP has positions.
        """
        more = self.model.context_length - input_ids.shape[1]
        if more < 0:
            raise InputError(
                f"embedding.passage_tokens: {input_ids.shape[1]} tokens, CLIP reads {self.model.context_length}"
            )
        # open_clip pads with 0 and finds a text's end by its largest id; other tokenizers pad with that very id.
        vectors = self.model.encode_text(F.pad(input_ids * attention_mask, (0, more)))
        return Encoded((vectors.unsqueeze(1),), attention_mask[:, :1].bool(), slice(0, 1))


def load_clip_text(folder: Path) -> ClipText:
    """The text tower of a CLIP that open_clip published; raises as `load_clip` does."""
    model, config, _ = load_clip(folder)
    return ClipText(model, config["model_cfg"]["embed_dim"])


def load_clip(weights: Path, architecture: str | None = None) -> tuple[nn.Module, dict, Path]:
    """A CLIP with its weights, its description, and the file of the weights.

    Parameters
    ----------
    weights
        A folder as open_clip publishes one: `open_clip_config.json` and `open_clip_model.safetensors` (or
        `open_clip_pytorch_model.bin`); or a file of such weights, whose `architecture` must then be named.
    architecture
        open_clip's name of it, such as `ViT-B-32-quickgelu` (OpenAI's weights want the quick GELU).

    Returns
    -------
    The model; `model_cfg` and `preprocess_cfg` (open_clip's own where the folder says nothing); the file.

    Raises
    ------
    InputError
        If a file is missing or does not fit, the architecture is unknown, or its text tower is another library's.
    """
    import open_clip

    weights = Path(weights)
    if weights.is_dir():
        place = weights / "open_clip_config.json"
        config, weights = read_json(place), weights_file(weights, "open_clip_")
        field = f"{place}: model_cfg"
    else:
        config, field = {"model_cfg": open_clip.get_model_config(architecture or "")}, "architecture"
        if config["model_cfg"] is None:
            raise InputError(f"{weights}: architecture {architecture!r}: open_clip knows none of that name")
    sizes = dict(config.get("model_cfg", {}))
    if sizes.get("text_cfg", {}).get("hf_model_name"):
        raise InputError(f"{field}.text_cfg.hf_model_name: only text towers of open_clip's own are read")
    custom = sizes.pop("custom_text", False)
    try:
        model = (open_clip.CustomTextCLIP if custom else open_clip.CLIP)(**sizes)
    except (TypeError, ValueError) as error:
        raise InputError(f"{field}: not that of a CLIP: {error}") from error
    load_strictly(model.state_dict(), read_tensors(weights), weights)
    return model, config, weights
