"""Maintenance of a library: check, repair, compact, back up, restore, statistics."""
