"""One process or many: ``torchrun`` sets the environment, this module reads it; and signals."""

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing import resource_tracker
from types import FrameType

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from speakervlad.errors import InputError

logger = logging.getLogger(__name__)

# Signals that ask a run to save and end.
LEAVE_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# Timeout while one process judges the validation lists and the others wait; gloo and nccl have much
# shorter ones by default.
PATIENCE = timedelta(hours=3)


@dataclass(frozen=True)
class World:
    """This process among all processes of the run."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and logs."""
        return self.rank == 0

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """The mean over all processes."""
        if self.size > 1 and values.numel():
            dist.all_reduce(values)
            values = values / self.size
        return values

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        if self.size == 1:
            return flag
        votes = torch.tensor(float(flag), device=self.device)
        dist.all_reduce(votes, dist.ReduceOp.MAX)
        return bool(votes.item())

    def wait(self) -> None:
        """Until every process has come here."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def join_world(device: str) -> Iterator[World]:
    """Join the process group of ``torchrun`` (nccl on GPUs, gloo on CPUs), or stand alone."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    chosen = choose_device(device, int(os.environ.get("LOCAL_RANK", "0")))
    if size == 1:
        yield World(0, 1, chosen)
        return
    store, rank, size = next(rendezvous("env://"))
    dist.init_process_group(
        "nccl" if chosen.type == "cuda" else "gloo",
        store=PrefixStore(_attempt(), store),
        rank=rank,
        world_size=size,
        timeout=PATIENCE,
    )
    world = World(rank, size, chosen)
    try:
        yield world
        # DDP keeps the group's threads until the interpreter ends, and one that lets go of a tensor
        # then aborts the process. After a failure there is nobody to wait for.
        world.wait()
    finally:
        dist.destroy_process_group()


def _attempt() -> str:
    """Which start of the processes this is, if ``torchrun`` runs them on one machine.

    It keeps one store over all restarts, where a process would find the addresses of dead ones.
    On several machines every agent counts its own failures alone, so that the numbers differ; there
    the environment variable ``TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1`` gives each start a new store.
    """
    one_machine = os.environ.get("LOCAL_WORLD_SIZE") == os.environ["WORLD_SIZE"]
    return os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") if one_machine else "0"


def choose_device(name: str, local_rank: int = 0) -> torch.device:
    """``auto`` is this process's GPU if there is one, else the CPU.

    Raises:
        InputError: the name means nothing, or names a GPU that is not there.
    """
    if name == "auto":
        name = f"cuda:{local_rank}" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device={name}: not available here. Use auto or cpu.") from error
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device


@contextmanager
def preemption() -> Iterator[Callable[[], bool]]:
    """Yield a function that says whether SIGTERM or Ctrl-C asked to save and leave.

    A second Ctrl-C interrupts at once. Outside the main thread no signal can be seen.
    """
    asked = threading.Event()

    def ask(number: int, frame: FrameType | None) -> None:
        asked.set()
        if number == signal.SIGINT:
            logger.warning("saving, then leaving; Ctrl-C again leaves at once, without saving")
            signal.signal(signal.SIGINT, previous[signal.SIGINT])

    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    previous = {number: signal.getsignal(number) for number in LEAVE_SIGNALS}
    for number in LEAVE_SIGNALS:
        signal.signal(number, ask)
    try:
        yield asked.is_set
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def children_ignore_signals() -> Iterator[None]:
    """Processes that are started meanwhile never see SIGTERM and Ctrl-C; this one sees them later.

    Both reach all processes of a terminal or job, but they are for the training to answer: it
    saves, and takes its workers along.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # Its start would unblock the signals.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, LEAVE_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
