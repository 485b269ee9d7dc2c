"""The miniature: a procedural picture world and the small but real Z-Image trained on it.

Nothing outside this package imports it except by name in the model catalogue and in entry points.
"""
