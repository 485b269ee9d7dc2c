"""How a grid shows how far it is: reporters of single cells, boards of many, and the last words."""
