"""What an encoder's output becomes before a decoder sees it: one file a bottleneck."""
