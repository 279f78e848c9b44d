"""Builds embedders; so far the weights of `mini`."""
