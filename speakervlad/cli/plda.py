"""``plda``: fits what ``score --plda`` scores by."""

from pathlib import Path
from typing import Annotated

import typer

from speakervlad.cli.console import notes
from speakervlad.files import check_writable


def plda(
    embeddings: Annotated[
        Path, typer.Argument(help="Of speakers who are in no trial: .npz, .ark, .scp, .parquet.")
    ],
    manifest: Annotated[Path, typer.Option(help="Says who speaks in each of them.")],
    out: Annotated[Path, typer.Option(help="The model, for `score --plda` (.npz).")],
    lda: Annotated[
        int | None,
        typer.Option(min=1, help="Reduce to so many dimensions by LDA first; not by default."),
    ] = None,
) -> None:
    """Fit two-covariance PLDA to embeddings of many speakers, several recordings of each.

    Example: speakervlad plda T.npz --manifest train.csv --out plda.npz
    """
    from dataclasses import replace

    from speakervlad.scoring.plda import fit_plda, save_plda
    from speakervlad.tables.interchange import load_embeddings
    from speakervlad.tables.manifest import load_manifest
    from speakervlad.tables.names import required_rows

    check_writable(out)
    table, known = load_embeddings(embeddings), load_manifest(manifest)
    speakers = known.speaker_indices[required_rows(known, table.ids)]
    model = fit_plda(table.vectors, speakers, lda=lda)
    save_plda(out, replace(model, encoder=table.encoder))
    notes.print(f"{len(model.between)} dimensions, of {len(table)} recordings: {out}")
