"""Make music: python sample.py prompt="warm piano, 90 bpm" (--help says the rest)."""

from glissando.cli.main import run

if __name__ == "__main__":
    run("sample", "sample", "glissando.cli.sample:sample")
