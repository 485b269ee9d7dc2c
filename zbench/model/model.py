"""`Model`: a loaded pipeline, and the conventions of time, sign and prompt encoding in one place.

Timesteps are the scheduler's, t in (0, 1000]; the transformer wants tau = (1000 - t) / 1000 (0 is noise, 1 is
clean) and predicts clean minus noise, so the velocity dx/dsigma that the sampler follows is minus its output.
Prompts go through the pipeline's own `encode_prompt`: chat template, penultimate hidden state, no padding.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from zbench.errors import ConfigurationError
from zbench.model import sampling
from zbench.model.counter import Counter
from zbench.model.encoding import PromptEncoder
from zbench.model.offload import is_tight
from zbench.model.rows import RowTracker, padded
from zbench.model.sampling import Trajectory
from zbench.model.spans import token_spans
from zbench.model.spec import ModelSpec


class Attachable(Protocol):
    """What `Model` asks of any edit; `zbench.edits.Edit` is one."""

    def attach(self, model: Model) -> None:
        """Changes the model."""

    def detach(self) -> None:
        """Restores it."""


class EditsEmbeddings(Protocol):
    """What `Model` asks of an edit on the conditioning seam."""

    def edit_embeddings(self, embeddings: list[Tensor], prompts: list[str]) -> list[Tensor]:
        """Changes prompt embeddings."""


_Edit = TypeVar("_Edit", bound=Attachable)

ProgressCallback = Callable[[int, int], None]
"""Called with (done, total) as work goes on."""


class Model:
    """A `ZImagePipeline` with frozen weights and the verbs that methods, attacks and stages use.

    Attributes:
        spec: Where it came from and how it is sampled.
        pipeline: The diffusers pipeline, on `device`.
        transformer: Its transformer.
        device: Where everything runs.
        counter: Evaluations of the transformer so far.
        rows: Image and text rows of the running call.
        edits: Edits attached at the moment, in order.
        conditioning: Those of them that change prompt embeddings.
        prompts: Encodes prompts, and remembers what it encoded.
        spares_memory: Whether the device is small for this model, so that training recomputes activations.
    """

    def __init__(self, spec: ModelSpec, pipeline: Any) -> None:
        """Freezes the pipeline's networks and installs counter and row tracker."""
        self.spec = spec
        self.pipeline = pipeline
        self.transformer: Any = pipeline.transformer
        self.edits: list[Attachable] = []
        self.conditioning: list[EditsEmbeddings] = []
        for network in self.networks().values():
            network.requires_grad_(False).eval()
        self.device = next(self.transformer.parameters()).device
        self.prompts = PromptEncoder(spec, pipeline, self.device)
        self.spares_memory = is_tight(spec, self.device)
        self.counter = Counter()
        self.counter.watch(self.transformer)
        self.rows = RowTracker(self.transformer)

    def networks(self) -> dict[str, nn.Module]:
        """Transformer, text encoder and VAE by their names in the pipeline."""
        return {name: getattr(self.pipeline, name) for name in ("transformer", "text_encoder", "vae")}

    # Prompts ----------------------------------------------------------------------------------------------

    def encode(self, prompts: Sequence[str]) -> list[Tensor]:
        """Encodes prompts as the pipeline does.

        Args:
            prompts: Without chat template.

        Returns:
            One [L_i, D] per prompt, valid tokens only, on `device`. The tensors are shared with a cache: do
            not change them in place.
        """
        embeddings = self.prompts.encode(prompts)
        for edit in self.conditioning:
            embeddings = edit.edit_embeddings(embeddings, list(prompts))
        return embeddings

    def token_span(self, prompt: str, phrase: str) -> list[tuple[int, int]]:
        """Half-open token spans of a phrase's occurrences in what `encode` returns for a prompt.

        Any case, several words, any language; words of spaced scripts match only whole. Empty when absent.
        """
        return token_spans(self.pipeline.tokenizer, prompt, phrase, self.spec.max_sequence_length)

    # Velocity and time ------------------------------------------------------------------------------------

    def latent_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one latent picture."""
        cell = self.pipeline.vae_scale_factor * 2
        channels = int(self.transformer.config.in_channels)
        return channels, 2 * (self.spec.height // cell), 2 * (self.spec.width // cell)

    def noise(self, seeds: Sequence[int]) -> Tensor:
        """Starting noise [B, C, h, w], float32, one generator per picture."""
        return sampling.noise(seeds, self.latent_shape(), self.device)

    def velocity(self, latents: Tensor, timesteps: Tensor, embeddings: Sequence[Tensor]) -> Tensor:
        """Evaluates the velocity dx/dsigma (noise minus clean); differentiable in everything.

        Args:
            latents: [B, C, h, w].
            timesteps: [B], the scheduler's t in (0, 1000], not tau.
            embeddings: B tensors [L_i, D] from `encode`; lengths may differ.

        Returns:
            [B, C, h, w] float32.

        Raises:
            ValueError: Batch sizes disagree, or timesteps on the CPU are out of range.
        """
        _check_batch(latents, timesteps, embeddings)
        dtype = self.transformer.dtype
        tau = (1000 - timesteps.to(self.device, torch.float32)) / 1000
        pictures = list(latents.to(self.device, dtype).unsqueeze(2).unbind(0))
        captions = [embedding.to(self.device, dtype) for embedding in embeddings]
        output = self.transformer(pictures, tau, captions, return_dict=False)[0]
        return -torch.stack([picture.float() for picture in output]).squeeze(2)

    def timesteps(self, steps: int | None = None) -> Tensor:
        """The pipeline's timesteps [steps], float32 on `device`, falling."""
        timesteps: Tensor = self._clock(steps).timesteps
        return timesteps.to(self.device)

    def sigmas(self, steps: int | None = None) -> Tensor:
        """The pipeline's noise levels [steps + 1], float32 on `device`, ending in 0."""
        sigmas: Tensor = self._clock(steps).sigmas
        return sigmas.to(self.device)

    def _clock(self, steps: int | None) -> Any:
        return sampling.clock(self.pipeline.scheduler, self._steps(steps), *self.latent_shape()[1:])

    def _steps(self, steps: int | None) -> int:
        chosen = self.spec.steps if steps is None else steps
        if chosen < 1:
            raise ConfigurationError(f"A picture needs at least one denoising step, not {chosen}.")
        return chosen

    # Pictures ---------------------------------------------------------------------------------------------

    def trajectory(
        self,
        embeddings: Sequence[Tensor],
        seeds: Sequence[int],
        steps: int | None = None,
        until: int | None = None,
    ) -> Trajectory:
        """Denoises without guidance and without gradient, keeping every state.

        Args:
            embeddings: One [L_i, D] per picture.
            seeds: One per picture.
            steps: Length of the whole schedule; the model's own by default.
            until: Steps to take of it; all by default.

        Returns:
            `until + 1` states and all `steps` timesteps.
        """
        scheduler = self._clock(steps)
        scheduler.timesteps, scheduler.sigmas = (
            scheduler.timesteps.to(self.device),
            scheduler.sigmas.to(self.device),
        )
        until = len(scheduler.timesteps) if until is None else until
        return sampling.integrate(
            lambda x, t: self.velocity(x, t, embeddings), scheduler, self.noise(seeds), until
        )

    def generate(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        *,
        steps: int | None = None,
        batch_size: int = 16,
        progress: ProgressCallback | None = None,
    ) -> Tensor:
        """Draws pictures through the pipeline's `__call__`.

        Prompts whose captions take equally many rows share a batch: no attention mask is needed then, and a
        picture is the same in every batch up to rounding.

        Args:
            prompts: N prompts.
            seeds: N seeds, one generator each.
            steps: Denoising steps; the model's own by default.
            batch_size: Pictures drawn at once; does not change them.
            progress: Called with pictures done and N.

        Returns:
            [N, 3, H, W] uint8 on the CPU; a picture that is not a number is black there.

        Raises:
            ValueError: Not as many seeds as prompts.
        """
        if len(prompts) != len(seeds):
            raise ValueError(f"{len(prompts)} prompts but {len(seeds)} seeds")
        return self.generate_from(
            self.encode(prompts), seeds, steps=steps, batch_size=batch_size, progress=progress
        )

    def generate_from(
        self,
        embeddings: Sequence[Tensor],
        seeds: Sequence[int],
        *,
        steps: int | None = None,
        batch_size: int = 16,
        progress: ProgressCallback | None = None,
    ) -> Tensor:
        """Draws pictures like `generate`, from embeddings, past every edit on the conditioning seam.

        Args:
            embeddings: N tensors [L_i, D].
            seeds: N seeds, one generator each.
            steps: Denoising steps; the model's own by default.
            batch_size: Pictures drawn at once; does not change them.
            progress: Called with pictures done and N.

        Returns:
            [N, 3, H, W] uint8 on the CPU; a picture that is not a number is black there.

        Raises:
            ValueError: Not as many seeds as embeddings.
        """
        if len(embeddings) != len(seeds):
            raise ValueError(f"{len(embeddings)} embeddings but {len(seeds)} seeds")
        pictures = torch.zeros(len(seeds), 3, self.spec.height, self.spec.width, dtype=torch.uint8)
        done = 0
        for batch in self.batches(embeddings, batch_size):
            pictures[batch] = self.draw([embeddings[i] for i in batch], [seeds[i] for i in batch], steps)
            done += len(batch)
            if progress is not None:
                progress(done, len(seeds))
        return pictures

    def batches(self, embeddings: Sequence[Tensor], batch_size: int) -> Iterator[list[int]]:
        """Which pictures are drawn together: up to `batch_size` whose captions take equally many rows.

        Args:
            embeddings: N tensors [L_i, D].
            batch_size: The most at once.

        Yields:
            Positions, each once.

        Raises:
            ConfigurationError: The batch size is not positive.
        """
        return sampling.batches([padded(len(embedding)) for embedding in embeddings], batch_size)

    def draw(self, embeddings: Sequence[Tensor], seeds: Sequence[int], steps: int | None = None) -> Tensor:
        """Draws one batch from `batches`.

        Args:
            embeddings: B tensors [L_i, D] that take equally many rows.
            seeds: B seeds.
            steps: Denoising steps; the model's own by default.

        Returns:
            [B, 3, H, W] uint8 on the CPU; a picture that is not a number is black there.
        """
        guided = self.spec.guidance_scale > 0
        drawn: Tensor = self.pipeline(
            prompt_embeds=list(embeddings),
            negative_prompt_embeds=self.encode([""] * len(seeds)) if guided else None,
            latents=self.noise(seeds),
            height=self.spec.height,
            width=self.spec.width,
            num_inference_steps=self._steps(steps),
            guidance_scale=self.spec.guidance_scale,
            output_type="pt",
        ).images
        return (drawn.float().nan_to_num(0.0) * 255).round().to("cpu", torch.uint8)

    # Edits and provenance ---------------------------------------------------------------------------------

    @contextmanager
    def edited(self, edit: _Edit) -> Iterator[_Edit]:
        """Attaches an edit for the length of a `with` block and restores the model exactly afterwards."""
        edit.attach(self)
        try:
            yield edit
        finally:
            edit.detach()

    def fingerprint(self, networks: Sequence[str] = ("transformer",)) -> str:
        """SHA-256 over names, formats and values of all tensors of the named networks, as 64 hex digits.

        Args:
            networks: Names from `networks()`. Edits change the transformer; pictures depend on all three.
        """
        digest = hashlib.sha256()
        for network in networks:
            for name, tensor in sorted(self.networks()[network].state_dict().items()):
                digest.update(f"{network}.{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
                digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        return digest.hexdigest()


def _check_batch(latents: Tensor, timesteps: Tensor, embeddings: Sequence[Tensor]) -> None:
    if not len(latents) == len(embeddings) == timesteps.numel() or timesteps.ndim != 1:
        raise ValueError(
            f"{len(latents)} latents, timesteps {tuple(timesteps.shape)}, {len(embeddings)} embeddings"
        )
    # On a GPU the comparison would wait for the device at every call.
    if timesteps.device.type == "cpu" and not bool(((timesteps > 0) & (timesteps <= 1000)).all()):
        raise ValueError("timesteps are the scheduler's, in (0, 1000]")
