"""Random scenes as training clips."""
