"""The Nerfstudio plugin: ``ns-train fvgen-splat``."""

import warnings

# Nerfstudio and what it rests on use names that PyTorch means to drop: a user can do nothing about it.
for _start in (
    r"`torch\.jit\.script",
    r"`torch\.\w+\.amp\.",
    "Converting a tensor with requires_grad=True to a scalar",
):
    warnings.filterwarnings("ignore", _start)
