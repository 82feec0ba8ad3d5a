"""Operators in other processes: data loader workers, distributed ranks, other environments."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten
from torch.utils.data import DataLoader, Dataset

from gencv_fast._dispatch import OPS, Op

from .compare import assert_as_accurate, assert_same_bits
from .numerics import requiring_grad
from .samples import PLAINEST, as_tuple, expected, map_tensors, samples, tolerances, truth

ROOT = Path(__file__).resolve().parents[2]


class _Results(Dataset):
    """Item i is what every operator makes of its sample i."""

    def __init__(self, names: list[str]) -> None:
        self.names = names

    def __len__(self) -> int:
        return PLAINEST

    def __getitem__(self, i: int) -> dict[str, tuple[Tensor, ...]]:
        return {name: as_tuple(OPS[name](*samples(name, torch.float32)[i].args)) for name in self.names}


def check_forked_workers(ops: list[Op]) -> None:
    """In workers forked after the parent's threads have started."""
    names = [op.name for op in ops]
    here = _Results(names)
    at_home = [here[i] for i in range(PLAINEST)]
    loader = DataLoader(here, batch_size=None, num_workers=2, multiprocessing_context="fork", timeout=60, shuffle=False)
    for i, away in enumerate(loader):
        for name in names:
            assert_same_bits(away[name], at_home[i][name])


def python(*code: str, **environment: str) -> str:
    """Runs code in a fresh interpreter from the repository's root and returns what it printed."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("GENCV_FAST_") or k == "GENCV_FAST_BUILD_DIR"}
    env.pop("TRITON_INTERPRET", None)
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(code)],
        cwd=ROOT,
        env={**env, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip()


def _placements(args: tuple[Any, ...], rule: list[Any], mesh: Any) -> tuple[Any, ...]:
    from torch.distributed.tensor import distribute_tensor

    leaves, structure = _leaves(args)
    placed = [
        distribute_tensor(a, mesh, [placement]) if isinstance(a, Tensor) else a
        for a, placement in zip(leaves, rule, strict=True)
    ]
    return tree_unflatten(placed, structure)


def _leaves(args: tuple[Any, ...]) -> tuple[list[Any], TreeSpec]:
    """The arguments as a rule takes them: each tensor of a list by itself, each list of numbers as a whole."""

    def is_leaf(a: Any) -> bool:
        return a is not args and isinstance(a, (list, tuple)) and not any(isinstance(i, Tensor) for i in a)

    return tree_flatten(args, is_leaf=is_leaf)


def _can_shard(args: tuple[Any, ...], rule: list[Any], ranks: int) -> bool:
    return all(
        not (isinstance(a, Tensor) and p.is_shard()) or a.shape[p.dim] >= ranks
        for a, p in zip(_leaves(args)[0], rule, strict=True)
    )


def check_sharding(op: Op, mesh: Any) -> None:
    """Under each placement that the rule accepts, the op stays in it and gives the undistributed result."""
    from gencv_fast._dispatch import load_object

    tested = 0
    for sample in samples(op.name, torch.float32)[:PLAINEST]:
        whole = expected(op.name, torch.float32)[sample.name]
        for out_rule, in_rule in load_object(op.sharding)(*sample.args):
            if not _can_shard(sample.args, in_rule, mesh.size()):
                continue
            results = as_tuple(op(*_placements(sample.args, in_rule, mesh)))
            assert [r.placements[0] for r in results] == list(out_rule), (op.name, in_rule)
            full = tuple(r.full_tensor() for r in results)
            if tolerances(op).exact:
                assert_same_bits(full, whole)
            else:
                floor = tolerances(op).floor[torch.float32]
                assert_as_accurate(full, whole, truth(op.name, torch.float32)[sample.name], floor)
            tested += 1
    assert tested


def _last_with_gradient(op: Op, args: tuple[Any, ...]) -> int:
    """Among the leaves: neither indices, nor boxes of an op that gives these no gradient."""
    leaves, structure = _leaves(requiring_grad(args))
    places = [i for i, a in enumerate(leaves) if isinstance(a, Tensor) and a.is_floating_point()]
    total = sum(r.sum() for r in as_tuple(op.reference(*tree_unflatten(leaves, structure))))
    grads = torch.autograd.grad(total, [leaves[i] for i in places], allow_unused=True)
    return max(i for i, grad in zip(places, grads, strict=True) if grad is not None)


class _Scaled(torch.nn.Module):
    """A differentiable op, one of whose tensors is a parameter, behind and before inputs that vary."""

    def __init__(self, op: Op, args: tuple[Any, ...]) -> None:
        super().__init__()
        leaves, self.structure = _leaves(args)
        self.op, self.at = op, _last_with_gradient(op, args)
        self.inputs = (*leaves[: self.at], *leaves[self.at + 1 :])
        self.parameter = torch.nn.Parameter(leaves[self.at].clone())

    def varied(self, shift: int) -> tuple[Any, ...]:
        return map_tensors(lambda t: t.roll(shift, 0) if t.is_floating_point() else t, self.inputs)

    def forward(self, *inputs: Any) -> Tensor:
        args = tree_unflatten([*inputs[: self.at], self.parameter, *inputs[self.at :]], self.structure)
        return torch.cat([r.flatten() for r in as_tuple(self.op(*args))])


def check_data_parallel(op: Op, rank: int) -> None:
    """Averaged over the ranks, gradients of each rank's own input are those of one process."""
    from torch.nn.parallel import DistributedDataParallel

    args = samples(op.name, torch.float32)[0].args
    alone = _Scaled(op, args)
    inputs = [alone.varied(shift) for shift in range(2)]
    (sum(alone(*i).square().sum() for i in inputs) / 2).backward()
    together = DistributedDataParallel(_Scaled(op, args))
    together(*inputs[rank]).square().sum().backward()
    torch.testing.assert_close(together.module.parameter.grad, alone.parameter.grad)


def check_fully_sharded(op: Op, rank: int, mesh: Any) -> None:
    """FSDP2 gives the op the gathered parameter, and the parameter its shard of the averaged gradient."""
    from torch.distributed.fsdp import fully_shard

    args = samples(op.name, torch.float32)[0].args
    alone = _Scaled(op, args)
    inputs = [alone.varied(shift) for shift in range(2)]
    (sum(alone(*i).square().sum() for i in inputs) / 2).backward()
    together = fully_shard(_Scaled(op, args), mesh=mesh)
    together(*inputs[rank]).square().sum().backward()
    torch.testing.assert_close(together.parameter.grad.full_tensor(), alone.parameter.grad)


def run_rank(rank: int, ranks: int, meeting_point: str) -> None:
    """One of two gloo processes: all distributed checks over all ops."""
    from torch.distributed.device_mesh import init_device_mesh

    import tests.demo  # noqa: F401  (registers its operators)

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting_point}", rank=rank, world_size=ranks)
    try:
        mesh = init_device_mesh("cpu", (ranks,))
        for op in OPS.values():
            if op.sharding is not None:
                check_sharding(op, mesh)
            if op.backward is not None and op.onnx is not None:
                check_data_parallel(op, rank)
                check_fully_sharded(op, rank, mesh)
    finally:
        dist.destroy_process_group()
