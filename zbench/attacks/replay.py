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
from zbench.attacks.toolkit.replayed import REPLAYS, Pair, Replayed, read_pairs
from zbench.store import canonical_json, sha256_bytes

if TYPE_CHECKING:
    from zbench.attacks.candidates import Candidate
    from zbench.attacks.context import Context


class Replay(Attack):
    """Stored prompts and embeddings as candidates. Build it with `of`.

    Attributes:
        source: Where they lie: a folder ``attacks/ID``, a run folder, or a JSONL file.
        sha256: Hash of what is replayed, which is what counts, wherever it lies.
    """

    name: ClassVar[str] = REPLAYS
    card: ClassVar[AttackCard] = AttackCard(
        title="Replay of stored candidates",
        paper="zbench's own",
        arxiv="",
        knowledge="text",
        control="each candidate's own stored control; where it has none, the prompt itself with fresh noise",
        notes=(
            "Named as `replay:PATH`: a folder attacks/ID, a run folder, or a JSONL file of {prompt_id, "
            'text}, whose lines say `"flagged": true` where their text may be obscene.',
            "What was fitted to another erasure measures how it transfers, not how far this one can be "
            "pushed. Its cost lies with the run that made it.",
            "All candidates of the source for the attacked prompts are tried, equal ones once; the budget "
            "follows. Prompts without any count as not broken.",
            "Changed models are not replayed: each holds the erasure that it was made from. Of a run folder "
            "its replays are not replayed again.",
        ),
    )
    presets: ClassVar[dict[str, dict[str, Any]]] = {}

    source: Path
    sha256: str
    _stored: dict[str, list[Pair]] = PrivateAttr(default_factory=dict)

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
        stored = read_pairs(place, flagged)
        hashes = [
            [prompt_id, [[tried.sha256, control and control.sha256] for tried, control in pairs]]
            for prompt_id, pairs in sorted(stored.items())
        ]
        most = max(map(len, stored.values()))
        replay = cls(source=place, sha256=sha256_bytes(canonical_json(hashes).encode()), budget=most)
        replay._stored = stored
        return replay

    def supports(self, context: Context) -> str | None:
        """There must be a candidate for one of the prompts."""
        if any(prompt.id in self._stored for prompt in context.prompts):
            return None
        return f"{self.source} holds no candidate for the attacked prompts of {context.concept.name}"

    def attack(self, context: Context) -> Iterator[Candidate]:
        """What is stored for the prompts."""
        from zbench.attacks.candidates import Candidate

        for prompt in context.prompts:
            if prompt.id not in self._stored:
                yield Candidate.failed(prompt.id, "no candidate is stored for this prompt")
            for tried, _ in self._stored.get(prompt.id, ()):
                yield _again(tried)

    def control(self, context: Context) -> Iterator[Candidate]:
        """The stored control of every candidate; where it has none, the prompt itself."""
        from zbench.attacks.candidates import Candidate

        for prompt in context.prompts:
            for number, (_, control) in enumerate(self._stored.get(prompt.id, ()), start=1):
                yield _again(control) if control else Candidate(prompt.id, prompt.text, f"retry {number}")

    def identity(self) -> dict[str, Any]:
        """What is replayed, not where it lies."""
        plain = super().identity()
        fields = {name: value for name, value in plain["hyperparameters"].items() if name != "source"}
        return {**plain, "hyperparameters": fields}


def _again(stored: Replayed) -> Candidate:
    from zbench.attacks.candidates import Candidate

    return Candidate(stored.prompt_id, stored.payload(), stored.label)
