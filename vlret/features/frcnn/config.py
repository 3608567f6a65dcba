"""The detector's settings that are not in its checkpoint."""

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
        The stem's pooling rounds its output size up and does not pad, as in Caffe.
    stride_in_1x1
        A stage's first bottleneck strides in its first convolution instead of its second.
    res5_halves
        res5 halves the map; the published one dilates its 3 × 3 convolutions instead.
    hidden
        Channels within the region proposal network.
    objects, attributes
        Numbers of classes, without the background.
    cells
        Cells per side of a pooled region.
    before_suppression, after_suppression
        The maximum number of proposals per image, by score, before and after suppression.
    proposal_overlap
        IoU above which the proposal with the lower score is suppressed.
    least_side
        Proposals must be wider and higher than this, in pixels.
    overlaps
        IoU thresholds for suppressing detections; the first that leaves `least_regions` is used.
    least_regions, regions
        The minimum (if any threshold leaves so many) and maximum number of detections per image.
    shorter, longer
        The size in pixels of the shorter side after resizing, and the maximum of the longer one.
    channel_order
        `BGR` or `RGB`. The weights were trained on BGR (`mean` is Caffe's). The port feeds them RGB, as its published
        setting "BGR" leaves files in RGB (huggingface/transformers, issues 11042 and 19601).
    mean, std
        Per channel, in `channel_order`.
    padding
        The padding value of smaller images in a batch, after normalisation.
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
        """The width of a region's features: the channels after res5."""
        return 8 * self.channels


PUBLISHED = Config()
