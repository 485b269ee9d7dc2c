import numpy as np
import torch

from zbench.training import add_noise, attention_loss, erase_loss, mean_square, preserve_loss

SHAPE = (3, 4, 5, 6)


def tensors(count: int) -> list[torch.Tensor]:
    source = torch.Generator().manual_seed(count)
    return [torch.randn(SHAPE, generator=source, dtype=torch.float64) for _ in range(count)]


def test_erase_loss_as_written() -> None:
    live, concept, empty = tensors(3)
    eta = 2.0
    difference = live.numpy() - (empty.numpy() - eta * (concept.numpy() - empty.numpy()))
    np.testing.assert_allclose(
        erase_loss(live, concept, empty, eta).item(), np.mean(difference**2), rtol=1e-12
    )


def test_erase_loss_sends_no_gradient_into_the_references() -> None:
    live, concept, empty = (tensor.requires_grad_() for tensor in tensors(3))
    erase_loss(live, concept, empty, 2.0).backward()
    assert live.grad is not None and live.grad.abs().max() > 0
    assert concept.grad is None and empty.grad is None


def test_preserve_loss_as_written() -> None:
    live_empty, frozen_empty, live, frozen = (tensor.numpy() for tensor in tensors(4))
    expected = np.mean((live_empty - frozen_empty) ** 2) + np.mean((live - frozen) ** 2)
    np.testing.assert_allclose(preserve_loss(*tensors(4)).item(), expected, rtol=1e-12)


def test_attention_loss_is_the_mean_mass_over_layers() -> None:
    masses = {0: torch.rand(2, 3, 7), 4: torch.rand(2, 3, 7)}
    expected = np.mean([masses[0].numpy(), masses[4].numpy()])
    np.testing.assert_allclose(attention_loss(masses).item(), expected, rtol=1e-6)


def test_noise_follows_rectified_flow() -> None:
    clean, noise = tensors(2)
    timesteps = torch.tensor([1000.0, 500.0, 1e-3])
    noised = add_noise(clean, noise, timesteps)
    torch.testing.assert_close(noised[0], noise[0])
    torch.testing.assert_close(noised[1], (clean[1] + noise[1]) / 2)
    torch.testing.assert_close(noised[2], clean[2], atol=1e-5, rtol=0)


def test_half_precision_is_squared_in_float32() -> None:
    left = torch.full((8,), 300.0, dtype=torch.float16)
    assert mean_square(left, -left).item() == 360_000.0, "overflows in float16"
