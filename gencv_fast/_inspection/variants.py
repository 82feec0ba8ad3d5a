"""What a room lists in ``triton_kernels.KERNELS`` so that its kernels can be compiled without a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class TritonVariant:
    """One specialisation of a Triton kernel, as its launcher would compile it.

    Attributes:
        name: shown in tables; unique in the room, such as ``"mask_kernel<fp32>"``.
        kernel: the ``@triton.jit`` function.
        signature: type of each run-time argument: ``"*fp32"``, ``"i32"`` ...; the suffix ``":16"`` says what
            the launcher finds out by itself at run time: the pointer is 16-byte aligned, or the integer
            divisible by 16.
        constexprs: value of each ``tl.constexpr`` parameter.
        num_warps, num_stages, maxnreg, enable_fp_fusion: the options of the launch; None leaves Triton's default.
        exact: True where the results must not depend on contraction: no fused multiply-add may be found.
    """

    name: str
    kernel: Any
    signature: Mapping[str, str]
    constexprs: Mapping[str, Any] = field(default_factory=dict)
    num_warps: int = 4
    num_stages: int | None = None
    maxnreg: int | None = None
    enable_fp_fusion: bool = True
    exact: bool = False

    @property
    def options(self) -> dict[str, Any]:
        """The options as `triton.compile` takes them."""
        options = {"num_warps": self.num_warps, "enable_fp_fusion": self.enable_fp_fusion}
        if self.num_stages is not None:
            options["num_stages"] = self.num_stages
        if self.maxnreg is not None:
            options["maxnreg"] = self.maxnreg
        return options
