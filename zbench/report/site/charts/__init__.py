"""Charts of the page as SVG: escaped, deterministic, readable without colour and, by their text, unseen."""
