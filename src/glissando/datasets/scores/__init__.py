"""Real scores played by a real synthesizer, with true captions: data that needs no download."""

from glissando.datasets.scores.source import Job, Scores

__all__ = ["Job", "Scores"]
