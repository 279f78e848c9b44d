"""Decoding in processes of their own, with limits of time and memory.

A decoder that hangs, crashes or takes all memory costs the file that it was given and nothing
else. `workers.Workers` is what others use; `worker` is what runs in such a process, and `wire` is
what the two say to each other.
"""
