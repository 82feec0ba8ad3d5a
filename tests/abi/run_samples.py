"""Runs every op's samples on the compiled CPU kernels against the reference, with whichever torch is installed."""

import sys

import torch

import gencv_fast
from gencv_fast._dispatch import OPS, load_object

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def same(ours: object, expected: object, exact: bool) -> bool:
    """To the bit, or about: the test suite proper tells how close."""
    ours, expected = ((x,) if isinstance(x, torch.Tensor) else x for x in (ours, expected))
    pairs = list(zip(ours, expected, strict=True))
    if exact:
        return all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in pairs)
    return all(torch.allclose(a, b, rtol=0.05, atol=0.05, equal_nan=True) for a, b in pairs)


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
    print(f"torch {torch.__version__}, gencv_fast {gencv_fast.__version__}:")
    print(f"{cases - failures} passed, {failures} failed")
    return 1 if failures or not cases else 0


if __name__ == "__main__":
    sys.exit(main())
