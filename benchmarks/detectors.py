"""torchvision's detectors with random weights that detect something.

No trained weights come with the packages, and untrained detectors find nothing, or the same score everywhere: comparing
nothing with nothing proves nothing. `build` therefore calibrates a seeded model on photos. Batch norms take their
statistics from them, and the last layer of each head is redrawn from the seed, then scaled so that its outputs have a
chosen mean and spread over the photos. The detections mean nothing, but they are many, of many classes, with spread
scores, and they depend on the picture as those of a trained model do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .photos import PHOTOS, photo

CALIBRATION = ("rocket", "china", "flower")  # photos of one size, so that no padding enters the statistics


@dataclass(frozen=True)
class Layer:
    """The last layer of a head, and what its outputs should look like over the photos.

    ``background`` is added to the first of every ``num_classes`` outputs.
    """

    path: str
    mean: float = 0.0
    spread: float = 1.0
    background: float = 0.0


_SSD_LAYERS = tuple(
    layer
    for level in range(6)
    for layer in (
        Layer(f"head.classification_head.module_list.{level}.1", spread=1.3, background=3.0),
        Layer(f"head.regression_head.module_list.{level}.1", spread=0.7),
    )
)
_RETINANET_LAYERS = (
    Layer("head.classification_head.cls_logits", mean=-5.0, spread=0.7),
    Layer("head.regression_head.bbox_reg", spread=0.4),
)
_FCOS_LAYERS = (
    Layer("head.classification_head.cls_logits", mean=-5.5, spread=0.8),
    Layer("head.regression_head.bbox_reg", mean=2.0, spread=0.7),
    Layer("head.regression_head.bbox_ctrness", spread=1.0),
)
_RPN_LAYERS = (Layer("rpn.head.cls_logits", mean=-1.0, spread=2.0), Layer("rpn.head.bbox_pred", spread=0.3))
_BOX_HEAD_LAYERS = (
    Layer("roi_heads.box_predictor.cls_score", spread=1.8, background=3.0),
    Layer("roi_heads.box_predictor.bbox_pred", spread=1.0),
)
_MASK_HEAD_LAYERS = (Layer("roi_heads.mask_predictor.mask_fcn_logits", spread=2.0),)

# Layers by stage: what a stage's layers see depends on those of the stages before it.
STAGES: dict[str, tuple[tuple[Layer, ...], ...]] = {
    "ssdlite320_mobilenet_v3_large": (_SSD_LAYERS,),
    "retinanet_resnet50_fpn": (_RETINANET_LAYERS,),
    "retinanet_resnet50_fpn_v2": (_RETINANET_LAYERS,),
    "fcos_resnet50_fpn": (_FCOS_LAYERS,),
    "fasterrcnn_mobilenet_v3_large_320_fpn": (_RPN_LAYERS, _BOX_HEAD_LAYERS),
    "fasterrcnn_resnet50_fpn": (_RPN_LAYERS, _BOX_HEAD_LAYERS),
    "maskrcnn_resnet50_fpn": (_RPN_LAYERS, _BOX_HEAD_LAYERS, _MASK_HEAD_LAYERS),
}


def build(name: str, *, num_classes: int = 91, seed: int = 0, **options: Any) -> nn.Module:
    """The detector in eval mode, with equal weights for equal arguments.

    Args:
        name: one of `STAGES`, as torchvision calls it.
        num_classes: with the background.
        seed: of all weights; the global random state is left as it was.
        options: passed on to torchvision's builder, such as ``min_size`` for a smaller image.
    """
    from torchvision.models import detection

    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        builder = getattr(detection, name)
        model = builder(weights=None, weights_backbone=None, num_classes=num_classes, **options).eval()
        images = photos_for(CALIBRATION)
        _calibrate_batch_norms(model, images)
        for layers in STAGES[name]:
            _calibrate_layers(model, images, layers, num_classes)
    return model.requires_grad_(False)


def photos_for(names: Sequence[str] = tuple(PHOTOS), size: tuple[int, int] | None = None) -> list[Tensor]:
    """Photos as detectors take them: float32 [3, height, width] in [0, 1], resized to ``(height, width)`` if given."""
    images = [torch.from_numpy(photo(name).copy()).permute(2, 0, 1).float() / 255 for name in names]
    if size is None:
        return images
    return [nn.functional.interpolate(image[None], size, mode="bilinear", antialias=True)[0] for image in images]


@dataclass(frozen=True)
class Count:
    """How much one image's detections are worth for a comparison."""

    detections: int
    classes: int
    scores: int  # that differ by more than 1e-5 from the next lower one

    @property
    def is_telling(self) -> bool:
        return self.detections >= 50 and self.classes >= 10 and self.scores >= self.detections // 2


def count(detections: Mapping[str, Tensor]) -> Count:
    """Counts what a detector returned for one image."""
    scores = detections["scores"].sort().values
    spread = int((scores.diff() > 1e-5).sum()) + 1 if len(scores) else 0
    return Count(len(scores), len(detections["labels"].unique()), spread)


def _calibrate_batch_norms(model: nn.Module, images: list[Tensor]) -> None:
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over all batches
        norm.train()
    model(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.running_var.clamp_(min=norm.running_var.mean())  # as with the spread of the last layers
        norm.eval()


def _calibrate_layers(model: nn.Module, images: list[Tensor], layers: Sequence[Layer], num_classes: int) -> None:
    modules = [model.get_submodule(layer.path) for layer in layers]
    for module in modules:
        nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
        nn.init.zeros_(module.bias)
    with _recording(modules) as outputs:
        model(images)
    for layer, module, rows in zip(layers, modules, outputs, strict=True):
        values = torch.cat(rows)
        spread = values.std(0)
        # A channel that hardly varies is not blown up: its rounding errors would become differences of scores.
        scale = layer.spread / spread.clamp(min=spread.mean())
        module.weight.mul_(scale.view(-1, *[1] * (module.weight.dim() - 1)))
        module.bias.copy_(layer.mean - values.mean(0) * scale)
        module.bias[::num_classes] += layer.background


@contextmanager
def _recording(modules: Sequence[nn.Module]) -> Iterator[list[list[Tensor]]]:
    """What the modules return, as [positions, channels]; a module may be called several times."""
    outputs: list[list[Tensor]] = [[] for _ in modules]

    def hook_into(rows: list[Tensor]) -> Any:
        return lambda module, args, output: rows.append(output.movedim(1, -1).flatten(0, -2))

    hooks = [m.register_forward_hook(hook_into(rows)) for m, rows in zip(modules, outputs, strict=True)]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()
