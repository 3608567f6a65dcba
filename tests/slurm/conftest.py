"""The cluster, up for all tests of this folder, and a finished run without it to compare with."""

import pytest
import slurm_cluster
from slurm_run import TABLE, Repository, tiny, without_training

RECOVERED: list[tuple[str, float]] = []


@pytest.fixture(scope="session")
def cluster():
    """The module that plays the faults, its cluster up."""
    if why := slurm_cluster.missing():
        pytest.skip(f"no Slurm here: {why}")
    slurm_cluster.start()
    yield slurm_cluster
    slurm_cluster.stop()


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A repository in which `snakemake --cores 2 results/table.tex` was typed."""
    folder = tmp_path_factory.mktemp("finished") / "repository"
    folder.mkdir()
    tiny(folder)
    repository = Repository(folder)
    repository.begin(f"snakemake --cores 2 {TABLE}")
    repository.end()
    return repository


@pytest.fixture
def untrained(cluster, finished, tmp_path):
    """A copy of the finished one that lacks its trained model and all that hangs on it, on the cluster."""
    repository = without_training(finished, tmp_path / "repository")
    yield repository
    repository.close()


@pytest.fixture
def recovered():
    """Note how many seconds a fault cost, for the summary."""
    return lambda fault, seconds: RECOVERED.append((fault, seconds))


def pytest_terminal_summary(terminalreporter):
    """Print what each fault cost."""
    if RECOVERED:
        terminalreporter.section("seconds from the fault until the work went on")
    for fault, seconds in RECOVERED:
        terminalreporter.write_line(f"{seconds:6.1f} s  {fault}")
