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
