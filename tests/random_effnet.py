"""The published EfficientNet-Lite0 with random weights, such that every tensor matters."""

import torch
from efficientnet_lite_pytorch import EfficientNet


def random_effnet() -> EfficientNet:
    torch.manual_seed(0)
    model = EfficientNet.from_name("efficientnet-lite0").eval()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.2, 0.4)
            elif name.endswith(("_bn0.weight", "_bn1.weight", "_bn2.weight")):
                tensor.uniform_(0.5, 1.5)
            elif name.endswith(("running_mean", "bias")):
                tensor.uniform_(-0.2, 0.2)
    return model
