"""The command that turns audio into embeddings: ``embed``."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from speakervlad.cli.console import audio_bar, describe_speed, notes
from speakervlad.cli.options import (
    DEFAULT_ENCODER,
    BackendOption,
    BadListPath,
    ChannelOption,
    DeviceOption,
    EncoderOption,
    MaxBad,
    PrecisionOption,
    SpeechOnlyOption,
    parse_fraction,
)
from speakervlad.errors import InputError
from speakervlad.files import check_writable
from speakervlad.progress import tracked_by

if TYPE_CHECKING:
    from collections.abc import Mapping

    from speakervlad.corpus.inputs import Recordings
    from speakervlad.encoder.encoder import Embedded, Encoder
    from speakervlad.encoder.shares import Share, Tolerate
    from speakervlad.encoder.windows import Windows
    from speakervlad.tables.embeddings import Embeddings


def embed(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            help="A manifest (.csv), a folder, audio files, a tar file, a list of paths, or a "
            "trial list; https:// and s3:// too."
        ),
    ],
    out: Annotated[Path, typer.Option(help="E.npz: `ids` and unit `vectors`.")],
    encoder: EncoderOption = DEFAULT_ENCODER,
    root: Annotated[
        Path | None, typer.Option(help="Folder that a manifest's or trial list's paths are in.")
    ] = None,
    channel: ChannelOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "float32",
    backend: BackendOption = "auto",
    window: Annotated[
        float | None, typer.Option(help="Embed sliding windows of so many seconds.")
    ] = None,
    hop: Annotated[
        float | None, typer.Option(help="Seconds from window to window; half a window by default.")
    ] = None,
    speech_only: SpeechOnlyOption = False,
    max_bad: MaxBad = "0%",
    bad_list: BadListPath = None,
    engine: Annotated[
        str | None,
        typer.Option(help="ray: on a Ray cluster, into a folder of Parquet shards, --out DIR."),
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="Of the Ray cluster; without it Ray starts here.")
    ] = None,
    slice_rows: Annotated[
        int | None, typer.Option(min=1, help="Recordings of a shard of --engine ray; 1000.")
    ] = None,
) -> None:
    """Write one embedding per recording, or per sliding window of it.

    Example: speakervlad embed recordings/ --out E.npz
    """
    import time

    from speakervlad.encoder.encoder import load_encoder
    from speakervlad.encoder.shares import share_from_environment

    started, share = time.time(), share_from_environment()
    windows = windows_of(window, hop)
    if engine is None and (address or slice_rows):
        raise InputError("--address and --slice-rows go with --engine ray.")
    if engine is not None:
        if windows is not None or precision != "float32" or engine != "ray":
            raise InputError(
                f"--engine {engine}: the one engine is ray; it embeds whole recordings, in float32."
            )
        found = replace(find_recordings(inputs, root), channel=channel, speech_only=speech_only)
        on_ray(found, out, encoder, backend, address, slice_rows, tolerance(max_bad, bad_list, out))
        return
    check_table(out)
    embedder = load_encoder(encoder, device=device, precision=precision, backend=backend)
    found = find_recordings(inputs, root)
    write_embeddings(
        out,
        embedder,
        replace(found, channel=channel, speech_only=speech_only),
        share=share,
        since=started,
        precision=precision,
        windows=windows,
        tolerate=tolerance(max_bad, bad_list, inputs[0]),
    )


def write_embeddings(
    out: Path,
    embedder: "Encoder",
    recordings: "Recordings",
    *,
    share: "Share",
    since: float,
    precision: str = "float32",
    windows: "Windows | None" = None,
    tolerate: "Tolerate | None" = None,
) -> None:
    """Embed recordings into a file, going on where an earlier run was interrupted.

    Args:
        out: the file.
        embedder: what embeds.
        recordings: those of all processes.
        share: this process; the first one writes the file.
        since: as for ``embed_in_parts``.
        precision: of the encoder.
        windows: sliding windows instead of whole recordings.
        tolerate: as for ``embed_in_parts``.

    Raises:
        InputError: recordings cannot be used, or another run writes this file.
    """
    import time

    from speakervlad.encoder.shares import embed_in_parts, hold_output, open_parts
    from speakervlad.tables.interchange import save_embeddings

    with hold_output(out, share):
        parts = open_parts(out, embedder, recordings, precision=precision, windows=windows)
        began = time.perf_counter()
        with tracked_by(audio_bar):
            items = embed_in_parts(
                embedder,
                recordings,
                parts,
                share=share,
                since=since,
                windows=windows,
                tolerate=tolerate,
            )
        if items is None:
            return
        seconds = [item.seconds for item in parts.new(recordings, items)]
        speed = describe_speed(len(seconds), sum(seconds), time.perf_counter() - began)
        good = {name: item for name, item in zip(recordings.ids, items, strict=True) if item}
        table = collect(list(good), list(good.values()), are_windows=windows is not None)
        save_embeddings(out, replace(table, encoder=embedder.fingerprint))
        parts.remove()
    notes.print(f"{len(table)} embeddings of {embedder.dim} dimensions: {out} ({speed})")


def on_ray(
    recordings: "Recordings",
    out: Path,
    encoder: Path,
    backend: str,
    address: str | None,
    rows: int | None,
    tolerate: "Tolerate | None",
) -> None:
    """Make shards of recordings, and count those that have none.

    Raises:
        InputError: as ``embed_on_ray``, or too many cannot be embedded.
    """
    from speakervlad.encoder.cluster import SLICE_ROWS, Job, embed_on_ray
    from speakervlad.encoder.encoder import load_encoder
    from speakervlad.encoder.location import find_encoder
    from speakervlad.errors import first_few
    from speakervlad.remote import allows_private
    from speakervlad.urls import absolute

    found = replace(recordings, paths=[absolute(path) for path in recordings.paths])
    place = find_encoder(encoder).resolve()
    job = Job(
        str(out.resolve()),
        str(place),
        load_encoder(place, device="cpu", backend=backend).fingerprint,
        backend,
        recordings.channel,
        recordings.speech_only,
        allows_private(),
    )
    bad = embed_on_ray(found, job, address=address, rows=rows or SLICE_ROWS)
    count = len(recordings.ids)
    if tolerate is not None:
        tolerate(bad, count)
    elif bad:
        reasons = first_few(bad.values(), 3)
        raise InputError(f"{len(bad)} of {count} files cannot be embedded: {reasons}")
    notes.print(f"{count - len(bad)} embeddings, {len(bad)} without: {out}")


def tolerance(max_bad: str, bad_list: Path | None, source: Path) -> "Tolerate | None":
    """What is done about recordings that cannot be embedded; None where none is tolerated.

    Raises:
        InputError: no fraction, or a list that cannot be written.
    """
    from speakervlad.corpus.work import BadFile, BadList

    share, bad = parse_fraction(max_bad), BadList(bad_list)
    if not share and bad_list is None:
        return None

    def tolerate(reasons: "Mapping[str, str]", num_files: int) -> None:
        files = [BadFile(name, reason) for name, reason in reasons.items()]
        bad.add(files, num_files, share, str(source))

    return tolerate


def windows_of(length: float | None, hop: float | None) -> "Windows | None":
    """The sliding windows that are asked for; by default, each begins in the middle of another.

    Raises:
        InputError: a hop without windows.
    """
    from speakervlad.encoder.windows import Windows

    if length is None and hop is not None:
        raise InputError("--hop goes with --window.")
    return None if length is None else Windows(length, length / 2 if hop is None else hop)


def check_table(out: Path) -> None:
    """Refuse, before the work, a file that embeddings cannot be written to.

    Raises:
        InputError: another suffix than .npz, or a place that cannot be written.
    """
    if out.suffix.lower() != ".npz":
        raise InputError(
            f"{out}: embeddings are written as .npz. Name it so; `convert-embeddings` makes others."
        )
    check_writable(out)


def collect(ids: "list[str]", items: "list[Embedded]", *, are_windows: bool) -> "Embeddings":
    """One table; windows are named ``id@begin-end`` in seconds, and have their spans."""
    import numpy as np

    from speakervlad.tables.embeddings import Embeddings

    vectors = np.concatenate([item.vectors for item in items])
    if not are_windows:
        return Embeddings(np.asarray(ids), vectors)
    names = [
        f"{name}@{begin:.3f}-{end:.3f}"
        for name, item in zip(ids, items, strict=True)
        for begin, end in item.spans
    ]
    spans = np.concatenate([item.spans for item in items])
    return Embeddings(np.asarray(names), vectors, spans=spans)


def find_recordings(inputs: list[Path], root: Path | None) -> "Recordings":
    """Tell a manifest, a folder, a trial list and audio files apart.

    Raises:
        InputError: something is missing, or kinds are mixed.
    """
    from speakervlad.audio.reading import is_audio
    from speakervlad.corpus.inputs import (
        from_folder,
        from_list,
        from_manifest,
        from_names,
    )
    from speakervlad.scoring.lists import load_trials
    from speakervlad.urls import is_archive, is_remote

    for path in inputs:
        if not path.exists() and not is_remote(path):
            raise InputError(f"{path}: no such file or folder. Check the path.")
    first = inputs[0]
    is_table = first.suffix.lower() == ".parquet"
    if len(inputs) == 1 and (is_table or is_remote(first) or is_archive(first)):
        return from_location(first, root)
    if all(is_remote(path) or is_audio(path) for path in inputs):
        return from_names([path.as_posix() for path in inputs], Path())
    if len(inputs) > 1:
        raise InputError(f"{first}: give one manifest, folder or trial list, or audio files only.")
    if first.is_dir():
        return from_folder(first)
    if first.suffix.lower() == ".csv":
        return from_manifest(first, root)
    listed = from_list(first, root)
    return listed or from_names(load_trials(first).names.tolist(), root or first.parent)


def from_location(path: Path, root: Path | None) -> "Recordings":
    """What one URL or archive holds: by its name, recordings, a manifest, a list, or one recording.

    Relative names in a list of elsewhere start beside it.
    """
    from speakervlad.corpus.inputs import (
        from_archive,
        from_list,
        from_manifest,
        from_names,
        from_parquet,
    )
    from speakervlad.urls import is_archive, location_of, shown

    url = location_of(path)
    name = (url or str(path)).partition("?")[0].lower()
    if url is None and name.endswith(".parquet"):
        return from_parquet(path, root)
    if is_archive(name) and "::" not in name:
        return from_archive(url or str(path))
    if url is None or not name.endswith((".csv", ".txt", ".lst")):
        return from_names([path.as_posix()], Path())
    place = root or Path(url).parent
    if name.endswith(".csv"):
        return from_manifest(Path(url), place)
    from speakervlad.remote import Fetched

    fetched = Fetched(url)
    with fetched.naming(shown(url)):
        listed = from_list(fetched.path, place)
    if listed is None:
        raise InputError(f"{shown(url)}: no list of one path or URL a line.")
    return listed
