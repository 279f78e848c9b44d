"""Retrieval measured on sets from disk.

entry     one query or candidate as a file states it → a content
sets      what an evaluation set is
own       our own layout of files
mmeb      MMEB's layouts
ranking   a set and an embedder → the metrics of every query
report    results and scores on disk, the table and the plot

`trainer.evaluation.metrics` has the definitions, `trainer.evaluate` the command.
"""
