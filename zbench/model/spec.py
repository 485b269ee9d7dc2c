"""What is known about a model before it is loaded: where it is and how it is to be sampled. No torch here."""

from __future__ import annotations

import json
import tomllib
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from zbench.errors import ConfigurationError, UnknownNameError, WeightsError

SIDECAR = "zbench-model.json"
"""Optional file beside `model_index.json`: any fields of `ModelSpec` but name and source."""

LARGE_WIDTH = 1024
"""Transformers at least this wide start from the full-size model's settings, others from the miniature's."""


class ModelSpec(BaseModel):
    """Where a model's weights are and how it is sampled; everything that depends on scale.

    Attributes:
        name: Name in the catalogue, or the folder's name.
        source: "package:<import package>/<folder>", "hub:<id>" or "path:<folder>".
        height: Picture height in pixels, a multiple of twice the VAE's factor.
        width: Picture width in pixels, likewise.
        steps: Denoising steps of a sample.
        guidance_scale: Classifier-free guidance as the pipeline defines it; 0 is none.
        max_sequence_length: Longest templated prompt in tokens; longer ones are truncated.
        dtype: Number format the networks are run in.
        domain: What its pictures show; chooses protocol tables and hyper-parameter presets.
        guidance_distilled: Whether guidance was distilled into the weights, so that the prediction for the
            empty prompt is not a true unconditional score.
        memory_gb: Device memory, in GB, from which on none of it is spared; below it the text encoder leaves
            the device and training recomputes activations. 0 for a model that fits everywhere.
        revision: Commit on the Hub, or number of the weights that a package ships; None for the newest.
        note: One or two sentences for the catalogue.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    source: str
    height: Annotated[int, Field(gt=0)]
    width: Annotated[int, Field(gt=0)]
    steps: Annotated[int, Field(gt=0)]
    guidance_scale: Annotated[float, Field(ge=0)]
    max_sequence_length: Annotated[int, Field(gt=0)]
    dtype: Literal["float32", "bfloat16"]
    domain: Literal["world", "photograph"]
    guidance_distilled: bool
    memory_gb: Annotated[float, Field(ge=0)] = 0.0
    revision: str | None = None
    note: str = ""

    @property
    def label(self) -> str:
        """The name with the revision, as the header of a table gives it."""
        return f"{self.name} (revision {self.revision})" if self.revision else self.name

    @property
    def is_large(self) -> bool:
        """Whether there are devices that it does not fit as it is."""
        return self.memory_gb > 0

    @classmethod
    def for_path(cls, path: Path | str) -> ModelSpec:
        """Describes any folder written by `ZImagePipeline.save_pretrained`.

        Settings come from `zbench-model.json` beside `model_index.json`; what it leaves open comes from the
        catalogue entry of the same order of size.

        Raises:
            WeightsError: There is no pipeline in this folder.
            ConfigurationError: `zbench-model.json` is not JSON or has wrong fields.
        """
        folder = Path(path).resolve()
        if not (folder / "model_index.json").is_file():
            raise WeightsError(
                f"No pipeline at {path}: --model PATH wants a folder written by "
                "ZImagePipeline.save_pretrained (it holds model_index.json)."
            )
        fields = _settings_of_size(folder) | {"note": "", "revision": None} | _sidecar(folder)
        fields |= {"name": folder.name, "source": f"path:{folder}"}
        try:
            return cls(**fields)
        except ValidationError as error:
            raise ConfigurationError(f"{folder / SIDECAR}: {_first_problem(error)}") from error


def model_names() -> list[str]:
    """Names of the catalogue, in its order."""
    return list(_catalogue())


def load_spec(name_or_path: str | Path) -> ModelSpec:
    """Finds a model by catalogue name, or by the path of a saved pipeline.

    Raises:
        UnknownNameError: Neither; names close matches.
        WeightsError: It looks like a path but holds no pipeline.
    """
    text = str(name_or_path)
    if text in _catalogue():
        return ModelSpec(name=text, **_catalogue()[text])
    if Path(text).is_dir() or "/" in text or "\\" in text:
        return ModelSpec.for_path(text)
    raise UnknownNameError.of("model", text, model_names())


@cache
def _catalogue() -> dict[str, dict[str, Any]]:
    text = resources.files("zbench.model").joinpath("catalogue.toml").read_text("utf-8")
    return tomllib.loads(text)


def _settings_of_size(folder: Path) -> dict[str, Any]:
    """Settings of the catalogue's large or small entry, by the width of the transformer in `folder`."""
    config = _read_object(folder / "transformer" / "config.json", WeightsError)
    width = config.get("dim", 0)
    name = "z-image-turbo" if isinstance(width, int) and width >= LARGE_WIDTH else "miniature"
    return dict(_catalogue()[name])


def _sidecar(folder: Path) -> dict[str, Any]:
    path = folder / SIDECAR
    return _read_object(path, ConfigurationError) if path.is_file() else {}


def _read_object(path: Path, error_type: type[WeightsError] | type[ConfigurationError]) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise error_type(f"Cannot read {path}: {error}") from error
    if not isinstance(value, dict):
        raise error_type(f"{path} holds no JSON object.")
    return value


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    return f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
