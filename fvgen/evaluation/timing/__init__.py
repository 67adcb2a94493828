"""What a machine does in which time and memory: clips, training steps, and what it is."""
