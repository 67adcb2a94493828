"""Networks with equal weights that lie elsewhere in memory."""

from __future__ import annotations

import torch
from torch import nn

OTHER_MEMORY = {"rtol": 1e-5, "atol": 1e-5}
"""How far their outputs may differ: convolution kernels on CPUs add in an order that depends on where operands lie."""


def assert_same_weights(found: nn.Module, expected: nn.Module) -> None:
    """Parameters and buffers are equal to the bit."""
    state = found.state_dict()
    assert state.keys() == expected.state_dict().keys()
    for name, tensor in expected.state_dict().items():
        assert torch.equal(state[name], tensor), name
