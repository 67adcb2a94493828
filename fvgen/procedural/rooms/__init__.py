"""A furnished room as a capture."""
