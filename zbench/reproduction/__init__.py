"""The Z-Erase paper's tables beside what is measured, and its claims, one by one (arXiv 2603.25074).

The paper's numbers, the grids that stand for its tables and its claims are data (`data/`). On a model of the
picture world the same gives that world's version of each table, and is named so.
"""
