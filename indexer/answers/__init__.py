"""Answers: from what a search found to quotations or a text that cites its sources."""
