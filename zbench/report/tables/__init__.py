"""Tables of published results: what stands in them, and their forms for people, papers and machines."""
