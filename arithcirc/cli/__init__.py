"""Command line: the only place where compute and view meet. Nothing imports it."""
