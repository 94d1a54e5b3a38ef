"""Train a model: python train.py model=dit conditioning=adaln_zero (--help says the rest)."""

from glissando.cli.main import run

if __name__ == "__main__":
    run("train", "train", "glissando.training.fit:train")
