"""Train and evaluate embedders: RzenEmbed's recipe, and the weights of `mini`."""
