"""Token shards, mixtures, packed conversations: batches by step number."""
