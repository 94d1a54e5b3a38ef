"""Audio files: what is read, what is written, what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from glissando.audio import read_audio, write_wav
from glissando.errors import UserError
from glissando.files import write_whole


def tone(seconds: float, rate: int, hz: float = 440.0) -> np.ndarray:
    return np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate).astype(np.float32)


def test_a_wav_is_read_and_written_back_bit_for_bit(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    steps = rng.integers(-32768, 32768, (2, 5000)).astype(np.int16)
    steps[0, :2] = -32768, 32767
    soundfile.write(tmp_path / "a.wav", steps.T, 22050, subtype="PCM_16")
    wave, rate = read_audio(tmp_path / "a.wav")
    assert (wave.shape, wave.dtype, rate) == ((2, 5000), np.float32, 22050)
    assert write_wav(tmp_path / "new" / "b.wav", torch.from_numpy(wave), rate) == 1
    assert (tmp_path / "new" / "b.wav").read_bytes() == (tmp_path / "a.wav").read_bytes()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["b.wav"]


def test_a_clip_beyond_full_scale_is_scaled_and_never_wraps(tmp_path: Path) -> None:
    wave = 3 * tone(0.1, 8000)
    gain = write_wav(tmp_path / "a.wav", wave, 8000)
    assert gain == pytest.approx(1 / np.abs(wave).max())
    back, _ = read_audio(tmp_path / "a.wav")
    np.testing.assert_allclose(back[0], gain * wave, atol=1 / 32768)


def test_full_scale_itself_is_kept(tmp_path: Path) -> None:
    assert write_wav(tmp_path / "a.wav", np.array([1.0, -1.0, 0.0]), 8000) == 1
    back, _ = read_audio(tmp_path / "a.wav")
    assert back.tolist() == [[32767 / 32768, -1.0, 0.0]]


def test_an_empty_and_a_half_precision_clip_can_be_written(tmp_path: Path) -> None:
    assert write_wav(tmp_path / "a.wav", torch.zeros(2, 0), 8000) == 1
    assert soundfile.info(tmp_path / "a.wav").frames == 0
    write_wav(tmp_path / "b.wav", torch.full((1, 4), 0.5, dtype=torch.bfloat16), 8000)
    assert read_audio(tmp_path / "b.wav")[0].tolist() == [[0.5] * 4]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_audio_that_is_not_finite_is_refused_and_leaves_nothing(tmp_path: Path, bad: float) -> None:
    with pytest.raises(UserError, match="not finite"):
        write_wav(tmp_path / "a.wav", np.array([0.0, bad]), 8000)
    assert not list(tmp_path.iterdir())


def test_a_batch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="need \\(C, L\\)"):
        write_wav(tmp_path / "a.wav", torch.zeros(1, 2, 3), 8000)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg"])
def test_a_part_equals_that_part_of_the_whole(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, tone(2.0, 16000), 16000)
    whole, _ = read_audio(path)
    part, _ = read_audio(path, start=0.5, seconds=0.25)
    assert part.shape == (1, 4000)
    np.testing.assert_allclose(part, whole[:, 8000:12000], atol=1e-3 if suffix == "ogg" else 0)
    assert read_audio(path, start=1.75, seconds=9)[0].shape == (1, 4000)


def test_resampling_keeps_the_tone(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", 0.5 * tone(1.0, 44100), 44100, subtype="FLOAT")
    wave, rate = read_audio(tmp_path / "a.wav", sample_rate=22050, channels=2)
    assert (wave.shape, rate, wave.dtype) == ((2, 22050), 22050, np.float32)
    inside = slice(500, -500)
    np.testing.assert_allclose(wave[1, inside], 0.5 * tone(1.0, 22050)[inside], atol=1e-3)


def test_channels_are_mixed_or_repeated(tmp_path: Path) -> None:
    stereo = np.stack([tone(0.1, 8000), np.zeros(800, np.float32)])
    soundfile.write(tmp_path / "a.wav", stereo.T, 8000, subtype="FLOAT")
    np.testing.assert_allclose(read_audio(tmp_path / "a.wav", channels=1)[0], stereo[:1] / 2)
    with pytest.raises(UserError, match="has 2 channels, which cannot be made 4"):
        read_audio(tmp_path / "a.wav", channels=4)


def test_bad_files_are_one_line_that_names_them(tmp_path: Path) -> None:
    cases = {"missing.wav": "no such audio file", "text.wav": "cannot be read as audio"}
    (tmp_path / "text.wav").write_text("this is no sound")
    soundfile.write(tmp_path / "whole.flac", tone(3.0, 22050), 22050)
    data = (tmp_path / "whole.flac").read_bytes()
    (tmp_path / "cut.flac").write_bytes(data[: len(data) // 2])
    cases["cut.flac"] = "cannot be read as audio"
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 8000)
    cases["empty.wav"] = "no sound at 0 s"
    soundfile.write(tmp_path / "nan.wav", np.array([0.0, np.nan]), 8000, subtype="FLOAT")
    cases["nan.wav"] = "not finite"
    for name, message in cases.items():
        with pytest.raises(UserError, match=message) as caught:
            read_audio(tmp_path / name)
        assert str(caught.value).startswith(str(tmp_path / name))
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"no sound at 4 s, it is 3\.00 s long"):
        read_audio(tmp_path / "whole.flac", start=4)


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    write_whole(path, b"old")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]
