"""Judge two short runs on corpora that one of them left out; the table goes into the model card.

leave_out.py WITH WITHOUT LIST.trials ... --left-out arabic_speech_commands librispeech_train
    --crops 250000
"""

import argparse
import sys
from pathlib import Path

from speakervlad.encoder.encoder import load_encoder
from speakervlad.scoring.metrics import verification_report
from speakervlad.verification.listed import TrialList, score_lists

sys.path.append(str(Path(__file__).parents[1] / "default_encoder"))
from package import write_json  # pyright: ignore[reportMissingImports]

LEFT_OUT = Path(__file__).parent / "left_out.json"


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("with_them", type=Path, help="encoder trained on everything")
    parser.add_argument("without_them", type=Path, help="encoder trained without some corpora")
    parser.add_argument("lists", type=Path, nargs="+")
    parser.add_argument("--left-out", nargs="+", required=True, help="names of lists")
    parser.add_argument("--crops", type=int, required=True, help="that each run has seen")
    parser.add_argument("--out", type=Path, default=LEFT_OUT, help="beside this script by default")
    arguments = parser.parse_args()
    lists = [TrialList.read(path) for path in arguments.lists]
    rates = [error_rates(path, lists) for path in (arguments.with_them, arguments.without_them)]
    found = {"lists": arguments.left_out, "crops": arguments.crops}
    found |= {"with": rates[0], "without": rates[1]}
    write_json(arguments.out, found)
    for name in rates[0]:
        print(f"{name:30} {100 * rates[0][name]:6.2f} {100 * rates[1][name]:6.2f}")


def error_rates(encoder: Path, lists: list[TrialList]) -> dict[str, float]:
    """EER of every list, a fraction."""
    scored = score_lists(load_encoder(encoder, device="cpu"), lists)
    return {name: verification_report(*each).eer for name, each in scored.items()}


if __name__ == "__main__":
    main()
