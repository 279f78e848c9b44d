"""Build the weights of `mini` from packages."""
