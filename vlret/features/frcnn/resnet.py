"""ResNet up to res4, and res5 as the region head, with detectron2's parameter names.

Source: He et al. 2016, "Deep Residual Learning for Image Recognition", section 4.1; Ren et al. 2015, "Faster R-CNN".
"""

from torch import Tensor, nn
from torch.nn import functional as F

from vlret.features.frcnn.config import Config


class Conv(nn.Conv2d):
    """A batch-normalised convolution without bias."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1):
        super().__init__(inputs, outputs, kernel, stride, dilation * (kernel // 2), dilation, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, values: Tensor) -> Tensor:
        """`[batch, inputs, height, width]` to `[batch, outputs, ...]`."""
        return self.norm(super().forward(values))


class Bottleneck(nn.Module):
    """1 × 1, 3 × 3 and 1 × 1 convolutions with a shortcut."""

    def __init__(self, inputs: int, inner: int, outputs: int, strides: tuple[int, int], dilation: int = 1):
        super().__init__()
        stride = strides[0] * strides[1]
        self.shortcut = Conv(inputs, outputs, 1, stride) if inputs != outputs else nn.Identity()
        self.conv1 = Conv(inputs, inner, 1, strides[0])
        self.conv2 = Conv(inner, inner, 3, strides[1], dilation)
        self.conv3 = Conv(inner, outputs, 1)

    def forward(self, values: Tensor) -> Tensor:
        """`[batch, inputs, height, width]` to `[batch, outputs, ...]`."""
        inner = F.relu_(self.conv2(F.relu_(self.conv1(values))))
        return F.relu_(self.conv3(inner).add_(self.shortcut(values)))


class Stem(nn.Module):
    """A 7 × 7 convolution and a pooling, each halving the map."""

    def __init__(self, config: Config):
        super().__init__()
        self.conv1 = Conv(3, config.stem_channels, 7, stride=2)
        self.caffe = config.caffe_pooling

    def forward(self, images: Tensor) -> Tensor:
        """`[images, 3, height, width]` to `[images, channels, height / 4, width / 4]`."""
        values = F.relu_(self.conv1(images))
        return F.max_pool2d(values, 3, stride=2, padding=0 if self.caffe else 1, ceil_mode=self.caffe)


class ResNet(nn.Module):
    """The convolutions shared by all regions, up to res4."""

    def __init__(self, config: Config):
        super().__init__()
        self.stem = Stem(config)
        self.res2 = stage(config, 2, config.blocks[0], halves=False)
        self.res3 = stage(config, 3, config.blocks[1], halves=True)
        self.res4 = stage(config, 4, config.blocks[2], halves=True)

    def forward(self, images: Tensor) -> Tensor:
        """`[images, 3, height, width]` to res4's map `[images, 4 * channels, height / 16, width / 16]`."""
        return self.res4(self.res3(self.res2(self.stem(images))))


def stage(config: Config, number: int, blocks: int, halves: bool, dilation: int = 1) -> nn.Sequential:
    """The bottlenecks of stage res`number`; the first halves the map if `halves`."""
    growth = 2 ** (number - 2)
    inner, outputs = config.bottleneck_channels * growth, config.channels * growth
    inputs = config.stem_channels if number == 2 else outputs // 2
    step = 2 if halves else 1
    strides = (step, 1) if config.stride_in_1x1 else (1, step)
    rest = [Bottleneck(outputs, inner, outputs, (1, 1), dilation) for _ in range(blocks - 1)]
    return nn.Sequential(Bottleneck(inputs, inner, outputs, strides, dilation), *rest)
