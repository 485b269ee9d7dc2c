"""CLIP: scores by hand, preparation of pictures, model names that are content hashes, features computed
once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from tests.instruments import byte_tokens, drawn_pictures, tiny_clip
from zbench.errors import ConfigurationError, WeightsError
from zbench.metrics.clip import Clip, ClipSpec, clip_scores, load_clip
from zbench.metrics.clip_folder import load_clip_folder, new_clip
from zbench.metrics.features import FeatureCache, pictures_sha256


def test_score_is_a_hundred_times_the_cosine() -> None:
    features = torch.tensor([[1.0, 0.0], [3.0, 4.0], [1.0, 1.0]])
    texts = torch.tensor([[2.0, 0.0], [0.0, 5.0], [-1.0, -1.0]])
    assert clip_scores(features, texts) == pytest.approx([100.0, 80.0, -100.0])
    with pytest.raises(ValueError, match="3 pictures but 2 texts"):
        clip_scores(features, texts[:2])


def _of_length_root_d(features: torch.Tensor) -> torch.Tensor:
    return features / features.norm(dim=1, keepdim=True) * features.shape[1] ** 0.5


def test_features_equal_a_direct_call_of_open_clip() -> None:
    clip = tiny_clip()
    pictures = drawn_pictures(5)
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]
    with torch.no_grad():
        expected = _of_length_root_d(clip._model.encode_image((pictures / 255 - mean) / std))
        texts = clip._model.encode_text(byte_tokens(["a fish", "a house"]))
    assert torch.allclose(clip.extract(pictures), expected, atol=1e-5)
    assert torch.allclose(clip.embed_texts(["a fish", "a house", "a fish"]), texts[[0, 1, 0]], atol=1e-5)


def test_pictures_of_other_sizes_are_resized_and_cropped_in_the_middle() -> None:
    clip = tiny_clip()
    wide = torch.zeros(1, 3, 64, 128, dtype=torch.uint8)
    wide[:, :, :, 32:96] = 255  # exactly the middle square
    prepared = clip._prepare(wide)
    assert prepared.shape == (1, 3, 32, 32)
    middle = clip._prepare(torch.full((1, 3, 32, 32), 255, dtype=torch.uint8))
    assert torch.allclose(prepared[..., 4:-4], middle[..., 4:-4], atol=1e-4)


def test_a_picture_does_not_depend_on_its_batch() -> None:
    clip = tiny_clip()
    pictures = drawn_pictures(70)
    assert torch.allclose(clip.extract(pictures)[66:67], clip.extract(pictures[66:67]), atol=1e-5)


def test_features_are_computed_once_for_each_content(tmp_path: Path) -> None:
    class Counting:
        name, rule, calls = "counting-abc", "none", 0

        def extract(self, pictures: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            return pictures.float().mean(dim=(2, 3))

    source, pictures = Counting(), drawn_pictures(4)
    cache = FeatureCache(tmp_path)
    first = cache.get(source, pictures)
    assert cache.get(source, pictures.clone()) is first and source.calls == 1
    assert torch.equal(FeatureCache(tmp_path).get(source, pictures), first) and source.calls == 1
    changed = pictures.clone()
    changed[0, 0, 0, 0] ^= 1
    assert not torch.equal(cache.get(source, changed), first) and source.calls == 2
    assert pictures_sha256(pictures.reshape(2, 6, 32, 32)) != pictures_sha256(pictures)


def test_a_damaged_cache_entry_is_computed_again(tmp_path: Path) -> None:
    clip, pictures = tiny_clip(), drawn_pictures(3)
    expected = FeatureCache(tmp_path).get(clip, pictures)
    (entry,) = tmp_path.iterdir()
    entry.write_bytes(entry.read_bytes()[:40])
    assert torch.equal(FeatureCache(tmp_path).get(clip, pictures), expected)


def test_other_weights_never_share_features() -> None:
    cache, pictures = FeatureCache(), drawn_pictures(3)
    assert tiny_clip(1).name != tiny_clip(2).name
    assert not torch.allclose(cache.get(tiny_clip(1), pictures), cache.get(tiny_clip(2), pictures))


def test_specs() -> None:
    assert ClipSpec.parse("ViT-L-14/openai") == ClipSpec(architecture="ViT-L-14", pretrained="openai")
    assert ClipSpec.parse("ViT-L-14/openai").identity() == "ViT-L-14/openai"
    folder = ClipSpec.parse("package:zbench.miniature/weights/clip").folder
    assert folder is not None and folder.parts[-3:] == ("miniature", "weights", "clip")
    with pytest.raises(ConfigurationError, match="ARCHITECTURE/TAG"):
        ClipSpec.parse("nonsense")


def test_an_incomplete_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(WeightsError, match=r"no open_clip_model\.safetensors, tokenizer\.json"):
        load_clip(ClipSpec(folder=tmp_path))


def test_weights_that_cannot_be_had_are_one_line() -> None:
    with pytest.raises(WeightsError, match="cannot load ViT-B-32/no-such-tag") as caught:
        load_clip(ClipSpec(architecture="ViT-B-32", pretrained="no-such-tag"))
    assert "\n" not in str(caught.value)


def test_the_name_follows_the_label() -> None:
    clip = tiny_clip()
    named = Clip(clip._model, byte_tokens, "f" * 64, "ViT-L-14-openai")
    assert named.name == "clip-ViT-L-14-openai-ffffffffffff"


def test_a_saved_folder_loads_and_its_name_follows_its_weights(tmp_path: Path) -> None:
    names = [
        load_clip(ClipSpec(folder=save_clip_folder(tmp_path / str(seed), seed))).name for seed in (0, 0, 1)
    ]
    assert names[0] == names[1] != names[2]
    clip = load_clip(ClipSpec(folder=tmp_path / "0"))
    model, tokenize = load_clip_folder(tmp_path / "0")
    pictures = drawn_pictures(3)
    with torch.no_grad():
        # The folder's mean and deviation are 0.5.
        expected = _of_length_root_d(model.encode_image(pictures / 127.5 - 1))
        text = model.encode_text(tokenize(["a red fish"]))
    assert torch.allclose(clip.extract(pictures), expected, atol=1e-5)
    assert torch.allclose(clip.embed_texts(["a red fish"]), text, atol=1e-5)
    assert clip.weights_sha256 == ClipSpec(folder=tmp_path / "0").identity()


def save_clip_folder(folder: Path, seed: int) -> Path:
    folder.mkdir(exist_ok=True)
    words = {"[UNK]": 0, "a": 1, "red": 2, "fish": 3, "house": 4}
    tokenizer = Tokenizer(WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()  # type: ignore[assignment]
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8},
        "text_cfg": {"context_length": 8, "vocab_size": 6, "width": 32, "heads": 2, "layers": 1},
    }
    torch.manual_seed(seed)
    save_file(new_clip(config).half().state_dict(), folder / "open_clip_model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_cfg": config}))
    return folder
