"""The processes that train one model together, one a GPU: each computes its share of every batch.

Gradients are added up after the backward pass by torch.distributed, without DistributedDataParallel: the gradients of a
batch's parts are added up first, and of the word embeddings only the rows that some process has are exchanged. All
processes run on one machine and find one another through a file. Process 0 leads: it alone evaluates, writes snapshots
and decides when the run ends.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from relevance.errors import ConfigError

STORE_FILE = "processes"
# A process waits while the leader scores dev. One that has ended is noticed at once, by its closed connections.
_PATIENCE = timedelta(days=7)


class Order(IntEnum):
    """What the leader has all processes do after a step."""

    GO_ON = 0
    SNAPSHOT = 1
    STOP = 2


@dataclass(frozen=True, slots=True)
class Team:
    """The place of this process in its team. In a team of one nothing is communicated."""

    rank: int = 0
    size: int = 1

    def share(self, rows: NDArray[np.integer]) -> NDArray[np.integer]:
        """Return the rows of a batch that this process computes; there may be none."""
        return rows[self.rank :: self.size]

    def order(self, order: Order = Order.GO_ON) -> Order:
        """Return the leader's order; that of the other processes does not count."""
        if self.size == 1:
            return order
        told = torch.tensor(int(order))
        dist.broadcast(told, 0)
        return Order(int(told))

    def total(self, value: float) -> float:
        """Return the sum of the values of all processes."""
        if self.size == 1:
            return value
        found = torch.tensor(value, dtype=torch.float64)
        dist.all_reduce(found)
        return float(found)

    def spread(self, values: Iterable[Tensor]) -> None:
        """Set tensors in place to those of the leader."""
        if self.size > 1:
            with torch.no_grad():
                for value in values:
                    dist.broadcast(value.data, 0)

    def gather(self, value: Tensor) -> list[Tensor]:
        """Return the tensors of all processes, which are of one shape and on the CPU."""
        if self.size == 1:
            return [value]
        found = [torch.zeros_like(value) for _ in range(self.size)]
        dist.all_gather(found, value)
        return found

    def sum_gradients(self, dense: Sequence[Tensor], rows: Sequence[Tensor]) -> None:
        """Set the gradient of each parameter to the sum over all processes; those of `rows` are sparse.

        A parameter that has no gradient in any process has none after it.
        """
        if self.size == 1:
            return
        present = torch.tensor([parameter.grad is not None for parameter in (*dense, *rows)], dtype=torch.uint8)
        # On the CPU, where the end of another process is an error. On GPUs it would be a wait without an end.
        dist.all_reduce(present, dist.ReduceOp.MAX)
        pending = []
        for parameter, has in zip(dense, present.tolist(), strict=False):
            if has:
                parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.contiguous()
                pending.append(dist.all_reduce(parameter.grad, async_op=True))
        for each in pending:
            each.wait()
        for parameter in rows:
            _sum_rows(parameter)


ALONE = Team()


def _sum_rows(parameter: Tensor) -> None:
    """Set a sparse gradient [N, H] to the sum over all processes; it then has the rows that any process has."""
    own = None if parameter.grad is None else parameter.grad.coalesce()
    used = torch.zeros(len(parameter), dtype=torch.uint8, device=parameter.device)
    if own is not None:
        used[own.indices()[0]] = 1
    dist.all_reduce(used, dist.ReduceOp.MAX)
    every = used.nonzero()[:, 0]
    values = torch.zeros((len(every), *parameter.shape[1:]), dtype=parameter.dtype, device=parameter.device)
    if own is not None:
        values[torch.searchsorted(every, own.indices()[0])] = own.values()
    dist.all_reduce(values)
    parameter.grad = torch.sparse_coo_tensor(
        every[None], values, parameter.shape, check_invariants=False, is_coalesced=True
    )


def take_device(rank: int) -> None:
    """Make the GPU of this number the one that this process trains on, if the machine has GPUs."""
    if torch.cuda.is_available():
        torch.cuda.set_device(rank)


def join(rank: int, size: int, folder: Path) -> Team:
    """Join the team whose processes meet through a file in `folder`; wait until all have joined."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # one machine: nobody else needs to reach these ports
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    store = dist.FileStore(str(folder / STORE_FILE), size)
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=_PATIENCE)
    return Team(rank, size)


def leave() -> None:
    """End this process's part in its team, if it is in one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def resolve_processes(asked: int) -> int:
    """Return how many processes train: as many as asked, or with 0 one for each GPU.

    Raises ConfigError where they are more than the machine's GPUs, if it has any.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if gpus and asked > gpus:
        raise ConfigError(f"training.processes {asked}: this machine has {gpus} GPUs; expected at most {gpus}")
    return asked or gpus or 1
