"""Sources of clips, WebDataset shards made of them, and batches streamed from the shards."""
