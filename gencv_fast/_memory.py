"""Memory that the CPU kernels keep for their next results."""

from __future__ import annotations

import torch

from ._library import LIBRARY, why_no_cpu_library

LIBRARY.define("empty_cache() -> ()")


def empty_cache() -> None:
    """Return to the system the pages that large CPU results have left behind.

    A result of 4 MiB or more whose tensor is gone leaves its pages to the next result of about its size, since taking
    fresh ones costs more than most kernels compute. At most 1 GiB is kept, the longest unused is dropped first, and on
    Linux the system takes kept pages back by itself when memory runs short, all but the latest 64 MiB; a process that
    wants them gone at once, say before measuring its memory, calls this. As ``torch.cuda.empty_cache`` it never touches
    a tensor in use.

    The storage of such a result cannot be resized beyond its memory, nor freed by ``resize_(0)``; it is freed with its
    last tensor.
    """
    if why_no_cpu_library() is None:
        torch.ops.gencv_fast.empty_cache()
