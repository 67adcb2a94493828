"""Is this the network, schedule, path and renderer that ViewCrafter is? Checked against recorded reference vectors."""
