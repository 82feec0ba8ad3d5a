"""Masked convolutions as modules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from ..ops.masked_conv import gated_activation, masked_conv2d
from ..ops.masked_conv.taps import shift_by_line, tap_rules

Size = int | tuple[int, int]


class MaskedConv2d(nn.Conv2d):
    """A convolution that hides what comes later: a drop-in for the usual Conv2d that multiplies its weight by a mask.

    Its state has the names of :class:`torch.nn.Conv2d`; the ``mask`` of a checkpoint is passed over. What is hidden
    is not multiplied, the weight is never modified, and hidden weights have a gradient of exactly zero.

    Args:
        mask_type: as in :func:`gencv_fast.masked_conv2d`, as are channel_groups, ordering, order, activation and shift.
        in_channels, out_channels, kernel_size, dilation, bias: as of :class:`torch.nn.Conv2d`.
        stride, groups: 1.
        padding: ``"same"``, or the numbers that keep the size.
        halves: 2 where a gate follows that is not this module's activation.

    Example:
        >>> import torch, gencv_fast.nn
        >>> gencv_fast.nn.MaskedConv2d("A", 3, 12, 7, padding=3)(torch.rand(2, 3, 8, 8)).shape
        torch.Size([2, 12, 8, 8])

    Paper: van den Oord et al., *Pixel Recurrent Neural Networks*, ICML 2016.
    """

    def __init__(
        self,
        mask_type: str,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: str | Size = "same",
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        channel_groups: int = 1,
        ordering: str = "raster",
        order: int | None = None,
        activation: str = "none",
        halves: int | None = None,
        shift: Sequence[int] = (0, 0),
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        if stride not in (1, (1, 1)) or groups != 1:
            raise RuntimeError(f"MaskedConv2d: stride and groups must be 1, got {stride} and {groups}.")
        super().__init__(
            in_channels, out_channels, kernel_size, 1, padding, dilation, bias=bias, device=device, dtype=dtype
        )
        tap_rules(mask_type, self.kernel_size, ordering, order, "MaskedConv2d")  # refuses what is none
        self.mask_type, self.channel_groups, self.ordering, self.order = mask_type, channel_groups, ordering, order
        self.activation, self.halves, self.shift = activation, halves, tuple(shift)

    def forward(self, input: Tensor, condition: Tensor | None = None) -> Tensor:
        """See :func:`gencv_fast.masked_conv2d`."""
        return masked_conv2d(
            input,
            self.weight,
            self.bias,
            self.mask_type,
            self.channel_groups,
            self.dilation,
            self.padding,
            ordering=self.ordering,
            order=self.order,
            activation=self.activation,
            condition=condition,
            halves=self.halves,
            shift=self.shift,
        )

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        state_dict.pop(f"{prefix}mask", None)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def extra_repr(self) -> str:
        own = f"mask_type={self.mask_type}, channel_groups={self.channel_groups}, ordering={self.ordering}"
        return f"{super().extra_repr()}, {own}, activation={self.activation}"


class GatedMaskedConv2d(nn.Module):
    """A layer of Gated PixelCNN: a stack that sees the lines before the pixel's, and one that sees its line.

    The vertical stack sees its own line and those before; it reaches the horizontal one a line later. So the context
    is all that comes before, without a blind spot. The first layer is of type A and is given the image twice.

    Args:
        mask_type: ``"A"`` or ``"B"``, of the horizontal stack.
        in_channels: of both inputs.
        channels: of both outputs.
        kernel_size: odd; of the vertical convolution (k x k) and the horizontal one (1 x k).
        channel_groups, ordering: as in :func:`gencv_fast.masked_conv2d`.
        condition_size: of a vector for each image, such as the embedding of a class; None for none.
        skip_channels: of a third output, for the sum that bypasses all layers; None for none.

    Example:
        >>> import torch, gencv_fast.nn
        >>> image = torch.rand(2, 1, 8, 8)
        >>> first, layer = (gencv_fast.nn.GatedMaskedConv2d(m, c, 16, 3) for m, c in (("A", 1), ("B", 16)))
        >>> vertical, horizontal = layer(*first(image, image))
        >>> horizontal.shape
        torch.Size([2, 16, 8, 8])

    Paper: van den Oord et al., *Conditional Image Generation with PixelCNN Decoders*, NeurIPS 2016.
    """

    def __init__(
        self,
        mask_type: str,
        in_channels: int,
        channels: int,
        kernel_size: int,
        *,
        channel_groups: int = 1,
        ordering: str = "raster",
        condition_size: int | None = None,
        skip_channels: int | None = None,
    ) -> None:
        super().__init__()
        shared: dict[str, Any] = {"channel_groups": channel_groups, "ordering": ordering}
        line = (kernel_size, 1) if ordering.startswith("columns") else (1, kernel_size)
        wide = 2 * channels
        self.vertical = MaskedConv2d("vertical_B", in_channels, wide, kernel_size, halves=2, **shared)
        self.link = MaskedConv2d("vertical_B", wide, wide, 1, shift=shift_by_line(ordering), halves=2, **shared)
        self.horizontal = MaskedConv2d(f"horizontal_{mask_type}", in_channels, wide, line, activation="gate", **shared)
        self.output = MaskedConv2d("B", channels, channels, 1, **shared)
        self.skip = None if skip_channels is None else MaskedConv2d("B", channels, skip_channels, 1, **shared)
        self.condition = None if condition_size is None else nn.Linear(condition_size, 2 * wide, bias=False)
        # What type A adds to its input would be the pixel itself.
        self.is_residual = mask_type == "B" and in_channels == channels

    def forward(self, vertical: Tensor, horizontal: Tensor, condition: Tensor | None = None) -> tuple[Tensor, ...]:
        """``[N, in_channels, H, W]`` twice, and a vector for each image; both stacks' outputs, and the skip's."""
        of_vertical = of_horizontal = None
        if self.condition is not None and condition is not None:
            of_vertical, of_horizontal = self.condition(condition).chunk(2, 1)
        sums = self.vertical(vertical)
        gated = self.horizontal(horizontal, self.link(sums, of_horizontal))
        output = self.output(gated)
        if self.is_residual:
            output = output + horizontal
        results = gated_activation(sums, of_vertical), output
        return results if self.skip is None else (*results, self.skip(gated))
