"""What stands at the end of a run: a table in the terminal and ``report.html``."""
