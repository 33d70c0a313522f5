"""The whole path from raw web pages to an assistant that reasons, in JAX."""
