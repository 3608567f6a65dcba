"""CLIP's text tower, for passages (titles) that are compared with cached image vectors of CLIP's joint space."""

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
    """The text tower of a CLIP published by open_clip, from its folder: `open_clip_config.json` and the weights.

    Raises
    ------
    InputError
        If a file is missing or does not fit, or the text tower is another library's.
    """
    import open_clip

    folder = Path(folder)
    config = folder / "open_clip_config.json"
    sizes = read_json(config).get("model_cfg", {})
    if sizes.get("text_cfg", {}).get("hf_model_name"):
        raise InputError(f"{config}: model_cfg.text_cfg.hf_model_name: only text towers of open_clip's own are read")
    custom = sizes.pop("custom_text", False)
    try:
        model = (open_clip.CustomTextCLIP if custom else open_clip.CLIP)(**sizes)
    except (TypeError, ValueError) as error:
        raise InputError(f"{config}: model_cfg: not that of a CLIP: {error}") from error
    path = weights_file(folder, "open_clip_")
    load_strictly(model.state_dict(), read_tensors(path), path)
    return ClipText(model, sizes["embed_dim"])
