"""Commands that make data ready: ``prepare``, ``convert-audio``, ``pack``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from speakervlad.cli.console import notes
from speakervlad.cli.options import BadListPath, MaxBad, SpeechOnlyOption, parse_fraction
from speakervlad.files import check_writable

if TYPE_CHECKING:
    from speakervlad.corpus.work import BadList, Work

Workers = Annotated[int | None, typer.Option(min=0, help="Processes; one per core by default.")]


def prepare(
    source: Annotated[Path, typer.Argument(help="Folder of the corpus, or a CSV.")],
    out: Annotated[Path, typer.Argument(help="Manifest to write (.csv).")],
    layout: Annotated[
        str, typer.Option(help="speaker-folders | voxceleb | kaldi | csv | musan | rirs")
    ] = "speaker-folders",
    max_bad: MaxBad = "1%",
    decode: Annotated[
        bool, typer.Option(help="Decode every file whole, not its header and its end only.")
    ] = False,
    speech_only: Annotated[
        bool,
        typer.Option("--speech-only", help="Leave out files without speech; count the speech."),
    ] = False,
    bad_list: BadListPath = None,
    workers: Workers = None,
) -> None:
    """Make the manifest of a corpus: one row per utterance, with its length.

    Example: speakervlad prepare recordings/ train.csv
    """
    from speakervlad.corpus.work import BadList

    work = work_of(max_bad, BadList(bad_list), workers)
    check_writable(out)
    from speakervlad.corpus.prepare import prepare as prepare_manifest
    from speakervlad.tables.manifest import save_manifest

    preparation = prepare_manifest(
        source, layout=layout, decode=decode, speech_only=speech_only, work=work
    )
    manifest = preparation.manifest
    save_manifest(out, manifest)
    hours = manifest.num_samples.sum() / 16000 / 3600
    notes.print(
        f"{len(manifest)} utterances of {len(manifest.speaker_names)} speakers, {hours:.2f} h, "
        f"{len(preparation.bad_files)} bad files left out: {out}"
    )


def convert_audio(
    source: Annotated[Path, typer.Argument(help="Folder of audio in any format.")],
    out: Annotated[Path, typer.Argument(help="Folder to write, same names below it.")],
    file_format: Annotated[str, typer.Option("--format", help="flac | wav")] = "flac",
    max_bad: MaxBad = "1%",
    speech_only: SpeechOnlyOption = False,
    bad_list: BadListPath = None,
    workers: Workers = None,
) -> None:
    """Decode a folder once to 16 kHz mono flac or wav; run again to continue.

    Example: speakervlad convert-audio recordings/ flac/
    """
    from speakervlad.corpus.work import BadList

    work = work_of(max_bad, BadList(bad_list, column="file"), workers)
    from speakervlad.corpus.prepare import convert_folder

    done = convert_folder(source, out, file_format=file_format, speech_only=speech_only, work=work)
    notes.print(
        f"{done.num_written} files converted, {done.num_skipped} were there already, "
        f"{len(done.bad_files)} cannot be read: {out}"
    )


def pack(
    manifest: Annotated[Path, typer.Argument(help="Manifest, as `prepare` writes.")],
    out: Annotated[Path, typer.Argument(help="Folder for the shards and their manifest.csv.")],
    root: Annotated[
        Path | None, typer.Option(help="Folder that the manifest's paths start from.")
    ] = None,
    shard_hours: Annotated[float, typer.Option(min=0.01, help="Audio per shard.")] = 9.0,
    max_bad: MaxBad = "1%",
    bad_list: BadListPath = None,
    workers: Workers = None,
) -> None:
    """Copy a corpus into a few large files, for network storage; run again to continue.

    Example: speakervlad pack train.csv packed/
    """
    from speakervlad.corpus.work import BadList

    work = work_of(max_bad, BadList(bad_list), workers)
    from speakervlad.corpus.packing import pack as pack_manifest
    from speakervlad.tables.manifest import load_manifest, save_manifest

    utterances = load_manifest(manifest, root)
    check_writable(out / "manifest.csv")
    shard_samples = round(shard_hours * 3600 * 16000)
    packed = pack_manifest(utterances, out, shard_samples=shard_samples, work=work)
    save_manifest(out / "manifest.csv", packed)
    notes.print(f"{len(packed)} utterances packed: {out / 'manifest.csv'}")


def work_of(max_bad: str, bad_list: "BadList", workers: int | None) -> "Work":
    """How to work through the files, as the options say.

    Raises:
        InputError: ``max_bad`` is no fraction.
    """
    from speakervlad.corpus.work import Work

    return Work(parse_fraction(max_bad), bad_list, workers)
