"""`mini`: the embedder that needs no download."""
