"""A real Slurm of one node, on this machine, for as long as the tests take."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

NOTHING = "NO SLURM, and so nothing of it tested"
NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol")


class Slurm:
    """Its commands, in an environment that knows where it is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}

    def __call__(self, *command: str) -> str:
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def facts(self, job: str) -> dict[str, str]:
        """What Slurm knows of a job: JobState (PENDING, RUNNING, COMPLETED …), Restarts …"""
        words = self("scontrol", "--oneliner", "show", "job", job).split()
        return {key: value for key, _, value in (word.partition("=") for word in words)}

    def wait(self, job: str, *states: str, seconds: float = 300) -> None:
        """Until the job is in one of ``states``."""
        deadline = time.monotonic() + seconds
        while (state := self.facts(job)["JobState"]) not in states:
            assert time.monotonic() < deadline, f"job {job} is {state}"
            assert state not in ("FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL"), state
            time.sleep(0.2)

    def start_again(self, job: str) -> None:
        """Waits until a job was requeued, and lets it begin now, not in two minutes' time.

        A job that is PENDING (and no longer COMPLETING) was ended by slurmd, which revoked its
        credential at some second up to the present one and refuses another of that same second or
        an earlier one. What begins two seconds from now is given a later one.
        """
        self.wait(job, "PENDING")
        self("scontrol", "update", f"jobid={job}", "StartTime=now+2")


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        why = f"{', '.join(missing)} not installed" if missing else "it must be started by root"
        pytest.skip(f"{NOTHING}: {why} (slurm-wlm, munge)")
    folder = tmp_path_factory.mktemp("slurm")
    folder.chmod(0o755)
    for name in ("state", "spool", "munge"):
        (folder / name).mkdir(mode=0o700)
    (folder / "socket").mkdir(mode=0o755)
    key = folder / "munge" / "key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    munge = folder / "socket" / "munge"
    host = socket.gethostname().split(".")[0]
    cores = os.cpu_count() or 1
    ports = _free_ports(2)
    (folder / "slurm.conf").write_text(f"""
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={munge}
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,defer_batch=0
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
ReturnToService=2
JobRequeue=1
KillWait=5
MinJobAge=600
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} State=UNKNOWN
PartitionName=test Nodes={host} Default=YES MaxTime=INFINITE State=UP
""")
    made = Slurm(folder)
    daemons = [
        ["munged", "--force", f"--key-file={key}", f"--socket={munge}",
         f"--pid-file={folder}/munged.pid", f"--log-file={folder}/munged.log",
         f"--seed-file={folder}/munge/seed"],
        ["slurmctld", "-f", str(folder / "slurm.conf")],
        ["slurmd", "-f", str(folder / "slurm.conf")],
    ]  # fmt: skip
    try:
        try:
            for command in daemons:
                made(*command)
            deadline = time.monotonic() + 60
            while made("sinfo", "-h", "-o", "%T") != "idle":
                assert time.monotonic() < deadline, "its node does not become idle"
                time.sleep(0.3)
        except (AssertionError, subprocess.TimeoutExpired) as error:
            logs = [path.read_text()[-2000:] for path in sorted(folder.glob("slurm*.log"))]
            pytest.skip(f"{NOTHING}: it does not start here: {error}\n{''.join(logs)}")
        yield made
    finally:
        subprocess.run(["scancel", "--user=root"], env=made.environment, check=False)
        for name in ("slurmctld", "slurmd", "munged"):
            pid = folder / f"{name}.pid"
            if pid.is_file():
                subprocess.run(["kill", pid.read_text().strip()], check=False)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
