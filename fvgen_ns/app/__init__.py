"""``fvgen app``: a page on this machine to choose photos, find their poses, train, watch and fetch the splat."""
