"""Training data: files of several formats → examples whose media are decoded when they are used."""
