"""FID and KID: equal to torch-fidelity called with pictures, no name that outlives its weights, no tiny
samples."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch_fidelity
from torch import Tensor
from torch.utils.data import Dataset

from tests.instruments import drawn_pictures, tiny_clip
from zbench.errors import ConfigurationError
from zbench.metrics.fidelity import LibrarySource, fidelity_distances, register
from zbench.metrics.reference import folder_pictures, reference_pictures


class Pictures(Dataset[Tensor]):
    def __init__(self, pictures: Tensor) -> None:
        self.pictures = pictures

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> Tensor:
        return self.pictures[index]


def test_rows_give_what_torch_fidelity_gives_on_pictures() -> None:
    clip, ours, theirs = tiny_clip(), drawn_pictures(60, seed=1), drawn_pictures(80, seed=2, red=0.9)
    direct = torch_fidelity.calculate_metrics(
        input1=Pictures(ours), input2=Pictures(theirs), feature_extractor=register(clip), fid=True, kid=True,
        kid_subset_size=30, cuda=False, cache=False, verbose=False, save_cpu_ram=True,
    )  # fmt: skip
    rows = fidelity_distances(clip.extract(ours), clip.extract(theirs), clip, kid_subset_size=30)
    assert rows["fid"] == pytest.approx(direct["frechet_inception_distance"], rel=1e-4)
    assert rows["kid"] == pytest.approx(direct["kernel_inception_distance_mean"], rel=1e-4)
    assert rows["fid"] > 0.001


def test_equal_sets_have_no_distance_and_damage_has_one() -> None:
    clip, pictures = tiny_clip(), drawn_pictures(60)
    features = clip.extract(pictures)
    noise = clip.extract(
        torch.randint(0, 256, pictures.shape, generator=torch.manual_seed(0)).to(torch.uint8)
    )
    same = fidelity_distances(features, features, clip, 1000)
    far = fidelity_distances(noise, features, clip, 1000)
    assert abs(same["fid"]) < 1e-3 and far["fid"] > 100 * abs(same["fid"])
    assert far["kid"] > same["kid"] and same["kid_subset_size"] == 60


def test_retrained_weights_are_registered_under_another_name() -> None:
    first, second = tiny_clip(3), tiny_clip(4)
    assert register(first) != register(second)
    assert register(first) == register(first) == first.name
    pictures, others = drawn_pictures(40, seed=5), drawn_pictures(40, seed=6, red=0.1)
    a = fidelity_distances(first.extract(pictures), first.extract(others), first, 40)
    b = fidelity_distances(second.extract(pictures), second.extract(others), second, 40)
    assert a["fid"] != pytest.approx(b["fid"], rel=1e-3)


def test_too_few_pictures_or_broken_features_are_refused() -> None:
    clip = tiny_clip()
    features = clip.extract(drawn_pictures(12))
    with pytest.raises(ConfigurationError, match=r"at least 10 .* not 9 and 12"):
        fidelity_distances(features[:9], features, clip, 50)
    broken = features.clone()
    broken[3, 2] = float("nan")
    with pytest.raises(ConfigurationError, match="finite"):
        fidelity_distances(features, broken, clip, 50)


def test_unknown_extractor() -> None:
    with pytest.raises(ConfigurationError, match="no-such-extractor"):
        LibrarySource("no-such-extractor")


def test_reference_folder_is_fitted_ordered_and_complete(tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "inner").mkdir()
    for name, colour in (("b.png", "red"), ("a.jpg", "blue"), ("inner/c.PNG", "lime")):
        Image.new("RGB", (30, 20), colour).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not a picture")
    pictures = folder_pictures(tmp_path, 10, 16, 16)
    assert pictures.shape == (3, 3, 16, 16) and pictures.dtype == torch.uint8
    assert pictures.float().mean(dim=(2, 3)).argmax(dim=1).tolist() == [2, 0, 1]
    assert len(folder_pictures(tmp_path, 2, 16, 16)) == 2
    (tmp_path / "d.png").write_bytes(b"broken")
    with pytest.raises(ConfigurationError, match=r"1 files .* d\.png"):
        folder_pictures(tmp_path, 11, 16, 16)
    with pytest.raises(ConfigurationError, match="does not exist"):
        folder_pictures(tmp_path / "nowhere", 10, 16, 16)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigurationError, match="holds no pictures"):
        folder_pictures(tmp_path / "empty", 10, 16, 16)


def test_reference_sources_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = drawn_pictures(7)
    monkeypatch.setattr("zbench.metrics.reference.load", lambda *_: lambda name, count: pictures[:count])
    assert torch.equal(reference_pictures("somewhere:evaluation", 5), pictures[:5])
    with pytest.raises(ConfigurationError, match="SOURCE:NAME"):
        reference_pictures("evaluation", 5)
    monkeypatch.setattr("zbench.metrics.reference.load", lambda *_: lambda name, count: "not pictures")
    with pytest.raises(ConfigurationError, match="must return uint8"):
        reference_pictures("elsewhere:evaluation", 5)
