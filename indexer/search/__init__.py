"""Search: embed a query, gather candidates, score and rank them."""
