"""The sample rate of every waveform, and the suffixes of audio files."""

# Every waveform inside the package has it, in Hz; other rates are resampled when they are read.
SAMPLE_RATE = 16000
# What is taken for audio when a folder is walked; a file that is named is tried in any case.
AUDIO_SUFFIXES = frozenset(
    ".wav .flac .ogg .oga .opus .mp3 .mp2 .m4a .aac .ac3 .mp4 .m4v .mov .webm .mka .mkv .avi .flv "  # noqa: SIM905
    ".wma .asf .amr .awb .3gp .3g2 .aif .aiff .aifc .au .snd .caf .sph .w64 .rf64 .spx .gsm .g722 "
    ".wv .ape .tta .voc .ts .mpg".split()
)
# One frame of 25 ms: anything shorter holds no frame of speech.
MIN_SAMPLES = 400
