"""Plain classifiers of pictures, as everybody would write them: what this library's models are compared with."""

import itertools

import torch
from torch import Tensor, nn


class VisionTransformer(nn.Module):
    """A ViT as timm's smallest ones are, in the size of `nano`: patches of 8, class token, learned positions, pre-norm.

    Args:
        size: pixels along a picture's side.
        classes: how many there are.
    """

    def __init__(self, size: int, classes: int, width: int = 128, layers: int = 5, heads: int = 4) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 8, stride=8)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.randn(1, (size // 8) ** 2 + 1, width) * 0.02)
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """Logits, (B, classes)."""
        x_BGD = self.patches(pixels_BCHW).flatten(2).transpose(1, 2)
        x_BND = torch.cat([self.token.expand(len(x_BGD), -1, -1), x_BGD], dim=1) + self.positions
        return self.head(self.norm(self.layers(x_BND)[:, 0]))


class ResNet(nn.Module):
    """A ResNet-14 for small pictures: a 3x3 stem, six blocks of two convolutions at 32, 64 and 128 channels."""

    def __init__(self, size: int, classes: int) -> None:
        super().__init__()
        self.stem = _convolution(3, 32, stride=2)
        widths = (32, 32, 32, 64, 64, 128, 128)
        self.blocks = nn.Sequential(*(_Residual(inputs, outputs) for inputs, outputs in itertools.pairwise(widths)))
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """Logits, (B, classes)."""
        return self.head(self.blocks(self.stem(pixels_BCHW).relu()).mean(dim=(2, 3)))


class _Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        stride = 1 if inputs == outputs else 2
        self.first, self.second = _convolution(inputs, outputs, stride=stride), _convolution(outputs, outputs, stride=1)
        self.short = nn.Identity() if stride == 1 else nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return (self.short(x) + self.second(self.first(x).relu())).relu()


def _convolution(inputs: int, outputs: int, *, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(outputs))
