"""Whether the collapse signals notice a broken generator and spare an intact one.

Thresholds are calibrated as in a run. What they flag is counted on held-out pictures of the original, style
by style, on pictures broken on purpose in known ways, on sets that are all alike, on real erasures, and along
a damage curve: the transformer's weights perturbed step by step.
"""

from zbench.studies.signals.study import signals_study

__all__ = ["signals_study"]
