"""What of the detector its checkpoint does not say."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Config:
    """Sizes and options of a detector; the defaults are those of the published `unc-nlp/frcnn-vg-finetuned`.

    Sources of the defaults: github.com/airsplay/py-bottom-up-attention (Res101-C4 with attributes, 36 boxes by
    `maxnms`) and its port in github.com/huggingface/transformers, `examples/research_projects/lxmert`.

    Attributes
    ----------
    blocks
        Bottlenecks in res2, res3 and res4 (He et al. 2016, table 1).
    stem_channels, bottleneck_channels, channels
        Channels of the stem, within and after the bottlenecks of res2; each later stage doubles the last two.
    caffe_pooling
        The stem's pooling rounds its output's size up and does not pad, as in Caffe.
    stride_in_1x1
        A stage's first bottleneck halves the map in its first convolution instead of its second.
    res5_halves
        res5 halves its map; the published one keeps it and dilates its 3 × 3 convolutions instead.
    hidden
        Channels within the region proposal network.
    objects, attributes
        Classes, without the background.
    cells
        Cells a side that a region is pooled to.
    before_suppression, after_suppression
        Most proposals an image, by score, before and after suppression.
    proposal_overlap
        IoU above which the lesser proposal is suppressed.
    least_side
        Proposals must be wider and higher than this, in pixels.
    overlaps
        IoUs for the suppression of detections, of which the first counts that leaves `least_regions`.
    least_regions, regions
        Fewest (if any overlap leaves them) and most detections an image.
    shorter, longer
        Pixels that the shorter side is resized to, and most pixels of the longer one.
    channel_order
        `BGR` or `RGB`. The weights were trained on BGR (`mean` is Caffe's). The port's own reader gives them RGB: its
        published setting "BGR" leaves files in RGB (huggingface/transformers, issues 11042 and 19601).
    mean, std
        Of each channel, in its order.
    padding
        The value to the right of and below the lesser images of a batch, after normalisation.
    """

    blocks: tuple[int, int, int] = (3, 4, 23)
    stem_channels: int = 64
    bottleneck_channels: int = 64
    channels: int = 256
    caffe_pooling: bool = True
    stride_in_1x1: bool = True
    res5_halves: bool = False
    hidden: int = 512
    objects: int = 1600
    attributes: int = 400
    cells: int = 14
    before_suppression: int = 6000
    after_suppression: int = 300
    proposal_overlap: float = 0.7
    least_side: float = 0.0
    overlaps: tuple[float, ...] = (0.5, 1.0)
    least_regions: int = 36
    regions: int = 36
    shorter: int = 800
    longer: int = 1333
    channel_order: str = "BGR"
    mean: tuple[float, float, float] = (102.9801, 115.9465, 122.7717)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    padding: float = 0.0

    @property
    def dim(self) -> int:
        """Numbers a region: the channels after res5."""
        return 8 * self.channels


PUBLISHED = Config()
