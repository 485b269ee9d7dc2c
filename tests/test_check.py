"""Every rule of the conformance suite can fail, and a method that breaks one rule fails that check alone."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests import bad_methods as bad
from tests.tiny import save_smallest_pipeline
from tests.transcription import CONCEPT
from zbench.cli import main
from zbench.concepts import load_concept
from zbench.conformance import CHECKS, Bench, Report, check
from zbench.errors import ConfigurationError, UnknownNameError
from zbench.stages.integrity import ModelState, ProcessState, checksum

UNDRAWN = [each.name for each in CHECKS if not each.draws]
DRAWN = [each.name for each in CHECKS if each.draws]

BREAKS = {
    bad.LossyField: "fields",
    bad.BadPreset: "fields",
    bad.ExitsInPreset: "fields",
    bad.Raises: "returns",
    bad.StopsTheRun: "returns",
    bad.Exits: "returns",
    bad.ReadsNowhere: "returns",
    bad.ReturnsNone: "returns",
    bad.ReturnsEditAlone: "returns",
    bad.ReturnsAttached: "returns",
    bad.ReturnsNothing: "returns",
    bad.OtherNames: "returns",
    bad.ForgetsSettings: "returns",
    bad.NotANumber: "returns",
    bad.NotANumberInTrace: "returns",
    bad.WordsInTrace: "returns",
    bad.TraceWithoutRows: "returns",
    bad.ChangesWeight: "model-kept",
    bad.ChangesVae: "model-kept",
    bad.LeavesHook: "model-kept",
    bad.LeavesModule: "model-kept",
    bad.LeavesGradients: "model-kept",
    bad.ReplacesVerb: "model-kept",
    bad.WritesEmbedding: "model-kept",
    bad.ReadsPrompts: "blind",
    bad.ReadsPromptFile: "blind",
    bad.AsksDetector: "blind",
    bad.ReadsDetectorFile: "blind",
    bad.WritesFile: "no-files",
    bad.SavesCheckpoint: "no-files",
    bad.SeedsTorch: "settings",
    bad.DrawsFromPython: "settings",
    bad.SetsDefaults: "settings",
    bad.DetachesInexactly: "detaches",
    bad.AnotherEachTime: "same-seed",
    bad.DeafToSeed: "other-seed",
    bad.KeepsEdit: "memory",
    bad.KeepsTensors: "memory",
    bad.SavesHalf: "survives-saving",
    bad.TouchesImageRows: "image-rows",
    bad.ClaimsTextRows: "image-rows",
    bad.TakesAnything: "unsupported",
    bad.CrashesUnsupported: "unsupported",
    bad.ExitsUnsupported: "unsupported",
    bad.ErasesNothing: "concept-falls",
    bad.ForgetsOthers: "others-stay",
    bad.DrawsNoise: "not-collapsed",
}


@pytest.fixture(scope="module")
def tiny_bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(save_smallest_pipeline(tmp_path_factory.mktemp("smallest") / "pipeline"), "cpu")


@pytest.fixture(scope="module")
def bench() -> Bench:
    """The miniature; pictures of the original are drawn once."""
    return Bench("miniature", "cpu", explicit=12, others=12)


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    yield
    bad.KEPT.clear()
    for name in (f"zbench-test-{os.getpid()}", f"zbench-test-{os.getpid()}.safetensors"):
        (Path(tempfile.gettempdir()) / name).unlink(missing_ok=True)


def failures(report: Report) -> list[str]:
    return [result.name for result in report.failures]


def test_every_check_can_fail() -> None:
    assert set(BREAKS.values()) == {each.name for each in CHECKS}


@pytest.mark.parametrize("method", [each for each in BREAKS if BREAKS[each] in UNDRAWN], ids=lambda m: m.name)
def test_a_bad_method_fails_its_check_alone(method: type[bad.Good], tiny_bench: Bench) -> None:
    report = check(method(), concept=CONCEPT, bench=tiny_bench, only=UNDRAWN)
    assert failures(report) == [BREAKS[method]], [(each.name, each.said) for each in report.failures]
    assert torch.get_default_dtype() == torch.float32 and torch.is_grad_enabled()


@pytest.mark.parametrize("method", [each for each in BREAKS if BREAKS[each] in DRAWN], ids=lambda m: m.name)
def test_a_method_that_draws_badly_fails_its_check_alone(method: type[bad.Good], bench: Bench) -> None:
    report = check(method(), bench=bench, only=DRAWN)
    assert failures(report) == [BREAKS[method]], [(each.name, each.said) for each in report.checks]


def test_a_good_method_passes_everything(bench: Bench) -> None:
    report = check(bad.Rewrites(), bench=bench)
    assert report.passed, [(each.name, each.said, each.trace) for each in report.failures]
    assert report.concept == "violence"
    assert report.result("concept-falls").figures["after"] < 0.5
    skipped = {each.name for each in report.checks if each.status == "skip"}
    assert skipped == {"other-seed", "unsupported"}, "it does not train, and refuses nothing"


def test_the_preset_of_a_cheap_method_erases_and_keeps_the_rest(bench: Bench) -> None:
    """`nox -s check` looks at the presets of all methods."""
    report = check("token_zeroing", bench=bench, only=DRAWN)
    assert [each.status for each in report.checks] == ["pass"] * 3, [each.said for each in report.checks]


def test_what_was_found_is_said_with_figures(tiny_bench: Bench) -> None:
    report = check(bad.Good(size=0.2), concept=CONCEPT, bench=tiny_bench, only=UNDRAWN)
    assert report.passed, [(each.name, each.said, each.trace) for each in report.failures]
    assert report.hyperparameters == {"size": 0.2, "training_seed": 0}
    assert report.result("image-rows").figures["modules"] > 10
    assert report.result("survives-saving").figures["deviation"] == 0
    assert report.result("detaches").figures["largest_effect"] > 0
    assert json.loads(report.model_dump_json())["checks"][0]["name"] == "fields"


def test_a_method_that_raises_shows_its_traceback(tiny_bench: Bench) -> None:
    result = check(bad.Raises(), concept=CONCEPT, bench=tiny_bench, only=["returns", "detaches"])
    assert result.result("returns").said == "RuntimeError: the sky fell"
    assert "bad_methods.py" in (result.result("returns").trace or "")
    assert result.result("detaches").status == "skip"


@pytest.mark.parametrize("method", [bad.FailsToDraw, bad.ExitsDrawing, bad.SmearsModel], ids=lambda m: m.name)
def test_an_edit_that_breaks_off_a_picture_fails_what_is_drawn(method: type[bad.Good], bench: Bench) -> None:
    report = check(method(), bench=bench, only=["not-collapsed", "detaches"])
    assert [each.status for each in report.checks] == ["pass", "fail"]
    assert "bad_methods.py" in (report.result("not-collapsed").trace or "")


def test_a_changed_model_is_loaded_again(tiny_bench: Bench) -> None:
    before = ModelState.of(tiny_bench.model())
    report = check(bad.ChangesWeight(), concept=CONCEPT, bench=tiny_bench, only=["model-kept"])
    assert "layers.0.attention.to_v.weight" in report.result("model-kept").said
    tensors = [name for name in before.changes(tiny_bench.model()) if name.endswith("weight")]
    assert tensors == [], "the weights are those of the file again"


def test_mistakes_are_refused(tiny_bench: Bench) -> None:
    with pytest.raises(UnknownNameError, match=r"Unknown check 'detach'\. Did you mean detaches"):
        check(bad.Good(), bench=tiny_bench, only=["detach"])
    with pytest.raises(UnknownNameError, match="Unknown method 'zeras'"):
        check("zeras", bench=tiny_bench)
    own = CONCEPT.model_copy(update={"anchor_prompts": CONCEPT.training_prompts})
    with pytest.raises(ConfigurationError, match="good cannot erase 'nudity'"):
        check(bad.Good(), concept=own, bench=tiny_bench)


def test_defaults_of_runs_do_not_concern_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("ZBENCH_MODEL", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "zbench.toml").write_text('model = "minature"\nprompts = 3\n[settings.zerase]\nrank = 2\n')
    with pytest.raises(SystemExit) as left:
        main(["check", "token_zeroing", "--only", "fields", "--model", "miniature"])
    assert not left.value.code, capsys.readouterr().err
    with pytest.raises(SystemExit) as left:
        main(["check", "token_zeroing", "--only", "fields"])
    assert left.value.code == 2 and "Did you mean miniature" in capsys.readouterr().err


def test_concepts_without_tuning_prompts_are_skipped(tiny_bench: Bench) -> None:
    unknown = load_concept("cat").model_copy(update={"name": "no-such-set"})
    report = check(bad.Good(), concept=unknown, bench=tiny_bench, only=["concept-falls"])
    assert report.result("concept-falls").status == "skip"
    assert "no-such-set-explicit-tuning" in report.result("concept-falls").said


def test_checksum_sees_every_bit() -> None:
    values = torch.randn(300, generator=torch.Generator().manual_seed(0))
    for dtype in (torch.float32, torch.bfloat16, torch.float64, torch.int8):
        tensor = (values * 10).to(dtype)
        before, width = checksum(tensor), tensor.element_size()
        for place in (0, 150, 299):
            changed = tensor.clone()
            changed.view(torch.uint8)[place * width] ^= 1
            assert checksum(changed) != before
        assert checksum(tensor.flip(0)) != before, "places count"
        assert checksum(tensor.clone()) == before
    assert checksum(torch.tensor(0.0)) != checksum(torch.tensor(-0.0))


def test_process_state_is_restored() -> None:
    state = ProcessState.now()
    torch.manual_seed(99)
    torch.set_default_dtype(torch.float64)
    assert state.changes() == ["torch's random state", "default dtype"]
    state.restore()
    assert state.changes() == []
