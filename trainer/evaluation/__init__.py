"""Retrieval evaluation on sets from disk.

metrics   hit@k, NDCG, recall, MRR and their means
sets      queries, candidates and their relevance
formats   our own layout of files, and MMEB's
scoring   a set and an embedder → metrics, files, table and plot

`trainer.evaluate` is the command.
"""
