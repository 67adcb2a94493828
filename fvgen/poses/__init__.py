"""Camera poses for photos that have none: matches, mapping, and the checks that keep wrong poses out."""
