import numpy as np
import pytest
import soundfile

from speakervlad.data.audio import read_audio
from speakervlad.data.encoding import write_audio
from speakervlad.errors import InputError


@pytest.mark.parametrize(
    ("suffix", "subtype"), [("wav", "PCM_16"), ("flac", "PCM_16"), ("wav", "FLOAT")]
)
def test_what_is_written_is_read(tmp_path, make_waveform, suffix, subtype):
    waveform = make_waveform(1.0)
    path = tmp_path / "new" / f"a.{suffix}"
    write_audio(path, waveform, subtype=subtype)
    info = soundfile.info(path)
    assert (info.samplerate, info.channels, info.subtype) == (16000, 1, subtype)
    np.testing.assert_allclose(read_audio(path), waveform, atol=2**-15)


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, make_waveform, full_disk, suffix):
    path = tmp_path / f"a.{suffix}"
    with (
        full_disk(10000),
        pytest.raises(InputError, match=rf"a\.{suffix}: cannot be written \(.*\. Make room"),
    ):
        write_audio(path, make_waveform(2.0))
    assert list(tmp_path.iterdir()) == []
