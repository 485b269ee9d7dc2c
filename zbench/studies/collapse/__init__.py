"""What makes naive fine-tuning collapse: an experiment over rows, preservation, conventions and strength.

The Z-Erase paper (arXiv 2603.25074, observation 2) says: the projections that image and text share. Its
released code also feeds timesteps a thousand times too large (D1 of the reference dossier), latents that are
pure noise (D2), embeddings of another layer (D3), and multiplies the adapter by 15 when pictures are drawn
(D18). Each of them is a factor here; the wrong conventions live in this folder and nowhere else.
"""

from zbench.studies.collapse.study import collapse_study

__all__ = ["collapse_study"]
