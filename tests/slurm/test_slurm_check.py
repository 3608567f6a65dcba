"""`vlret cluster check` on a real Slurm: it finds the mistakes of a profile before a run does."""

import shutil
import subprocess
import sys
import time

import pytest
import yaml
from test_pipeline import ROOT

pytestmark = [pytest.mark.slurm, pytest.mark.slow]


@pytest.fixture
def check(cluster, tmp_path):
    """A function that checks a changed copy of the shipped profile: exit code, output and error."""

    def run(change=lambda profile: None):
        shutil.copytree(ROOT / "profiles" / "slurm", tmp_path / "slurm", dirs_exist_ok=True)
        path = tmp_path / "slurm" / "config.yaml"
        profile = yaml.safe_load(path.read_text())
        change(profile)
        path.write_text(yaml.safe_dump(profile))
        command = [sys.executable, "-m", "vlret", "cluster", "check"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert not list(tmp_path.glob(".vlret*"))
        return done.returncode, done.stdout, done.stderr

    return run


def test_the_shipped_profile_fits_in_seconds(check):
    start = time.monotonic()
    code, output, error = check()
    assert time.monotonic() - start < 20
    assert (code, error) == (0, "")
    assert "wrong" not in output
    lines = dict(
        line[6:].split(maxsplit=1) for line in output.splitlines() if not line.startswith(("ok    rule", "ok    node"))
    )
    assert lines["partitions"] == "cpu, gpu"
    assert lines["account"] == "project"
    assert "node of gpu             g1 imports vlret" in output
    assert "CUDA_VISIBLE_DEVICES=0" in output


@pytest.mark.parametrize(
    ("section", "key", "value", "line"),
    [
        (
            "default-resources",
            "slurm_partition",
            "batch",
            "batch does not exist; there are cpu, gpu, urgent: edit slurm_p",
        ),
        (
            "default-resources",
            "slurm_account",
            "theirs",
            "'theirs' is not yours; yours are project, root: edit slurm_account",
        ),
        ("set-resources", "embed", {"gres": "gpu:3", "slurm_partition": "gpu"}, "--gres=gpu:3"),
        ("set-resources", "embed", {"mem_mb": "90000 * attempt"}, "--mem=270000"),
        (None, "slurm-init-seconds-before-status-checks", 1500, "ended jobs are forgotten after 3600 s: set"),
    ],
)
def test_what_does_not_fit_is_named(check, section, key, value, line):
    def change(profile):
        (profile[section] if section else profile)[key] = value

    code, output, error = check(change)
    assert code == 1
    assert "does not fit this cluster yet" in error
    assert any(line in wrong for wrong in output.splitlines() if wrong.startswith("wrong"))


def test_requests_are_read_as_snakemake_reads_them(check):
    def change(profile):
        del profile["default-resources"]["slurm_account"]
        profile["default-resources"]["slurm_partition"] = "cpu,urgent"
        profile["set-resources"]["index"] = {"mem": "3GB", "runtime": "4h"}
        profile["set-resources"]["search"] = {"mem_mb": "min(1000 * attempt, 2500)"}

    code, output, error = check(change)
    assert (code, error) == (0, "")
    lines = dict(line[6:].split("  ", 1) for line in output.splitlines())
    assert lines["partitions"].strip() == "cpu, urgent, gpu"
    assert lines["account"].strip().startswith("none is named")
    assert "--mem=3000 --time=240" in lines["rule index"]
    assert "--mem=2500" in lines["rule search"]


def test_what_trainings_of_the_config_ask_for_is_tried(check, tmp_path):
    (tmp_path / "config").symlink_to(ROOT / "config")
    (tmp_path / "many.yaml").write_text("training: {tuning: {full: {gpus: 8}}}")

    def change(profile):
        profile["configfile"] = ["config/config.yaml", "many.yaml"]

    code, output, _ = check(change)
    assert code == 1
    (line,) = [line for line in output.splitlines() if line.startswith("wrong rule train")]
    assert "--gres=gpu:8" in line
    assert "edit train, `retries`, or gpus and nodes under `training`" in line


def test_a_folder_that_nodes_do_not_share_is_named(check, tmp_path, tmp_path_factory):
    """The check runs with another file system mounted over the folder, which the nodes do not see."""
    check()
    profile = tmp_path_factory.mktemp("profile") / "slurm"
    inside = f"mount -t tmpfs none {tmp_path} && cp -r {profile} {tmp_path}/slurm && cd {tmp_path}"
    shutil.copytree(tmp_path / "slurm", profile)
    command = ["unshare", "--mount", "bash", "-c", f"{inside} && {sys.executable} -m vlret cluster check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert f"wrong node of cpu             c1: files it writes to {tmp_path} are not visible here" in done.stdout, done
    assert "ok    partitions" in done.stdout
