"""Teacher, student and fake score in the memory of one: a frozen network with a low-rank adapter for each that trains.

LoRA (Hu et al., arXiv 2106.09685) by peft: each linear layer and convolution W of the network gets, for every adapter,
two thin matrices whose product is added to W. The teacher is the network with all adapters off, bit for bit.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fvgen.checks import InputError, complaint, require

MISSING_PEFT = "the shared backbone needs peft. Install it with `pip install 'fvgen-nerfstudio[train]'`"
_UNEXPLAINED = 0.05
"""Share of a student's change over its teacher that an adapter may miss and still stand for it."""


class SharedBackbone:
    """One frozen network with named adapters, of which at most one is on at a time.

    Args:
        network: a `VideoUNet`; it is frozen, and its linear layers and convolutions are wrapped in place.
        names: of the adapters, each of which starts as no change at all.
        rank: of the adapters.
        seed: of their first matrices, the same in every process.
    """

    def __init__(self, network: Any, names: Sequence[str], rank: int, seed: int = 0) -> None:
        try:
            from peft import LoraConfig, inject_adapter_in_model
            from peft.tuners.lora import LoraLayer
        except ImportError as error:
            raise ImportError(f"{MISSING_PEFT} ({error}).") from error
        require(rank >= 1, "adapter_rank", "be at least 1", rank, "64 is usual.")
        network.requires_grad_(False)
        targets = [name for name, part in network.named_modules() if isinstance(part, (nn.Linear, nn.Conv2d))]
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Already found a `peft_config`")  # several adapters are the point
            torch.manual_seed(seed)
            for name in names:
                inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, target_modules=targets), network, name)
        self.network = network
        self.rank = rank
        self.layers: dict[str, Any] = {name: m for name, m in network.named_modules() if isinstance(m, LoraLayer)}
        self._pieces = {name: self._collect(name) for name in names}
        self._active: str | None = None
        self._switch(None)

    def _collect(self, adapter: str) -> nn.ModuleDict:
        return nn.ModuleDict(
            {
                f"{path.replace('.', '-')}-{side}": getattr(layer, f"lora_{side}")[adapter]
                for path, layer in self.layers.items()
                for side in ("A", "B")
            }
        )

    def pieces(self, adapter: str) -> nn.ModuleDict:
        """The matrices of one adapter and nothing else, by ``path-of-the-layer-A`` and ``-B``."""
        return self._pieces[adapter]

    def select(self, adapter: str | None) -> None:
        """Switch this adapter on and the others off; None: all off."""
        if adapter != self._active:
            self._switch(adapter)

    def _switch(self, adapter: str | None) -> None:
        for layer in self.layers.values():
            layer.enable_adapters(adapter is not None)
            if adapter is not None:
                layer.set_adapter(adapter)
        # peft lets only what is switched on be trained; here all adapters always are, each by its own optimiser.
        for pieces in self._pieces.values():
            pieces.requires_grad_(True)
        self._active = adapter

    def checkpointed(self, stage: nn.Module, *inputs: Any) -> Any:
        """Run a stage now and again in the backward pass, then with the adapter that is on now."""
        adapter = self._active

        @contextmanager
        def same_adapter() -> Iterator[None]:
            self.select(adapter)
            yield  # every forward pass selects its own adapter, so there is nothing to put back

        return checkpoint(stage, *inputs, use_reentrant=False, context_fn=lambda: (nullcontext(), same_adapter()))

    @torch.no_grad()
    def merged_state(self, adapter: str) -> dict[str, Tensor]:
        """State of a plain float32 network that does what this one does with the adapter on."""
        merged = {}
        for name, tensor in self.network.state_dict().items():
            if ".lora_" not in name:
                merged[name.replace(".base_layer.", ".")] = tensor.to(torch.float32, copy=True)
        for path, layer in self.layers.items():
            merged[f"{path}.weight"] = layer.get_base_layer().weight.float() + self.change(path, adapter)
        return merged

    @torch.no_grad()
    def change(self, path: str, adapter: str) -> Tensor:
        """What the adapter adds to the weight of the layer at ``path``, in the weight's shape, float32."""
        down, up = self._matrices(path, adapter)
        weight = self.layers[path].get_base_layer().weight
        return (up.float().flatten(1) @ down.float().flatten(1)).reshape(weight.shape)

    def _matrices(self, path: str, adapter: str) -> tuple[Tensor, Tensor]:
        """A [r, in, ...] and B [out, r, ...] of a layer."""
        layer = self.layers[path]
        return layer.lora_A[adapter].weight, layer.lora_B[adapter].weight

    @torch.no_grad()
    def adopt(self, adapter: str, network: nn.Module) -> None:
        """Make the adapter stand for the change of ``network`` over the frozen one: a merged student's way back.

        Raises:
            InputError: the networks differ by more than matrices of the adapters' rank.
        """
        weights = network.state_dict()
        changed, missed = 0.0, 0.0
        for path, layer in self.layers.items():
            base = layer.get_base_layer().weight.float()
            change = (weights[f"{path}.weight"].to(base) - base).flatten(1)
            down, up = self._matrices(path, adapter)
            u, s, v = torch.linalg.svd(change, full_matrices=False)
            # Directions without a change stay as they began, up 0 and down random: with both 0 they would never learn.
            used = min(down.shape[0], int((s > 1e-6 * s[0]).sum()))
            root = s[:used].sqrt()
            up.zero_()
            up.flatten(1)[:, :used] = u[:, :used] * root
            down.flatten(1)[:used] = root[:, None] * v[:used]
            changed += float(s.square().sum())
            missed += float(s[used:].square().sum())
        adapted = {f"{path}.weight" for path in self.layers}
        for name, tensor in self.network.state_dict().items():
            plain = name.replace(".base_layer.", ".")
            if ".lora_" not in name and plain not in adapted:
                difference = float((weights[plain].to(tensor) - tensor).float().square().sum())
                changed, missed = changed + difference, missed + difference
        if missed > _UNEXPLAINED**2 * changed:
            raise InputError(
                complaint(
                    "the student",
                    f"differ from the teacher by matrices of rank {self.rank} or less",
                    f"{(missed / changed) ** 0.5:.0%} of the change beyond them",
                    "Use --backbone full, or a larger adapter rank.",
                )
            )


class AdaptedNetwork(nn.Module):
    """A role's view of a `SharedBackbone`: call it as the network, and the role's adapter is on.

    Args:
        shared: the backbone of all roles.
        adapter: the role's; None for the teacher.
    """

    def __init__(self, shared: SharedBackbone, adapter: str | None) -> None:
        super().__init__()
        self.backbone = shared.network
        self.shared = shared
        self.adapter = adapter

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the network gives with the role's adapter."""
        shared = self.shared
        if self.backbone.gradient_checkpointing and self.backbone._gradient_checkpointing_func != shared.checkpointed:
            self.backbone.enable_gradient_checkpointing(shared.checkpointed)
        shared.select(self.adapter)
        return self.backbone(*args, **kwargs)

    def own(self) -> nn.ModuleDict | None:
        """What is trained for this role; None for the teacher."""
        return None if self.adapter is None else self.shared.pieces(self.adapter)
