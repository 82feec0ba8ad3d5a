"""Runs every op's samples on the compiled CPU kernels against the reference, with whichever torch is installed."""

import sys
from typing import Any

import torch
from torch.utils._pytree import tree_leaves, tree_map_only

import gencv_fast
from gencv_fast._dispatch import OPS, Op, load_object

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def same(ours: object, expected: object, exact: bool) -> bool:
    """To the bit, or about: the test suite proper tells how close."""
    ours, expected = ((x,) if isinstance(x, torch.Tensor) else x for x in (ours, expected))
    pairs = list(zip(ours, expected, strict=True))
    if exact:
        return all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in pairs)
    return all(torch.allclose(a, b, rtol=0.05, atol=0.05, equal_nan=True) for a, b in pairs)


def gradients(op: Op, args: tuple[Any, ...], backend: str) -> tuple[torch.Tensor, ...]:
    """What autograd hands to the floating-point arguments: its rules differ between versions of torch."""
    leaves = tree_map_only(
        torch.Tensor, lambda t: t.detach().clone().requires_grad_() if t.is_floating_point() else t, args
    )
    results = [r for r in tree_leaves(op(*leaves, backend=backend)) if r.requires_grad]
    inputs = [t for t in tree_leaves(leaves) if isinstance(t, torch.Tensor) and t.is_floating_point()]
    grads = torch.autograd.grad([r.sum() for r in results], inputs, allow_unused=True, materialize_grads=True)
    return tuple(grads)


def main() -> int:
    failures = cases = 0
    for op in OPS.values():
        exact = load_object(f"{op.room}.samples:tolerances")(op.name).exact
        for dtype in DTYPES:
            for sample in load_object(f"{op.room}.samples:sample_inputs")(op.name, dtype):
                cases += 1
                if not same(op(*sample.args, backend="cpu"), op(*sample.args, backend="reference"), exact):
                    failures += 1
                    print(f"{op.name} {dtype} {sample.name}: differs from the reference")
                if op.backward is None or not sample.differentiable or dtype != torch.float64:
                    continue
                cases += 1
                if not same(*(gradients(op, sample.args, backend) for backend in ("cpu", "reference")), exact=False):
                    failures += 1
                    print(f"{op.name} {sample.name}: another gradient than the reference's")
    print(f"torch {torch.__version__}, gencv_fast {gencv_fast.__version__}:")
    print(f"{cases - failures} passed, {failures} failed")
    return 1 if failures or not cases else 0


if __name__ == "__main__":
    sys.exit(main())
