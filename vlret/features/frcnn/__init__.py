"""The Faster R-CNN of LXMERT and VL-T5, trained on Visual Genome: 36 regions of an image, 2,048 numbers each.

Source: Anderson et al. 2018, "Bottom-Up and Top-Down Attention"; the PyTorch port of its weights in
github.com/airsplay/py-bottom-up-attention, published as `unc-nlp/frcnn-vg-finetuned`.
"""
