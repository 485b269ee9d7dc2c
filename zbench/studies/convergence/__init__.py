"""Whether Z-Erase's claims about its optimisation hold, and what each of its parts is worth.

The theorems assume plain gradient descent, the paper runs AdamW: both are tried. Erasures of a tuning concept
are trained, watched at every step, and measured on tuning prompts.
"""

from zbench.studies.convergence.study import convergence_study

__all__ = ["convergence_study"]
