"""The splat itself: what it starts from, how it is trained, what supports it, and its photos compared with it."""
