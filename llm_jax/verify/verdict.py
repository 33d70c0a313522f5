"""What a verifier returns, whatever it verifies."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Score:
  """A verifier's verdict on one answer."""

  correct: bool
  reason: str  # why, in words: shown in reports
