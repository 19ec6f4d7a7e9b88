"""A stand-in for Slurm on this machine: `sbatch`, `srun`, `scontrol requeue` or `sacct`, by its file name.

Jobs start immediately and run concurrently, on this machine. Every task gets the variables that Slurm sets. State is in
the folder `$FAKE_SLURM`: `JOB.ended` holds the exit code of each start of an ended job.
"""

import os
import re
import shlex
import socket
import subprocess
import sys
import time
from pathlib import Path

STATE = Path(os.environ["FAKE_SLURM"])
KILL_AFTER_S = 20.0  # tasks that end by themselves after another one may be slow


def sbatch(script: str, *arguments: str) -> int:
    options = dict(re.findall(r"^#SBATCH --([\w-]+)(?:=(.*))?$", Path(script).read_text(), re.MULTILINE))
    job = free_job()
    copy = STATE / f"{job}.sh"  # the script as submitted, even if the file changes
    copy.write_text(Path(script).read_text())
    tasks = [None]
    if "array" in options:
        first, last = map(int, options["array"].partition("%")[0].split("-"))
        tasks = list(range(first, last + 1))
    for number, task in enumerate(tasks):
        environment = {
            "SLURM_JOB_ID": str(job + number),
            "SLURM_JOB_NAME": options.get("job-name", "sbatch"),
            "SLURM_NNODES": options.get("nodes", "1"),
            "SLURM_NTASKS_PER_NODE": options.get("ntasks-per-node", "1"),
            "SLURM_NODELIST": "127.0.0.1",
        }
        environment["SLURM_NTASKS"] = str(int(environment["SLURM_NNODES"]) * int(environment["SLURM_NTASKS_PER_NODE"]))
        if task is not None:
            environment |= {"SLURM_ARRAY_JOB_ID": str(job), "SLURM_ARRAY_TASK_ID": str(task)}
        output = expanded(options.get("output", "slurm-%j.out"), environment)
        command = [sys.executable, __file__, "run_batch", str(copy), output, *arguments]
        closed = {name: subprocess.DEVNULL for name in ("stdin", "stdout", "stderr")}
        subprocess.Popen(command, env=os.environ | environment, start_new_session=True, **closed)
    sys.stdout.write(f"Submitted batch job {job}\n")
    return 0


def run_batch(script: str, output: str, *arguments: str) -> int:
    job, codes = os.environ["SLURM_JOB_ID"], []
    again = STATE / f"{job}.requeue"
    while not Path(output).parent.exists():  # submitit makes it once it knows the job's number
        time.sleep(0.05)
    with Path(output).open("a") as file:
        while not codes or (again.exists() and len(codes) < 5):
            again.unlink(missing_ok=True)
            environment = os.environ | {"SLURM_RESTART_COUNT": str(len(codes))}
            bash = subprocess.run(["bash", script, *arguments], env=environment, stdout=file, stderr=subprocess.STDOUT)
            codes.append(bash.returncode)
    temporary = STATE / f"{job}.tmp"
    temporary.write_text(" ".join(map(str, codes)))
    temporary.rename(STATE / f"{job}.ended")
    return codes[-1]


def srun(*words: str) -> int:
    words, files = list(words), {}
    is_deadly = False
    while words[0].startswith("--"):
        name, _, value = words.pop(0).removeprefix("--").partition("=")
        if name in ("output", "error"):
            files[name] = value or words.pop(0)
        is_deadly |= (name, value) == ("kill-on-bad-exit", "1")
    per_node = int(os.environ["SLURM_NTASKS_PER_NODE"])
    tasks = []
    for rank in range(int(os.environ["SLURM_NTASKS"])):
        place = {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_NODES": os.environ["SLURM_NNODES"], "SLURM_PROCID": str(rank)}
        place |= {"SLURM_LOCALID": str(rank % per_node), "SLURM_NODEID": str(rank // per_node)}
        environment = os.environ | place
        streams = {}
        for name, stream in (("output", "stdout"), ("error", "stderr")):
            if name in files:
                path = expanded(files[name], environment)
                streams[stream] = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        tasks.append(subprocess.Popen(words, env=environment, **streams))
    ended_badly_at = None
    while any(task.poll() is None for task in tasks):
        if ended_badly_at is None and any(task.poll() for task in tasks):
            ended_badly_at = time.monotonic()
        if is_deadly and ended_badly_at is not None and time.monotonic() > ended_badly_at + KILL_AFTER_S:
            for task in tasks:
                task.terminate()
            is_deadly = False
        time.sleep(0.02)
    return max(code if code >= 0 else 128 - code for code in (task.returncode for task in tasks))


def scontrol(word: str, job: str) -> int:
    assert word == "requeue"
    (STATE / f"{job}.requeue").touch()
    return 0


def sacct(*_options: str) -> int:
    sys.stdout.write("JobID|State|NodeList\n")
    return 0


def expanded(pattern: str, environment: dict[str, str]) -> str:
    values = {"%j": "SLURM_JOB_ID", "%x": "SLURM_JOB_NAME", "%A": "SLURM_ARRAY_JOB_ID", "%a": "SLURM_ARRAY_TASK_ID"}
    for mark, name in (values | {"%t": "SLURM_PROCID"}).items():
        pattern = pattern.replace(mark, environment.get(name, "0"))
    return shlex.split(pattern)[0]


def free_job() -> int:
    """A job number for which Lightning's rendezvous port is free."""
    while True:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        if 15000 <= port < 24990:
            return 10000 + port - 15000
        for port in range(15000 + os.getpid() % 9000, 24990):
            with socket.socket() as tried:
                if tried.connect_ex(("127.0.0.1", port)) != 0:
                    return 10000 + port - 15000


if __name__ == "__main__":
    name = Path(sys.argv[0]).name
    words = sys.argv[1:]
    if name.endswith(".py"):
        name, words = words[0], words[1:]
    sys.exit(globals()[name](*words))
