"""What of a grid is done, running or left, and how long the rest will take; nothing here works on a cell."""
