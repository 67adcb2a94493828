"""One process or many behind one record: accelerate gives ranks and devices, gradients are averaged here.

A step calls one network several times, shares a backbone between roles and accumulates over micro-batches, none of
which survives DistributedDataParallel's wrapping; averaging the finished gradients always does the right thing. Under
FSDP2 torch's ``fully_shard`` splits each network and averages its gradients by itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from accelerate.utils import broadcast_object_list, gather, reduce
from torch import Tensor, nn

from fvgen.checks import require
from fvgen.devices import default_device, is_gpu

Result = TypeVar("Result")


@dataclass(frozen=True)
class Processes:
    """The processes of a run. The defaults are a single one on the CPU."""

    rank: int = 0
    world: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    sharded: bool = False
    """FSDP2: every process holds a part of each network."""
    reshard_after_forward: bool = True

    @classmethod
    def launched(cls) -> Processes:
        """What ``accelerate launch`` set up; a single process without it.

        Raises:
            InputError: FSDP1, or more processes than devices to put them on.
        """
        # Optimizers import it, and its functions' default arguments hold the group of processes that is there by then:
        # its threads would never end (`leave`). Before there is one, they hold None.
        import torch.distributed.nn.functional  # noqa: F401
        from accelerate import Accelerator, FullyShardedDataParallelPlugin

        # Without a GPU accelerate starts several processes; without this argument each takes itself for the only one.
        accelerator = Accelerator(cpu=not is_gpu(default_device()))
        world = int(os.environ.get("WORLD_SIZE", "1"))
        require(
            accelerator.num_processes == world,
            "the processes",
            f"find each other, all {world}",
            accelerator.num_processes,
            "Use a file of scripts/accelerate.",
        )
        # accelerate shards one model, and on GPUs only: its settings are taken, the work is done in `split`.
        sharded = os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true"
        plugin = FullyShardedDataParallelPlugin() if sharded else None
        require(
            plugin is None or plugin.fsdp_version == 2,
            "fsdp_version",
            "be 2",
            getattr(plugin, "fsdp_version", None),
            "Use scripts/accelerate/fsdp2.yaml.",
        )
        return cls(
            accelerator.process_index,
            world,
            accelerator.device,
            sharded=sharded,
            reshard_after_forward=True if plugin is None else bool(plugin.reshard_after_forward),
        )

    def leave(self) -> None:
        """End the connection to the other processes, as the last thing a run does.

        A gloo thread that still holds a tensor of Python's when Python ends aborts the process, its work done. Ending
        the group ends the threads, unless torch's caches hold it, as under FSDP2; the barrier has them let go before.
        """
        if self.world > 1:
            torch.distributed.barrier()
            torch.distributed.destroy_process_group()

    @property
    def main(self) -> bool:
        """Whether this process writes files."""
        return self.rank == 0

    def share(self, global_batch: int) -> range:
        """Places in the global batch that are this process's.

        Raises:
            InputError: when the processes cannot share the batch evenly.
        """
        require(
            global_batch % self.world == 0,
            "global_batch",
            f"be divisible by the {self.world} processes",
            global_batch,
            f"Give --global-batch {-(-global_batch // self.world) * self.world}, or start another number of them.",
        )
        size = global_batch // self.world
        return range(self.rank * size, (self.rank + 1) * size)

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over processes, in every process."""
        if self.world == 1:
            return tensor
        return reduce(tensor.detach().to(self.device), "sum").to(tensor.device)

    def gather(self, tensor: Tensor) -> Tensor:
        """[world·n, ...] of tensors [n, ...] of one shape, by rank, in every process."""
        if self.world == 1:
            return tensor
        return gather(tensor.detach().to(self.device)).to(tensor.device)

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        return flag if self.world == 1 else bool(self.sum(torch.tensor(float(flag))) > 0)

    def from_main(self, value: Any) -> Any:
        """The main process's value (anything that pickles), in every process."""
        return value if self.world == 1 else broadcast_object_list([value])[0]

    def on_main(self, work: Callable[[], Result]) -> Result | None:
        """What the main process's work gives there, None elsewhere; its error is raised in every process.

        Were it raised in one, the others would wait for it in their next exchange until that times out.
        """
        result, failure = None, None
        if self.main:
            try:
                result = work()
            except Exception as error:
                failure = error
        failure = self.from_main(failure)
        if failure is not None:
            raise failure
        return result

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Average gradients over processes in place; those that FSDP2 has already averaged are left alone."""
        if self.world == 1:
            return
        grads = [p.grad for p in parameters if p.grad is not None and not is_sharded(p)]
        for work in [torch.distributed.all_reduce(grad, async_op=True) for grad in grads]:
            work.wait()
        if grads:
            torch._foreach_div_(grads, self.world)

    def split(self, module: nn.Module) -> None:
        """Under FSDP2, split the networks in ``module`` over the processes.

        Networks name the blocks that must stay whole in ``_no_split_modules``; modules without such names
        (discriminator heads) are small and stay whole in every process.
        """
        if not self.sharded:
            return
        from torch.distributed.fsdp import FSDPModule, fully_shard

        options = {"mesh": self._mesh(), "reshard_after_forward": self.reshard_after_forward}
        networks: list[Any] = [part for part in module.modules() if getattr(part, "_no_split_modules", None)]
        for network in networks:
            if isinstance(network, FSDPModule):  # roles that share a backbone bring it again
                continue
            blocks: list[Any] = [part for part in network.modules() if type(part).__name__ in network._no_split_modules]
            for part in [*reversed(blocks), network]:  # inner blocks before those around them
                fully_shard(part, **options)

    def _mesh(self) -> Any:
        from torch.distributed.device_mesh import init_device_mesh

        return init_device_mesh(self.device.type, (self.world,))


def is_sharded(tensor: Tensor) -> bool:
    """Whether FSDP2 holds only a part of it here."""
    return hasattr(tensor, "full_tensor")


def whole(tensor: Tensor) -> Tensor:
    """The tensor itself, or put together from its parts (all processes must ask)."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]


def split_like(full: Tensor, like: Tensor) -> Tensor:
    """A whole tensor, the same in every process, split as ``like`` is."""
    if not is_sharded(like):
        return full
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(full, like.device_mesh, like.placements, src_data_rank=None)  # type: ignore[attr-defined]
