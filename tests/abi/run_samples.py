"""Runs every op's samples on the compiled CPU kernels against the reference, with whichever torch is installed."""

import sys

import torch

import gencv_fast
from gencv_fast._dispatch import OPS, load_object

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def same(ours: object, expected: object) -> bool:
    ours, expected = (x if isinstance(x, tuple) else (x,) for x in (ours, expected))
    return all(torch.equal(a, b) for a, b in zip(ours, expected, strict=True))


def main() -> int:
    failures = cases = 0
    for op in OPS.values():
        for dtype in DTYPES:
            for sample in load_object(f"{op.room}.samples:sample_inputs")(op.name, dtype):
                cases += 1
                if not same(op(*sample.args, backend="cpu"), op(*sample.args, backend="reference")):
                    failures += 1
                    print(f"{op.name} {dtype} {sample.name}: differs from the reference")
    print(f"torch {torch.__version__}, gencv_fast {gencv_fast.__version__}:")
    print(f"{cases - failures} passed, {failures} failed")
    return 1 if failures or not cases else 0


if __name__ == "__main__":
    sys.exit(main())
