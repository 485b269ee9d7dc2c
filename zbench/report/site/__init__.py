"""The page: one static folder made from published results, which needs neither a server nor a network."""
