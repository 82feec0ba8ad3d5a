"""The region proposal network as a module."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ..ops.rpn import rpn_proposals


class RegionProposalHead(nn.Module):
    """The convolutions of a region proposal network and what follows them, up to the proposals.

    Its parameters have the names of :class:`torchvision.models.detection.rpn.RPNHead`, whose ``state_dict`` loads;
    its proposals are those of torchvision's ``RegionProposalNetwork`` in inference.

    Args:
        in_channels: channels of every feature map.
        num_anchors: anchors per cell.
        conv_depth: how many 3 x 3 convolutions come before the two of 1 x 1.
        pre_nms_top_n: candidates of each level at most.
        post_nms_top_n: proposals of each image at most, and the size of the outputs.
        nms_threshold: a box goes when its intersection over union with a kept box of its level is greater than this.
        score_threshold: scores must reach this.
        min_size: width and height must reach this, in pixels.

    Example:
        >>> import torch, gencv_fast.nn
        >>> head = gencv_fast.nn.RegionProposalHead(8, 1, post_nms_top_n=5)
        >>> cell = torch.tensor([[-16.0, -16.0, 16.0, 16.0]])
        >>> boxes, scores, counts = head([torch.rand(2, 8, 4, 6)], cell, [(64, 96), (60, 80)], strides=[(16, 16)])
        >>> boxes.shape, scores.shape, counts.shape
        (torch.Size([2, 5, 4]), torch.Size([2, 5]), torch.Size([2]))

    Paper: Ren et al., *Faster R-CNN*, NeurIPS 2015.
    """

    def __init__(
        self,
        in_channels: int,
        num_anchors: int,
        conv_depth: int = 1,
        *,
        pre_nms_top_n: int = 1000,
        post_nms_top_n: int = 1000,
        nms_threshold: float = 0.7,
        score_threshold: float = 0.0,
        min_size: float = 1e-3,
    ) -> None:
        super().__init__()
        convolutions = [nn.Conv2d(in_channels, in_channels, 3, padding=1) for _ in range(conv_depth)]
        self.conv = nn.Sequential(*(nn.Sequential(c, nn.ReLU(inplace=True)) for c in convolutions))
        self.cls_logits = nn.Conv2d(in_channels, num_anchors, 1)
        self.bbox_pred = nn.Conv2d(in_channels, 4 * num_anchors, 1)
        for layer in (*convolutions, self.cls_logits, self.bbox_pred):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.get_parameter("bias"))
        self.pre_nms_top_n = pre_nms_top_n
        self.post_nms_top_n = post_nms_top_n
        self.nms_threshold = nms_threshold
        self.score_threshold = score_threshold
        self.min_size = min_size

    def predict(self, features: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Objectness ``[B, A, H, W]`` and deltas ``[B, 4 * A, H, W]`` of each level, with gradients for a loss."""
        hidden = [self.conv(feature) for feature in features]
        return [self.cls_logits(h) for h in hidden], [self.bbox_pred(h) for h in hidden]

    def forward(
        self,
        features: Sequence[Tensor],
        anchors: Tensor,
        image_sizes: Sequence[tuple[int, int]],
        strides: Sequence[tuple[int, int]] | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The proposals of a batch, without gradient.

        Args:
            features: a feature map per level, ``[B, in_channels, H, W]``.
            anchors: of all cells or, with ``strides``, of one cell of each level, as :func:`gencv_fast.rpn_proposals`
                takes them. torchvision's ``AnchorGenerator`` has the latter in ``cell_anchors``; its strides are the
                sides of the batched images divided by those of the feature map, rounded down.
            image_sizes: ``(height, width)`` of each image, in pixels.
            strides: ``(vertical, horizontal)`` distance in pixels from cell to cell, for each level.

        Returns:
            ``boxes`` ``[B, post_nms_top_n, 4]`` and ``scores`` ``[B, post_nms_top_n]``, highest score first, and
            ``counts`` ``[B]``: rows from ``counts[b]`` on are zero.
        """
        objectness, deltas = self.predict(features)
        return rpn_proposals(
            # Under autocast the convolutions give half precision.
            [o.detach().to(anchors.dtype) for o in objectness],
            [d.detach().to(anchors.dtype) for d in deltas],
            anchors,
            image_sizes,
            self.pre_nms_top_n,
            self.post_nms_top_n,
            self.nms_threshold,
            self.score_threshold,
            self.min_size,
            strides,
        )
