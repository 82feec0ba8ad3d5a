"""Ends `make gpu` with one sentence where there is no GPU."""

import sys

import torch

if not torch.cuda.is_available():
    sys.exit("make gpu: torch sees no CUDA device on this machine.")
