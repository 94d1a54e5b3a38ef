"""When a launch began: one time for all its processes, so that they share a run folder.

Hydra's ``${now:…}`` is another time in every process. Where torchrun or srun start them all, the
first one's time is in ``GLISSANDO_STARTED``, which ``hydra.run.dir`` prefers. (The processes that
Lightning starts itself for ``trainer.devices=2`` are told the folder.)
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

VARIABLE = "GLISSANDO_STARTED"
REGISTER = Path("outputs") / ".started"


def agree() -> None:
    """Sets ``GLISSANDO_STARTED``, ``<date>/<time>``, in a process that is one of a launch.

    A step of a Slurm job that was requeued gets the time, and so the folder, of its first start.
    """
    own = time.strftime("%Y-%m-%d/%H-%M-%S")
    if VARIABLE in os.environ:
        return
    if "TORCHELASTIC_RUN_ID" in os.environ:
        os.environ[VARIABLE] = _from_store(own)
    elif "SLURM_STEP_ID" in os.environ:
        step = f"slurm-{os.environ['SLURM_JOB_ID']}.{os.environ['SLURM_STEP_ID']}"
        os.environ[VARIABLE] = _from_file(REGISTER / step, own)


def _from_store(own: str) -> str:
    """What the first of torchrun's processes said; its agent keeps the store over restarts."""
    from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

    agents = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    server = not agents and os.environ["RANK"] == "0"
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = TCPStore(host, port, is_master=server, wait_for_workers=False)
    return store.compare_set("glissando/started", "", own).decode()


def _from_file(path: Path, own: str) -> str:
    """What the first process wrote, in a folder that all nodes see."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.uname().nodename}.{os.getpid()}")
    partial.write_text(own)
    with suppress(FileExistsError):
        os.link(partial, path)  # whole or not there, and never twice
    partial.unlink()
    return path.read_text()
