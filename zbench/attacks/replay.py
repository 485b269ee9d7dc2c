"""Replay: stored candidates of another run or another erasure, tried again word for word.

It answers what a reader of a table asks first: does what broke one erasure break another? And it makes an
attack's figures checkable by whoever has its folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import PrivateAttr

from zbench.attacks.base import Attack, AttackCard
from zbench.attacks.toolkit.replayed import Replayed, read_source
from zbench.store import canonical_json, sha256_bytes

if TYPE_CHECKING:
    from zbench.attacks.candidates import Arm, Candidate
    from zbench.attacks.context import Context


class Replay(Attack):
    """Stored prompts and embeddings as candidates. Build it with `of`.

    Attributes:
        source: Where they lie: a folder ``attacks/ID``, a run folder, or a JSONL file.
        sha256: Hash of what is replayed, which is what counts, wherever it lies.
    """

    name: ClassVar[str] = "replay"
    card: ClassVar[AttackCard] = AttackCard(
        title="Replay of stored candidates",
        paper="zbench's own",
        arxiv="",
        knowledge="text",
        control="the stored control, or the prompt itself with fresh noise, as often",
        notes=(
            "What was fitted to another erasure measures how it transfers, not how far this one can be "
            "pushed. Its cost lies with the run that made it.",
            "All candidates of the source for the attacked prompts are tried, equal ones once; the budget "
            "follows. Prompts without any count as not broken.",
            "Changed models are not replayed: each holds the erasure that it was made from.",
        ),
    )
    presets: ClassVar[dict[str, dict[str, Any]]] = {}

    source: Path
    sha256: str
    _stored: dict[tuple[str, str], list[Replayed]] = PrivateAttr(default_factory=dict)

    @classmethod
    def of(cls, path: Path | str, flagged: bool = False) -> Replay:
        """Reads what is replayed.

        Args:
            path: A folder ``attacks/ID``, a run folder, or a JSONL file of {prompt_id, text}.
            flagged: Whether texts of this run are kept apart, unshown; those of a flagged source must be.

        Raises:
            ConfigurationError: There is nothing, it is truncated or altered, or it must not be shown here.
        """
        place = Path(path)
        grouped: dict[tuple[str, str], list[Replayed]] = {}
        seen = set()
        for each in read_source(place, flagged):
            key = (each.arm, each.prompt_id)
            # Equal candidates of several folders count once; retries of a control are equal on purpose.
            if each.arm == "attack" and (*key, each.sha256) in seen:
                continue
            seen.add((*key, each.sha256))
            grouped.setdefault(key, []).append(each)
        hashes = [[*key, [each.sha256 for each in found]] for key, found in sorted(grouped.items())]
        most = max(len(found) for (arm, _), found in grouped.items() if arm == "attack")
        replay = cls(source=place, sha256=sha256_bytes(canonical_json(hashes).encode()), budget=most)
        replay._stored = grouped
        return replay

    def supports(self, context: Context) -> str | None:
        """There must be a candidate for one of the prompts."""
        if any(("attack", prompt.id) in self._stored for prompt in context.prompts):
            return None
        return f"{self.source} holds no candidate for the attacked prompts of {context.concept.name}"

    def attack(self, context: Context) -> Iterator[Candidate]:
        """What is stored for the prompts."""
        from zbench.attacks.candidates import Candidate

        for prompt in context.prompts:
            if ("attack", prompt.id) not in self._stored:
                yield Candidate.failed(prompt.id, "no candidate is stored for this prompt")
            yield from self._again("attack", prompt.id)

    def control(self, context: Context) -> Iterator[Candidate]:
        """As many candidates of the stored control; without one, the prompt itself."""
        from zbench.attacks.candidates import Candidate

        for prompt in context.prompts:
            number = len(self._stored.get(("attack", prompt.id), ()))
            again = list(self._again("control", prompt.id))[:number]
            yield from again
            for retry in range(len(again), number):
                yield Candidate(prompt.id, prompt.text, label=f"retry {retry + 1}")

    def identity(self) -> dict[str, Any]:
        """What is replayed, not where it lies."""
        plain = super().identity()
        fields = {name: value for name, value in plain["hyperparameters"].items() if name != "source"}
        return {**plain, "hyperparameters": fields}

    def _again(self, arm: Arm, prompt_id: str) -> Iterator[Candidate]:
        from zbench.attacks.candidates import Candidate

        for each in self._stored.get((arm, prompt_id), ()):
            yield Candidate(prompt_id, each.payload(), each.label)
