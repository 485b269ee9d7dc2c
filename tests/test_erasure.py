import json
from pathlib import Path

import pytest
import torch

from tests.transcription import CONCEPT
from zbench.edits import NoEdit
from zbench.erasure import Erasure
from zbench.errors import StoreError
from zbench.model import Model
from zbench.registry import load_method

FEW = {"steps": 2, "trajectories": 2, "batch_size": 2, "learning_rate": 0.05}
QUICK = {
    "zerase": {**FEW, "preserve_trajectories": 2},
    "naive": {**FEW, "preserve_trajectories": 2},
    "ac": FEW,
    "uce": {"trajectories": 2, "batch_size": 2},
}


def velocity(model: Model) -> torch.Tensor:
    with torch.no_grad():
        return model.velocity(model.noise([1]), torch.tensor([700.0]), model.encode(["a nude person"]))


@pytest.mark.parametrize("name", sorted(QUICK))
def test_every_method_survives_saving_and_loading(tiny_model: Model, tmp_path: Path, name: str) -> None:
    erasure = load_method(name)(**QUICK[name]).erase(tiny_model, CONCEPT)
    original = velocity(tiny_model)
    with tiny_model.edited(erasure.edit):
        edited = velocity(tiny_model)
    assert (edited - original).abs().max() > 1e-3, "the erasure must change something"
    assert torch.equal(velocity(tiny_model), original)
    erasure.save(tmp_path / "erasure", tiny_model)

    loaded = Erasure.load(tmp_path / "erasure")
    with tiny_model.edited(loaded.edit):
        assert torch.equal(velocity(tiny_model), edited)
    assert (loaded.method, loaded.concept) == (name, "nudity")
    assert loaded.hyperparameters == erasure.hyperparameters
    assert loaded.cost == erasure.cost and loaded.trace == erasure.trace
    assert load_method(name).of(loaded.hyperparameters) == load_method(name)(**QUICK[name])


def test_original_changes_nothing_and_costs_nothing(tiny_model: Model, tmp_path: Path) -> None:
    erasure = Erasure.original("nudity")
    before = velocity(tiny_model)
    with tiny_model.edited(erasure.edit):
        assert torch.equal(velocity(tiny_model), before)
    erasure.save(tmp_path, tiny_model)
    loaded = Erasure.load(tmp_path)
    assert isinstance(loaded.edit, NoEdit) and loaded.method == "original" and loaded.cost.forwards == 0


def test_an_unfinished_folder_is_refused(tiny_model: Model, tmp_path: Path) -> None:
    Erasure.original().save(tmp_path, tiny_model)
    record = json.loads((tmp_path / "erasure.json").read_text())
    (tmp_path / "erasure.json").write_text(json.dumps({**record, "schema_version": 99}))
    with pytest.raises(StoreError, match="newer zbench"):
        Erasure.load(tmp_path)
    (tmp_path / "erasure.json").unlink()
    with pytest.raises(StoreError, match="run the erasure again"):
        Erasure.load(tmp_path)
