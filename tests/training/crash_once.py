"""``speakervlad`` whose last rank is killed before step CRASH_STEP, once: run by torchrun."""

import os
import signal
from pathlib import Path

from speakervlad.cli import main
from speakervlad.training.trainer import Trainer

if __name__ == "__main__":
    flag, whole_step = Path(os.environ["CRASH_FLAG"]), Trainer.step

    def step(self, step, examples):
        last = self.world.rank == self.world.size - 1
        if last and step == int(os.environ["CRASH_STEP"]) and not flag.exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return whole_step(self, step, examples)

    Trainer.step = step
    main()
