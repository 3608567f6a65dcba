"""A real Slurm on this machine: three nodes, one of CPUs and two of two fake GPUs, all on the loopback address.

    python tests/slurm/slurm_cluster.py start | stop | crash NODE | hang NODE | revive NODE | restart DAEMON [SECONDS]

It runs as root on Debian, without systemd, and writes only below `FOLDER` and the link /etc/slurm/slurm.conf.
Processes are stopped by their pid files.
"""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

FOLDER = Path(tempfile.gettempdir()) / "vlret-slurm"
CONF = Path("/etc/slurm/slurm.conf")
PACKAGES = ["slurmctld", "slurmd", "slurm-client", "slurmdbd", "munge", "mariadb-server"]
PROGRAMS = ["slurmctld", "slurmd", "sbatch", "slurmdbd", "munged", "mariadbd"]
ACCOUNT = "project"
NODES = {"c1": 17001, "g1": 17002, "g2": 17003}
PORTS = {"controller_port": 6817, "accounting_port": 6819, "database_port": 13306}
GPUS = 2

DATABASE = """create database slurm_acct_db;
create user 'slurm'@'127.0.0.1' identified by '{password}';
grant all on slurm_acct_db.* to 'slurm'@'127.0.0.1';"""

ACCOUNTING = """AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={accounting_port}
CommunicationParameters=NoInAddrAny
SlurmUser=root
PidFile={folder}/slurmdbd.pid
LogFile={folder}/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={database_port}
StorageUser=slurm
StoragePass={password}
StorageLoc=slurm_acct_db
"""


def missing() -> str:
    """Why no cluster can be started here; empty if one can, with packages installed or installable."""
    if os.geteuid() != 0:
        return "Slurm's daemons need root"
    if CONF.exists() and CONF.resolve() != FOLDER / "slurm.conf":
        return f"{CONF} exists: this machine belongs to another cluster"
    if all(map(shutil.which, PROGRAMS)):
        return ""
    if not shutil.which("apt-get"):
        return "Slurm is not installed, and there is no apt-get to install it"
    trial = run("apt-get", "install", "--simulate", "--quiet=2", *PACKAGES, check=False)
    if trial.returncode:
        trial = run(
            "bash", "-c", f"apt-get update -qq && apt-get install --simulate -qq {' '.join(PACKAGES)}", check=False
        )
    return f"apt-get cannot install Slurm: {trial.stderr.strip().splitlines()[-1:]}" if trial.returncode else ""


def run(*command: str, check: bool = True, stdin: str | None = None) -> subprocess.CompletedProcess:
    """Run a command; its output is in the error if it fails."""
    done = subprocess.run(command, text=True, input=stdin, capture_output=True, check=False)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.returncode}: {done.stdout}{done.stderr}")
    return done


def until(ready: Callable[[], object], seconds: float, what: str) -> object:
    """Wait until `ready()` is true and return its value; raises `TimeoutError` after `seconds`."""
    end = time.monotonic() + seconds
    while not (value := ready()):
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds} s: {what}")
        time.sleep(0.1)
    return value


def install() -> None:
    """Install the missing packages without starting their services."""
    if all(map(shutil.which, PROGRAMS)):
        return
    policy = Path("/usr/sbin/policy-rc.d")
    if not policy.exists():
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    os.environ["DEBIAN_FRONTEND"] = "noninteractive"
    run("apt-get", "install", "--yes", "--quiet=2", "--no-install-recommends", *PACKAGES)


def start() -> None:
    """Start the cluster; it has run a job when this returns."""
    if why := missing():
        raise SystemExit(f"no cluster: {why}")
    install()
    stop()
    for name in ("controller", "gpu", *(f"spool.{node}" for node in NODES)):
        (FOLDER / name).mkdir(parents=True)
    host = socket.gethostname()
    if not run("getent", "ahostsv4", host, check=False).stdout.startswith("127."):
        with open("/etc/hosts", "a") as hosts:
            hosts.write(f"127.0.0.1 {host} # vlret-slurm\n")
    _configure()
    _authentication()
    _accounting()
    start_daemon("slurmctld")
    for node in NODES:
        revive(node)
    until(lambda: run("sinfo", "-hN", "-o", "%N%t", "-t", "idle", check=False).stdout.count("idle") >= 5, 60, "nodes")
    run("timeout", "30", "srun", "-Q", "-A", ACCOUNT, "-p", "gpu", "--gres=gpu:1", "true")


def _configure() -> None:
    values = {"folder": FOLDER, **PORTS, **NODES}
    (FOLDER / "slurm.conf").write_text((Path(__file__).parent / "slurm.conf").read_text().format(**values))
    lines = ["AutoDetect=off"]
    lines += [f"NodeName={node} Name=gpu File={FOLDER}/gpu/[0-{GPUS - 1}]" for node in NODES if node[0] == "g"]
    (FOLDER / "gres.conf").write_text("\n".join(lines) + "\n")
    for number in range(GPUS):  # Slurm needs devices: these are clones of /dev/null
        os.mknod(FOLDER / "gpu" / str(number), stat.S_IFCHR | 0o666, os.makedev(1, 3))
    # The default place, since Snakemake's job step drops all Slurm variables before it calls srun.
    CONF.parent.mkdir(exist_ok=True)
    CONF.unlink(missing_ok=True)
    CONF.symlink_to(FOLDER / "slurm.conf")


