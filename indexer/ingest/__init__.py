"""Ingest: discover files, decode and cut them, embed the segments and record them."""
