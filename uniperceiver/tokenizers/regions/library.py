"""PIXELS -> MAPS by a backbone of the library transformers (ResNet, Swin, DINOv2, ...), with weights from elsewhere.

Its norms over a batch stay as they were trained, and nothing is dropped in it: a picture must not depend on the others
of its batch, nor a run on what else draws numbers.

Shape suffixes: B pictures, C channels, H W pixels or cells, S cells of all maps, D width.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from uniperceiver.errors import UserError
from uniperceiver.tokenizers.regions.backbone import Maps, coarser, grid_of, joined
from uniperceiver.tokenizers.regions.shape import LibraryShape, RegionShape
from uniperceiver.tokenizers.stems import halving_layers

_GROUPS = 32  # of channels that a GroupNorm takes together
_PROBE = 224  # pixels along a side of the picture that tells the strides of maps
_INPUTS = 3  # colours


class LibraryBackbone(nn.Module):
    """Maps of a library's backbone, brought to one width, and coarser ones behind them."""

    def __init__(self, width: int, shape: RegionShape, library: LibraryShape) -> None:
        super().__init__()
        self.strides = library.strides
        self.body = new_body(library.config)
        self.project = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, width, 1, bias=False), nn.GroupNorm(math.gcd(_GROUPS, width), width))
            for channels in self.body.channels  # type: ignore[union-attr]
        )
        extra = shape.levels - len(self.strides)
        self.down = nn.ModuleList(nn.Conv2d(width, width, 2, stride=2) for _ in range(extra))
        stages = shape.mask_stride.bit_length() - 1
        self.fine_channels = max(width // 4, 16) if shape.masks else 0
        self.fine = halving_layers([_INPUTS, *[self.fine_channels] * stages]) if shape.masks else None
        for module in self.body.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.requires_grad_(False)
        self.train(self.training)

    @torch.no_grad()
    def initialise(self, stream: torch.Generator | None) -> None:
        """Biases of convolutions are 0, as those of linear maps; tables that the library has drawn are drawn anew."""
        for layer in self.down:
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        of_layers = self._of_layers()
        for parameter in self.body.parameters(recurse=True):
            is_table = not parameter.is_meta and id(parameter) not in of_layers
            if is_table and parameter.numel() > 1 and parameter.std() > 0:
                parameter.normal_(0.0, 0.02, generator=stream)

    def _of_layers(self) -> set[int]:
        """Parameters of the body that are drawn as those of all other layers, by identity."""
        layers = [module for module in self.body.modules() if not list(module.children())]
        kinds = (nn.Linear, nn.Conv2d, nn.LayerNorm, nn.BatchNorm2d, nn.GroupNorm)
        return {id(parameter) for layer in layers if isinstance(layer, kinds) for parameter in layer.parameters()}

    def train(self, mode: bool = True) -> "LibraryBackbone":
        """Everything but the body: it is as in evaluation at all times."""
        super().train(mode)
        self.body.eval()
        return self

    def forward(self, pixels_BCHW: Tensor) -> Maps:
        """Maps of pictures of any size that the body takes."""
        height, width = pixels_BCHW.shape[2:]
        maps = [project(x) for project, x in zip(self.project, self.body(pixels_BCHW).feature_maps, strict=True)]
        grids = [grid_of(x, stride, height, width) for x, stride in zip(maps, self.strides, strict=True)]
        coarser(maps, grids, self.down)
        fine_BCHW = None if self.fine is None else self.fine(pixels_BCHW)
        return Maps(cell_BSD=joined(maps), grids=tuple(grids), fine_BCHW=fine_BCHW)


def library_shape(name: str, levels: int) -> LibraryShape:
    """What config.json shall hold of a backbone: with that a saved model is built without the place it came from.

    Args:
        name: of a model on the Hugging Face hub, or a folder that holds one.
        levels: most maps, the coarsest ones; of maps of the same size it is the last.

    Raises:
        UserError: transformers is missing, or has no such model, or it is no backbone.
    """
    config = _config_of(name)
    config.out_features = [stage for stage in config.stage_names if stage != "stem"]
    body = new_body(config.to_dict())
    with torch.no_grad():
        maps = body(torch.zeros(1, _INPUTS, _PROBE, _PROBE)).feature_maps
    last = {_PROBE // x.shape[2]: stage for x, stage in zip(maps, config.out_features, strict=True)}
    strides = sorted(last)[-levels:]
    config.out_features = [last[stride] for stride in strides]
    return LibraryShape(config=config.to_dict(), strides=tuple(strides))


def load_library_weights(backbone: LibraryBackbone, name: str) -> None:
    """Give a freshly built body the weights that were published under that name.

    Raises:
        UserError: they cannot be had.
    """
    try:
        loaded = type(backbone.body).from_pretrained(name, config=backbone.body.config)  # type: ignore[attr-defined]
    except (OSError, ValueError) as error:
        raise UserError(_refusal(name, error)) from None
    backbone.body.load_state_dict(loaded.state_dict())


def new_body(config: dict[str, Any]) -> nn.Module:
    """A backbone of transformers with that configuration, freshly drawn.

    Raises:
        UserError: transformers is missing.
    """
    transformers = _library()
    body: nn.Module = transformers.AutoBackbone.from_config(transformers.AutoConfig.for_model(**config))
    return body


def _config_of(name: str) -> Any:
    try:
        config = _library().AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise UserError(_refusal(name, error)) from None
    if not hasattr(config, "stage_names"):
        raise UserError(f"model.regions.backbone: {name} is no backbone of transformers; name a ResNet, Swin or DINOv2")
    return config


def _refusal(name: str, error: Exception) -> str:
    reason = " ".join(str(error).split())
    return f"model.regions.backbone: {name} cannot be read ({reason}); name a model of the hub, or a folder with one"


def _library() -> Any:
    try:
        import transformers  # an extra: 130 MB that only such backbones need
    except ModuleNotFoundError:
        raise UserError(
            "model.regions.backbone: transformers is missing; pip install 'uniperceiver[backbones]', or set plain"
        ) from None
    return transformers
