"""A learnable choice among captions (EAP, arXiv 2410.15618): Gumbel-softmax, hard, straight through."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from zbench.training.candidates import align
from zbench.training.trajectories import Draw, TrajectoryBank


class CaptionMixture:
    """Logits pi over the captions of a bank, ascended along the gradient of any loss in the drawn caption.

        w = softmax((pi + g) / tau),   k = argmax w,   c(pi) = P_k E_k + sum_i (w_i - sg[w_i]) P_k E_i

    E_i is caption i, P_k brings it to the length of caption k, g is Gumbel noise, sg stops the gradient. So a
    loss sees exactly caption k, and its gradient with respect to w_i is < dL/dc, P_k E_i >.

    Attributes:
        logits: pi, [captions], float32 on the CPU.
    """

    def __init__(
        self,
        bank: TrajectoryBank,
        template: tuple[int, int],
        *,
        temperature: float,
        learning_rate: float,
        generator: torch.Generator,
    ) -> None:
        """Starts from equal logits.

        Args:
            bank: One trajectory per caption.
            template: Rows of a caption before and after the prompt's, see `template_rows`.
            temperature: tau.
            learning_rate: Of Adam.
            generator: The only source of randomness.
        """
        self.logits = torch.zeros(len(bank), requires_grad=True)
        self._bank, self._template, self._temperature = bank, template, temperature
        self._optimiser = torch.optim.Adam([self.logits], lr=learning_rate, maximize=True)
        self._generator = generator

    def draw(self, batch: int) -> tuple[Draw, Tensor]:
        """Draws captions, each with a point of its own trajectory.

        Returns:
            The points, entry k being the hard choice, and w, [batch, captions], with a graph to pi.
        """
        uniform = torch.rand(batch, len(self.logits), generator=self._generator).clamp_min(1e-20)
        weights = ((self.logits - (-uniform.log()).log()) / self._temperature).softmax(dim=-1)
        steps = torch.randint(len(self._bank.timesteps), (batch,), generator=self._generator)
        return self._bank.at(weights.argmax(dim=-1), steps), weights

    def ascend(self, weights: Tensor, gradients: Sequence[Tensor]) -> None:
        """One step of Adam upwards.

        Args:
            weights: w as `draw` gave them.
            gradients: dL/dc per drawn caption, each [L_k, D].
        """
        scores = torch.stack([self.scores(gradient) for gradient in gradients])
        self._optimiser.zero_grad()
        (weights * scores).sum().backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()

    def scores(self, gradient: Tensor) -> Tensor:
        """< dL/dc, P_k E_i > for every caption i, [captions] float32 on the CPU."""
        aligned = (align(caption, len(gradient), self._template) for caption in self._bank.embeddings)
        return torch.stack([(gradient.float() * caption.float()).sum() for caption in aligned]).cpu()

    def entropy(self) -> float:
        """Entropy of softmax(pi) in nats; log(captions) at the start, 0 for a settled choice."""
        shares = self.logits.detach().softmax(dim=-1)
        return float(torch.special.entr(shares).sum())


def pull_back(output: Tensor, inputs: Sequence[Tensor], towards: Tensor) -> list[Tensor]:
    """Gradients of < output, towards > with respect to the inputs alone; parameters keep theirs.

    Args:
        output: What was computed from the inputs.
        inputs: Leaves that require a gradient.
        towards: Constant, of the shape of the output.
    """
    return list(torch.autograd.grad(output, list(inputs), grad_outputs=towards))
