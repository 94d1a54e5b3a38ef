"""FSDP2: weights, gradients, averages and the optimizer's memory, each process holding a part.

``torch.distributed.fsdp.fully_shard`` (Zhao et al. 2023, "PyTorch FSDP") through Lightning's
``ModelParallelStrategy``, on processors (gloo) and GPUs (nccl) alike.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from glissando.checkpoints.files import read_training
from glissando.checkpoints.sharded import Pieces, split, write_part
from glissando.files import sync_folder
from glissando.training.safe_io import remove

_T = TypeVar("_T")


class Door(nn.ModuleDict):
    """Modules whose weights are used inside ``door(step)`` alone, which returns ``step()``.

    Sharded weights are whole between a module's entry and its exit and nowhere else. What is
    called from several sides (a loss, a sampler) has no entry of its own: this is it.
    """

    def forward(self, step: Callable[[], _T]) -> _T:
        return step()


def shard(module: nn.Module, mesh: Any) -> None:
    """Shards ``module`` over ``mesh``: each block of its networks alone, then what is left.

    Weights are whole one block at a time, so this sets how much memory that takes.
    """
    for block in blocks_of(module):
        fully_shard(block, mesh=mesh)
    fully_shard(module, mesh=mesh, reshard_after_forward=True)


def blocks_of(module: nn.Module) -> list[nn.Module]:
    """The modules within that are called as one block each: a network lists them in ``blocks``."""
    lists = [getattr(inner, "blocks", None) for inner in module.modules()]
    return [block for each in lists if isinstance(each, (nn.ModuleList, list)) for block in each]


class Sharded(ModelParallelStrategy):
    """``trainer=fsdp``; checkpoints are folders (``checkpoints.sharded``), whole or not there.

    They resume on any number of processes, and so do checkpoints of runs that were not sharded.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(data_parallel_size=1, tensor_parallel_size=1, **options)

    def setup_environment(self) -> None:
        self._data_parallel_size = self.num_processes * self.num_nodes
        super().setup_environment()

    def lightning_module_state_dict(self) -> dict[str, Any]:
        assert self.lightning_module is not None
        return self.lightning_module.state_dict()

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        return optimizer.state_dict()

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: str | Path, storage_options: Any = None
    ) -> None:
        path = Path(self.broadcast(filepath))
        partial = path.with_name(f".{path.name}.part")
        if self.global_rank == 0:
            shutil.rmtree(partial, ignore_errors=True)
        self.barrier()
        write_part(partial, self.global_rank, *split(checkpoint, _own_rows))
        self.barrier()
        if self.global_rank == 0:
            sync_folder(partial)
            remove(path)
            partial.replace(path)
            sync_folder(path.parent)
        self.barrier()

    def load_checkpoint(
        self, checkpoint_path: str | Path, weights_only: bool | None = None
    ) -> dict[str, Any]:
        path = Path(self.broadcast(checkpoint_path))
        checkpoint = read_training(path, assemble=False)
        assert self.lightning_module is not None
        module = self.lightning_module
        own = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        with torch.no_grad():
            for name, value in checkpoint["state_dict"].items():
                _fill(own[name], value)
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            optimizer.load_state_dict(_like_weights(optimizer, state))
        if checkpoint.get("ema"):
            averaged = dict(module.averaged.named_parameters())  # type: ignore[operator, union-attr]
            checkpoint["ema"] = {
                name: _like(averaged[name], value) for name, value in checkpoint["ema"].items()
            }
        return checkpoint

    def remove_checkpoint(self, filepath: str | Path) -> None:
        if self.is_global_zero:
            remove(Path(filepath))


def _own_rows(leaf: Any) -> Tensor | None:
    return leaf.to_local().detach().cpu() if isinstance(leaf, DTensor) else None


def _fill(own: Tensor, given: Tensor | Pieces) -> None:
    """Copies ``given`` (all rows) into ``own``, of which this process may hold a part."""
    if not isinstance(own, DTensor):
        own.copy_(given.whole() if isinstance(given, Pieces) else given)
        return
    local = own.to_local()
    # As torch.chunk: equal parts of ceil(rows / processes), the last ones shorter or empty.
    begin = own.device_mesh.get_local_rank() * -(-own.shape[0] // own.device_mesh.size())
    if isinstance(given, Pieces):
        local.copy_(given.rows(begin, len(local)))
    else:
        local.copy_(given[begin : begin + len(local)])


def _like(weight: Tensor, given: Any) -> Tensor:
    """A new tensor that is shared out as ``weight`` is, with the values of ``given``."""
    new = torch.empty_like(weight)
    _fill(new, given)
    return new


def _like_weights(optimizer: Optimizer, state: Mapping[str, Any]) -> dict[str, Any]:
    """An optimizer's state dict whose tensors of a weight's size are shared out as it is."""
    weights = [p for group in optimizer.param_groups for p in group["params"]]

    def placed(weight: Tensor, value: Any) -> Any:
        large = isinstance(value, Pieces) or (isinstance(value, Tensor) and value.ndim > 0)
        return _like(weight, value) if large else value

    memory = {
        index: {key: placed(weights[index], value) for key, value in entry.items()}
        for index, entry in state["state"].items()
    }
    return {**state, "state": memory}
