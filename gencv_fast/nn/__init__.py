"""The package's operators as modules."""

from .anchors import AnchorGenerator
from .crop import CropAndResize
from .masked_conv import GatedMaskedConv2d, MaskedConv2d
from .mixture import Bernoulli, MixtureLogistics, Softmax256
from .position_sensitive import PSRoIAlign, PSRoIPool
from .pyramid import SpatialPyramidPool
from .roi_align import MultiScaleRoIAlign, RoIAlign
from .roi_pool import RoIPool
from .rpn import RegionProposalHead
from .yolo import YOLODetect

__all__ = [
    "AnchorGenerator",
    "Bernoulli",
    "CropAndResize",
    "GatedMaskedConv2d",
    "MaskedConv2d",
    "MixtureLogistics",
    "MultiScaleRoIAlign",
    "PSRoIAlign",
    "PSRoIPool",
    "RegionProposalHead",
    "RoIAlign",
    "RoIPool",
    "Softmax256",
    "SpatialPyramidPool",
    "YOLODetect",
]
