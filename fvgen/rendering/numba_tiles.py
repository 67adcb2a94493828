"""Numba kernels: which splat touches which tile, in which order.

Every (splat, tile) pair has two numbers. Its position lists a tile's splats from near to far, for compositing; its slot
lists a splat's tiles one after another, so that gradients are summed per splat in a fixed order, whatever thread made
them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fvgen.numba_compile import kernel


@kernel
def _count_pairs(boxes, depth_bits, tile, tiles, columns, first_slot, starts, keys):
    """Number the slots, count pairs per tile into ``starts``, list (depth, splat) keys; returns the number of keys."""
    pairs, visible = 0, 0
    for s in range(len(boxes)):
        first_slot[s] = pairs
        x0, x1, y0, y1 = boxes[s, 0], boxes[s, 1], boxes[s, 2], boxes[s, 3]
        if x0 < x1 and y0 < y1:
            keys[visible] = (np.uint64(depth_bits[s]) << np.uint64(32)) | np.uint64(s)
            visible += 1
            camera = s // (len(boxes) // ((len(starts) - 1) // tiles))
            for ty in range(y0 // tile, (y1 - 1) // tile + 1):
                for tx in range(x0 // tile, (x1 - 1) // tile + 1):
                    starts[camera * tiles + ty * columns + tx + 1] += 1
                    pairs += 1
    first_slot[len(boxes)] = pairs
    for t in range(len(starts) - 1):
        starts[t + 1] += starts[t]
    return visible


@kernel
def _place_pairs(boxes, keys, tile, tiles, columns, first_slot, starts, splat_of, slot_of):
    """Deal the splats, nearest first, into the lists of their tiles."""
    cursor = starts[:-1].copy()
    for key in keys:
        s = np.int64(key & np.uint64(0xFFFFFFFF))
        x0, x1, y0, y1 = boxes[s, 0], boxes[s, 1], boxes[s, 2], boxes[s, 3]
        camera = s // (len(boxes) // ((len(starts) - 1) // tiles))
        slot = first_slot[s]
        for ty in range(y0 // tile, (y1 - 1) // tile + 1):
            for tx in range(x0 // tile, (x1 - 1) // tile + 1):
                t = camera * tiles + ty * columns + tx
                splat_of[cursor[t]] = s
                slot_of[cursor[t]] = slot
                cursor[t] += 1
                slot += 1


class TileLists:
    """The pairs of C x N splats and C x T tiles.

    Attributes:
        starts: [C T + 1] where each tile's list begins.
        splat_of: [pairs] the splat (c N + i) at each position; near to far within a tile, ties by index.
        slot_of: [pairs] the slot at each position.
        first_slot: [C N + 1] where each splat's slots begin.
    """

    def __init__(self, boxes: NDArray[np.int32], depths: NDArray[np.float32], height: int, width: int, tile: int):
        """``boxes`` [C, N, 4] pixel bounds (x0, x1, y0, y1), empty where unseen; ``depths`` [C, N], positive."""
        cameras, count = depths.shape
        columns = -(-width // tile)
        tiles = columns * -(-height // tile)
        flat = boxes.reshape(-1, 4)
        self.starts = np.zeros(cameras * tiles + 1, np.int32)
        self.first_slot = np.empty(cameras * count + 1, np.int32)
        keys = np.empty(cameras * count, np.uint64)
        # Positive floats sort like their bits; with the index below them, ties keep their order.
        bits = depths.reshape(-1).view(np.uint32)
        visible = _count_pairs(flat, bits, tile, tiles, columns, self.first_slot, self.starts, keys)
        pairs = self.starts[-1]
        self.splat_of = np.empty(pairs, np.int32)
        self.slot_of = np.empty(pairs, np.int32)
        sorted_keys = np.sort(keys[:visible])
        _place_pairs(flat, sorted_keys, tile, tiles, columns, self.first_slot, self.starts, self.splat_of, self.slot_of)
