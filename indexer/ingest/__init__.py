"""Ingest files: discover, decode, embed and store them."""
