"""Making the miniature: the loop resumes exactly, fast attention equals the stock one, losses are right."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from zbench.detectors.networks import NETWORKS
from zbench.metrics.clip_folder import folder_tokenizer, new_clip
from zbench.miniature.captions import caption
from zbench.miniature.scene import sample_scene
from zbench.miniature.train.attention import use_plain_attention
from zbench.miniature.train.clip import clip_config
from zbench.miniature.train.generator import FlowMatching, new_text_encoder, new_transformer, tokenize
from zbench.miniature.train.loop import Fit, optimizers, settle_batch_norm, spent_seconds
from zbench.miniature.train.tokens import train_tokenizer
from zbench.miniature.vocabulary import CONCEPTS


@pytest.fixture(scope="module")
def tokenizer():
    import random

    rng = random.Random(0)
    return train_tokenizer([caption(sample_scene(rng), rng) for _ in range(500)])


def _fit(folder, steps, stop=None):
    torch.manual_seed(0)
    module = nn.Linear(4, 1)

    def loss(step):
        if step == stop:
            raise KeyboardInterrupt
        generator = torch.Generator().manual_seed(step)
        rows = torch.randn(8, 4, generator=generator)
        return (module(rows) - rows.sum(1, keepdim=True)).square().mean()

    fit = Fit(
        "line", folder, {"m": module}, optimizers([module], 1e-2, muon=False), loss, steps, save_every=0.0
    )
    return module, fit


def test_an_interrupted_fit_resumes_to_the_same_weights(tmp_path):
    whole, fit = _fit(tmp_path / "a", 30)
    fit.run()
    _, fit = _fit(tmp_path / "b", 30, stop=17)
    with pytest.raises(KeyboardInterrupt):
        fit.run()
    resumed, fit = _fit(tmp_path / "b", 30)
    fit.run()
    assert torch.equal(whole.weight, resumed.weight)
    assert spent_seconds(tmp_path / "b" / "line.checkpoint.pt") > 0
    assert spent_seconds(tmp_path / "none.pt") is None


def test_a_loss_that_is_not_a_number_stops_the_fit(tmp_path):
    module, fit = _fit(tmp_path, 5)
    fit.loss = lambda step: module.weight.sum() * float("nan")
    with pytest.raises(FloatingPointError, match="step 0"):
        fit.run()


def test_plain_attention_equals_the_stock_processor():
    torch.manual_seed(0)
    stock, plain = new_transformer(64, 2).eval(), new_transformer(64, 2).eval()
    plain.load_state_dict(stock.state_dict())
    use_plain_attention(plain)
    latents = [torch.randn(8, 1, 16, 16) for _ in range(2)]
    captions = [torch.randn(length, 128) for length in (9, 14)]
    with torch.no_grad():
        a, b = (
            model(latents, torch.tensor([0.3, 0.8]), captions, return_dict=False)[0]
            for model in (stock, plain)
        )
    for left, right in zip(a, b, strict=True):
        torch.testing.assert_close(left, right, atol=2e-5, rtol=1e-4)


def test_any_text_has_tokens_and_comes_back(tokenizer):
    for text in ("a nude person", "nuude persn!!", "裸体的人", "émoji 🙂", ""):
        ids = tokenizer(text).input_ids
        assert tokenizer.decode(ids) == text


def _flow(tokenizer, steps):
    torch.manual_seed(0)
    encoder, transformer = new_text_encoder(len(tokenizer)), new_transformer(64, 1)
    lines = ["a red car", "a blue cat", "a nude person"] * 2
    ids, lengths = tokenize(tokenizer, lines)
    empty_ids, empty_length = tokenize(tokenizer, [""])
    latents = torch.randn(2, 8, 16, 16)
    empty = (empty_ids[0], int(empty_length[0]))
    return FlowMatching(
        encoder, transformer, latents, ids, lengths, empty, steps, detailed=torch.tensor([1]), batch=4
    )


def test_the_flow_matching_loss_repeats_for_a_step_and_differs_between_steps(tokenizer):
    flow = _flow(tokenizer, 100)
    with torch.no_grad():
        assert flow(3).item() == flow(3).item()
        assert flow(3).item() != flow(4).item()


def test_guidance_starts_after_the_first_phase_and_spares_empty_prompts(tokenizer):
    flow = _flow(tokenizer, 100)
    predicted = torch.randn(4, 8, 16, 16)
    noisy, time = torch.randn(4, 8, 16, 16), torch.full((4,), 0.5)
    dropped = torch.tensor([True, False, False, True])
    assert not flow._guidance(0, predicted, noisy, time, dropped).any()
    moved = flow._guidance(90, predicted, noisy, time, dropped).abs().sum(dim=(1, 2, 3)) > 0
    assert moved.tolist() == [False, True, True, False]


@pytest.mark.parametrize("kind", NETWORKS)
def test_detectors_have_a_logit_per_concept_at_any_size(kind):
    network = NETWORKS[kind](CONCEPTS).eval()
    for side in (32, 64, 96):
        assert network(torch.zeros(2, 3, side, side)).shape == (2, sum(map(len, CONCEPTS.values())))


def test_batch_norm_is_settled_on_what_it_sees():
    layer = nn.BatchNorm2d(2)
    settle_batch_norm(layer, [torch.full((4, 2, 3, 3), value) for value in (1.0, 3.0)], layer)
    torch.testing.assert_close(layer.running_mean, torch.tensor([2.0, 2.0]))
    assert not layer.training


def test_the_clip_tokenizer_ends_every_text_with_the_highest_token(tokenizer, tmp_path):
    tokenizer.backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    config = clip_config(len(tokenizer))
    length, vocabulary = config["text_cfg"]["context_length"], config["text_cfg"]["vocab_size"]
    ids = folder_tokenizer(tmp_path / "tokenizer.json", length, vocabulary)(["a red car", "word " * 100])
    assert ids.shape == (2, length)
    assert (ids == vocabulary - 1).sum(dim=1).tolist() == [1, 1]
    text = new_clip(config).eval().encode_text(ids)
    assert text.shape == (2, config["embed_dim"])
