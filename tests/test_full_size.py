"""What spares memory for large models, on small ones: places, caches, recomputing, the measuring scripts."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests import bench_gpu, full_size
from tests.measuring import measured
from zbench.model import Model, load_model, load_spec, offload
from zbench.model.encoding import PromptEncoder
from zbench.stages import embeddings, file_hashes
from zbench.stages.embeddings import EmbeddingFiles
from zbench.stages.file_hashes import file_hash
from zbench.stages.inputs import ModelHandle
from zbench.store import sha256_file
from zbench.training import FrozenPredictions, TrajectoryBank, mean_square, train

SMALL = full_size.Shape(
    transformer={
        "dim": 48, "n_layers": 2, "n_refiner_layers": 1, "n_heads": 2, "n_kv_heads": 2,
        "axes_dims": [8, 8, 8],
    },
    text_width=40,
    vae_channels=(32, 32, 32, 32),
    encoder={
        "vocab_size": 400, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 1, "head_dim": 16,
    },
)  # fmt: skip


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache folder, a fresh one."""
    monkeypatch.setenv("ZBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def large_folder(tmp_path: Path) -> Path:
    """A pipeline saved as the full-size one is, in several files, that asks for memory to be spared."""
    folder = full_size.save_pipeline(tmp_path / "large", SMALL)
    settings = json.loads((folder / "zbench-model.json").read_text())
    (folder / "zbench-model.json").write_text(
        json.dumps({**settings, "height": 64, "width": 48, "memory_gb": 1e6})
    )
    return folder


# Where networks are -----------------------------------------------------------------------------------------


def test_full_size_is_what_the_catalogue_means() -> None:
    with torch.device("meta"):
        transformer = full_size.ZImageTransformer2DModel(cap_feat_dim=full_size.FULL.text_width)
        encoder = full_size.Qwen3Model(
            full_size.Qwen3Config(hidden_size=full_size.FULL.text_width, **full_size.FULL.encoder)
        )
    assert sum(p.numel() for p in transformer.parameters()) == full_size.PARAMETERS
    assert sum(p.numel() for p in encoder.parameters()) == full_size.ENCODER_PARAMETERS
    assert load_spec("z-image-turbo").is_large and not load_spec("miniature").is_large


def test_weights_are_not_copied_from_their_files(large_folder: Path) -> None:
    """On the CPU a tensor of the loaded transformer lies in the mapped file, not in memory of its own."""
    model = load_model(large_folder, "cpu")
    maps = Path("/proc/self/maps").read_text() if Path("/proc/self/maps").exists() else ""
    if not maps:
        pytest.skip("no /proc/self/maps here")
    inside = [
        tuple(int(end, 16) for end in line.split()[0].split("-"))
        for line in maps.splitlines()
        if "diffusion_pytorch_model-" in line and str(large_folder / "transformer") in line
    ]
    places = [parameter.data_ptr() for parameter in model.transformer.parameters()]
    assert places and all(any(start <= place < end for start, end in inside) for place in places)


def test_a_visitor_gets_back_the_tensors_it_came_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pretended device: float64 stands for being there."""
    guest, resident = nn.Linear(3, 3), nn.Linear(2, 2)
    home = [parameter.data_ptr() for parameter in guest.parameters()]
    moves: list[str] = []
    monkeypatch.setattr(nn.Module, "to", lambda self, device: moves.append(str(device)))
    device = torch.device("cuda:7")
    monkeypatch.setattr(offload, "free_memory", lambda device: 10**9)
    monkeypatch.setattr(Tensor, "to", lambda self, device: self.double())
    with pytest.raises(RuntimeError, match="inside"), offload.visiting(guest, device, resident):
        assert all(parameter.dtype == torch.float64 for parameter in guest.parameters()) and not moves
        raise RuntimeError("inside")
    assert [parameter.data_ptr() for parameter in guest.parameters()] == home
    monkeypatch.setattr(offload, "free_memory", lambda device: 10)
    with offload.visiting(guest, device, resident):
        assert moves == ["cpu"]
    assert moves == ["cpu", "cuda:7"]


def test_nobody_moves_where_everything_lies_on_the_device(tiny_model: Model) -> None:
    before = [p.data_ptr() for p in tiny_model.pipeline.text_encoder.parameters()]
    with offload.visiting(tiny_model.pipeline.text_encoder, tiny_model.device, tiny_model.transformer):
        assert [p.data_ptr() for p in tiny_model.pipeline.text_encoder.parameters()] == before


def test_memory_is_spared_below_the_specs_bound() -> None:
    cpu, spec = torch.device("cpu"), load_spec("miniature")
    have = offload.device_memory(cpu)
    assert not offload.is_tight(spec, cpu)
    assert offload.is_tight(spec.model_copy(update={"memory_gb": have / 1e9 + 1}), cpu)
    assert not offload.is_tight(spec.model_copy(update={"memory_gb": have / 1e9 - 0.1}), cpu)


# Embeddings -------------------------------------------------------------------------------------------------


class Calls:
    """Counts what a pipeline encodes, and in which batches."""

    def __init__(self, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
        self.batches: list[list[str]] = []
        inner = PromptEncoder._call

        def call(encoder: PromptEncoder, prompts: list[str]) -> list[Tensor]:
            self.batches.append(list(prompts))
            return inner(encoder, prompts)

        monkeypatch.setattr(PromptEncoder, "_call", call)


def test_embeddings_of_a_large_model_are_encoded_once_for_all_processes(
    large_folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = ["a nude person", "a tree", "a nude person", ""]
    first = ModelHandle(str(large_folder), "cpu").model
    calls = Calls(first, monkeypatch)
    made = first.encode(prompts)
    assert calls.batches == [["a nude person"], ["a tree"], [""]], "one by one, each once"
    again = ModelHandle(str(large_folder), "cpu").model
    found = again.encode(prompts[::-1])[::-1]
    assert len(calls.batches) == 3
    assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(made, found, strict=True))
    assert not any(b"nude" in path.read_bytes() for path in cache.rglob("*") if path.is_file())


def test_an_altered_embedding_is_made_anew(
    large_folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = ModelHandle(str(large_folder), "cpu").model.encode(["a tree"])[0]
    (path,) = cache.rglob("*.embedding")
    for damage in (lambda data: data[:-3], lambda data: data[:-1] + bytes([data[-1] ^ 1]), lambda data: b""):
        path.write_bytes(damage(path.read_bytes()))
        model = ModelHandle(str(large_folder), "cpu").model
        calls = Calls(model, monkeypatch)
        assert torch.equal(model.encode(["a tree"])[0], made) and calls.batches == [["a tree"]]


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    files = EmbeddingFiles(lambda: {"weights": "x"}, tmp_path / "file")
    files.put("a", torch.ones(2, 3))
    assert files.get("a") is None


def test_other_weights_have_other_embeddings(tmp_path: Path) -> None:
    one, other = (EmbeddingFiles(lambda w=weights: {"weights": w}, tmp_path) for weights in "ab")
    one.put("a", torch.ones(2, 3, dtype=torch.bfloat16))
    assert other.get("a") is None
    kept = one.get("a")
    assert (
        kept is not None and kept.dtype == torch.bfloat16 and torch.equal(kept, torch.ones(2, 3).bfloat16())
    )


def test_the_cache_stops_growing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embeddings, "_MOST", 3)
    for prompt in "abcde":  # every time as another process would
        EmbeddingFiles(lambda: {"weights": "x"}, tmp_path).put(prompt, torch.ones(1, 2))
    assert len(list(tmp_path.rglob("*.embedding"))) == 3


def test_small_models_leave_no_files(tiny_pipeline_folder: Path, cache: Path) -> None:
    model = ModelHandle(str(tiny_pipeline_folder), "cpu").model
    model.encode(["a tree"])
    assert model.prompts.store is None and not cache.exists()


# Hashes of large files --------------------------------------------------------------------------------------


def test_a_large_file_is_read_once(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_hashes, "LARGE", 1000)
    path, small = tmp_path / "weights.safetensors", tmp_path / "config.json"
    path.write_bytes(os.urandom(5000))
    small.write_bytes(b"{}")
    read: list[Path] = []
    monkeypatch.setattr(file_hashes, "sha256_file", lambda p: (read.append(p), sha256_file(p))[1])
    digest = file_hash(path)
    assert digest == sha256_file(path) == file_hash(path) and read == [path]
    assert file_hash(small) == file_hash(small) == sha256_file(small) and read == [path, small, small]
    assert len(list(cache.rglob("hashes/*"))) == 1


def test_whatever_happens_to_a_file_it_is_read_again(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_hashes, "LARGE", 1000)
    path = tmp_path / "weights.safetensors"
    path.write_bytes(bytes(5000))
    first, times = file_hash(path), os.stat(path)
    altered = bytearray(5000)
    altered[17] = 1
    path.write_bytes(altered)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # who hides a change cannot set ctime back
    assert file_hash(path) == sha256_file(path) != first
    path.unlink()
    path.write_bytes(bytes(5000))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert file_hash(path) == first
    (memory, *_) = cache.rglob("hashes/*")
    for each in cache.rglob("hashes/*"):
        each.write_text("nonsense")
    assert file_hash(path) == first and memory.read_text() in ("nonsense", first)


# Training ---------------------------------------------------------------------------------------------------


def test_frozen_predictions_are_kept_in_the_models_own_format_without_loss(large_folder: Path) -> None:
    model = load_model(large_folder, "cpu")
    bank = TrajectoryBank.sample(model, ["a tree", "a car"], [1, 2], batch_size=1, steps=2)
    frozen = FrozenPredictions.compute(model, bank, model.encode(["", ""]), batch_size=1)
    assert frozen.velocities.dtype == torch.bfloat16
    for draw in bank.batches(1):
        with torch.no_grad():
            velocity = model.velocity(draw.latents, draw.timesteps, model.encode([""]))
        assert torch.equal(frozen.at(draw), velocity) and frozen.at(draw).dtype == torch.float32


def test_velocities_along_a_trajectory_are_derived_where_they_are_needed(tiny_model: Model) -> None:
    bank = TrajectoryBank.sample(tiny_model, ["a tree", "a car", "a"], [1, 2, 3], batch_size=2, steps=3)
    every = bank.velocities
    for draw in bank.batches(2):
        assert torch.equal(draw.velocities, every[draw.steps, draw.entries])
    bank.velocities = every + 1
    assert torch.equal(bank.at(torch.tensor([2]), torch.tensor([1])).velocities, every[[1], [2]] + 1)


class Watched:
    """An objective that says whether activations were recomputed."""

    def __init__(self, model: Model) -> None:
        self.model, self.bank = model, TrajectoryBank.sample(model, ["a"], [1], batch_size=1, steps=1)

    def gradients(self) -> dict[str, float]:
        draw = self.bank.at(torch.tensor([0]), torch.tensor([0]))
        live = self.model.velocity(draw.latents, draw.timesteps, draw.embeddings)
        loss = mean_square(live, torch.zeros_like(live))
        loss.backward()  # type: ignore[no-untyped-call]
        return {"loss": loss.item()}

    def after_step(self) -> dict[str, float]:
        return {}


def trained(model: Model, spares: bool, monkeypatch: pytest.MonkeyPatch) -> tuple[Sequence[Tensor], int]:
    """Weights after two steps, and how many forward passes were recomputed."""
    from zbench.edits import LoraEdit

    monkeypatch.setattr(model, "spares_memory", spares)
    edit, before = LoraEdit(2, rows="text"), model.counter.recomputations
    train(model, edit, Watched(model), steps=2, learning_rate=1e-3)
    assert not getattr(model.transformer, "gradient_checkpointing", False)
    return [parameter.detach() for parameter in edit.parameters()], model.counter.recomputations - before


def test_a_model_that_spares_memory_recomputes_and_learns_the_same(
    tiny_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, none = trained(tiny_model, False, monkeypatch)
    spared, some = trained(tiny_model, True, monkeypatch)
    assert none == 0 and some == 2
    assert all(torch.equal(a, b) for a, b in zip(plain, spared, strict=True))


# The scripts ------------------------------------------------------------------------------------------------


def test_memory_of_all_processes_of_a_command_is_seen() -> None:
    child = "import time; block = bytearray(200_000_000); time.sleep(1.5)"
    parent = f"import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-c', {child!r}]) or 3)"
    use = measured([sys.executable, "-c", parent])
    assert use.status == 3 and use.seconds > 1.5
    assert 200e6 < use.anonymous <= use.resident < 400e6


def test_the_full_size_run_works_on_a_small_transformer(tmp_path: Path, cache: Path) -> None:
    """The ordinary command on a pipeline saved by the script: the same flags, another size."""
    full_size.save_pipeline(tmp_path / "model", SMALL)
    use = full_size.run(tmp_path, "--height", "64", "--width", "48", "--launcher", "inline")
    assert use.status == 0
    stages = full_size.stage_seconds(tmp_path / "runs")
    assert {"original", "zerase"} == set(stages) and "erase" in stages["zerase"]


def test_an_unfinished_pipeline_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "model" / "transformer").mkdir(parents=True)
    (tmp_path / "model" / "transformer" / "half.safetensors").write_bytes(b"half")
    folder = full_size.save_pipeline(tmp_path / "model", SMALL)
    assert not (folder / "transformer" / "half.safetensors").exists()
    names = {path.name: path.stat().st_mtime_ns for path in folder.rglob("*")}
    full_size.save_pipeline(folder)
    assert names == {path.name: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_the_gpu_bench_runs_on_the_miniature(tmp_path: Path) -> None:
    """On the CPU: every figure that the JSON has on a GPU, but those of CUDA's memory."""
    words = [
        "--model",
        "miniature",
        "--device",
        "cpu",
        "--sizes",
        "64",
        "--batches",
        "1",
        "2",
        "--steps",
        "2",
    ]
    path = bench_gpu.main([*words, "--out", str(tmp_path / "new" / "machine.json")])
    found = json.loads(path.read_text())
    assert [row["checkpointing"] for row in found["training"]] == [True, False]
    assert [row["batch"] for row in found["drawing"]] == [1, 2]
    assert all(row["fits"] and row["seconds_of_paper_preset"] > 0 for row in found["training"])
    shares = [row["matrix_share"] for row in found["drawing"]]
    assert all(0 < share < 1.2 for share in shares)
    single, double = (row["matrix_flops"] for row in found["drawing"])
    assert double == 2 * single


def test_what_does_not_fit_is_written_down(monkeypatch: pytest.MonkeyPatch, tiny_model: Model) -> None:
    def full() -> dict[str, float]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    assert bench_gpu.attempt(tiny_model, full) == {"fits": False}
    with pytest.raises(RuntimeError, match="else"):
        bench_gpu.attempt(tiny_model, lambda: (_ for _ in ()).throw(RuntimeError("something else")))


def test_a_model_made_on_a_device_runs(cache: Path) -> None:
    model = full_size.build_model(torch.device("cpu"), SMALL)
    model.spec = model.spec.model_copy(update={"height": 64, "width": 64})
    assert model.transformer.dtype == torch.bfloat16
    pictures = model.generate(["a tree"], [1], steps=1)
    assert pictures.shape == (1, 3, 64, 64) and pictures.float().std() > 0
