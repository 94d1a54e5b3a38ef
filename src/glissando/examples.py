"""Prompts for a model trained on the embedded data, when nobody gives one."""

EXAMPLES = [
    "a slow Irish air on flute",
    "warm piano, 90 bpm",
    "a lively jig on accordion, 120 bpm",
    "a slow Bach chorale on a church organ",
]
