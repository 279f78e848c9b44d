"""Training data: files of several formats → examples that are decoded when they are used."""
