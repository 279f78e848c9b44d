"""Decoding of untrusted files in processes of their own."""
