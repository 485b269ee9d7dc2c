"""Do the attacks attack? On a model that is not erased, on one that the paper breaks, and on an oracle.

A column of robustness means something only if the attacks in it find what is there to be found, and find
nothing where there is nothing. So white-box attacks are let loose on the unerased model from prompts without
the concept, misspellings on token zeroing, and everything that is text on a defence that no text can pass.
"""

from zbench.studies.attacks.study import attacks_study

__all__ = ["attacks_study"]
