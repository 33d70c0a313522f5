"""Bits per byte that general compressors reach, to set a model beside them.

The compressors see all documents as one stream, so they may copy from earlier
documents, which a model that starts each document afresh may not. They are a
yardstick and not a baseline that was tuned.
"""

import gzip
import lzma
from collections.abc import Sequence

# A separator that no document needs, so that the last word of one document
# and the first of the next are not run together; its bytes are not counted.
_SEPARATOR = b'\n\n'


def bits_per_byte(documents: Sequence[bytes]) -> dict[str, float]:
  """Compressed size of the documents in bits over their size in bytes.

  Args:
    documents: UTF-8 text of each document.

  Returns:
    {'gzip -9': bits per byte, 'xz -9': bits per byte}.

  Raises:
    ValueError: the documents hold no bytes.
  """
  n_bytes = sum(len(document) for document in documents)
  if n_bytes == 0:
    raise ValueError(
      f'{len(documents)} documents hold 0 bytes; bits per byte need text'
    )
  stream = _SEPARATOR.join(documents)
  return {
    'gzip -9': 8 * len(gzip.compress(stream, 9, mtime=0)) / n_bytes,
    'xz -9': 8 * len(lzma.compress(stream, preset=9)) / n_bytes,
  }
