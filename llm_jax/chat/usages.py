"""What who talks with a model should know of its training."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Usage:
  """Is saved with every checkpoint; later stages hand it on."""

  max_turns: int = 0  # questions in its longest conversation; 0: not known
  examples: tuple[str, ...] = ()  # things to say to it
  fills: bool = False  # middles of texts, by control tokens


UNKNOWN = Usage()