def _authentication() -> None:
    key = FOLDER / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(128))
    files = {"key": key, "socket": FOLDER / "munge.socket", "pid": FOLDER / "munged.pid", "log": FOLDER / "munged.log"}
    options = [f"--{name}-file={path}" for name, path in files.items() if name != "socket"]
    run("munged", *options, f"--socket={files['socket']}", f"--seed-file={FOLDER}/munge.seed")


def _accounting() -> None:
    password = secrets.token_hex(16)
    data = FOLDER / "database"
    run("mariadb-install-db", "--no-defaults", f"--datadir={data}", "--user=root", "--skip-test-db",
        "--auth-root-authentication-method=socket")  # fmt: skip
    options = ["--no-defaults", "--user=root", f"--datadir={data}", f"--socket={FOLDER}/database.socket"]
    options += [f"--pid-file={FOLDER}/mariadbd.pid", "--bind-address=127.0.0.1", f"--port={PORTS['database_port']}"]
    options += ["--skip-name-resolve", "--innodb-flush-log-at-trx-commit=0", "--innodb-lock-wait-timeout=900"]
    with open(FOLDER / "mariadbd.log", "w") as log:
        subprocess.Popen(
            ["mariadbd", *options], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    client = ["--no-defaults", f"--socket={FOLDER}/database.socket"]
    until(lambda: run("mariadb-admin", *client, "ping", check=False).returncode == 0, 60, "MariaDB")
    run("mariadb", *client, stdin=DATABASE.format(password=password))
    conf = FOLDER / "slurmdbd.conf"
    conf.touch(mode=0o600)
    conf.write_text(ACCOUNTING.format(folder=FOLDER, password=password, **PORTS))
    start_daemon("slurmdbd")
    run("sacctmgr", "-Qi", "add", "cluster", "test")
    run("sacctmgr", "-Qi", "add", "account", ACCOUNT, "cluster=test", "Description=tests", "Organization=tests")
    run("sacctmgr", "-Qi", "add", "user", "root", f"account={ACCOUNT}", "cluster=test", check=False)


def start_daemon(name: str) -> None:
    """Start slurmctld or slurmdbd and wait until it answers."""
    answers = {"slurmctld": ("scontrol", "ping"), "slurmdbd": ("sacctmgr", "-n", "list", "cluster")}[name]
    _daemon(name)
    until(lambda: run(*answers, check=False).returncode == 0, 60, name)


def _daemon(*command: str) -> None:
    """Start a daemon, which goes to the background; it finds its files beside SLURM_CONF."""
    subprocess.run(command, env={**os.environ, "SLURM_CONF": str(FOLDER / "slurm.conf")}, check=True)


def revive(node: str) -> None:
    """Start a node's daemon, whose state the controller then requests."""
    _daemon("slurmd", "-N", node)


def crash(node: str) -> None:
    """Kill a node's daemon and all its jobs' processes, without notice to the controller."""
    pids = list(_job_processes(node))
    parents = {int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]) for pid in pids}
    hang(node)
    for pid in [*(pid for pid in parents if _program(pid) == "slurmstepd"), *pids]:
        _kill(pid, signal.SIGKILL)


def hang(node: str) -> None:
    """Kill only a node's daemon: its jobs keep running, unknown to the controller."""
    _end(f"slurmd.{node}", signal.SIGKILL)


def restart(daemon: str, seconds: float = 0) -> None:
    """Stop slurmctld or slurmdbd, and start it again after `seconds`."""
    _end(daemon)
    time.sleep(seconds)
    start_daemon(daemon)


def stop() -> None:
    """Stop everything that `start` started and every job, and remove its files."""
    if (FOLDER / "slurmctld.pid").exists():
        run("timeout", "10", "scancel", "--user=root", check=False)
    for node in NODES:
        _end(f"slurmd.{node}", signal.SIGKILL)
        for pid in list(_job_processes(node)):
            _kill(pid, signal.SIGKILL)
    for daemon in ("slurmctld", "slurmdbd", "mariadbd", "munged"):
        _end(daemon)
    if CONF.is_symlink() and CONF.readlink() == FOLDER / "slurm.conf":
        CONF.unlink()
    hosts = Path("/etc/hosts").read_text().splitlines(keepends=True)
    if any("# vlret-slurm" in line for line in hosts):
        Path("/etc/hosts").write_text("".join(line for line in hosts if "# vlret-slurm" not in line))
    shutil.rmtree(FOLDER, ignore_errors=True)


def _job_processes(node: str) -> Iterator[int]:
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            variables = path.read_bytes().split(b"\0")
        except OSError:  # the process has ended, or is not ours
            continue
        if f"SLURMD_NODENAME={node}".encode() in variables:
            yield int(path.parent.name)


def _program(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _kill(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _end(daemon: str, number: signal.Signals = signal.SIGTERM) -> None:
    """Signal the daemon of a pid file, if the pid is still its own, and wait until it is gone."""
    file = FOLDER / f"{daemon}.pid"
    if not file.exists():
        return
    pid, name = int(file.read_text()), daemon.partition(".")[0]
    if _program(pid) != name:
        return
    _kill(pid, number)
    until(lambda: _program(pid) != name or _state(pid) == "Z", 30, f"end of {daemon}")


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


if __name__ == "__main__":
    _, verb, *rest = sys.argv
    {"start": start, "stop": stop, "crash": crash, "hang": hang, "revive": revive, "restart": restart}[verb](*rest)
