"""The recipes, one a file, and the terms that they are put together from."""
