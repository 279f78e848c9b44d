"""Builds the weights of `mini` from packages."""
