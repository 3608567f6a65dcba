"""A running cluster for the tests of this folder, and a finished run without it for comparison."""

import pytest
import slurm_cluster
from slurm_run import TABLE, Repository, tiny, without_training

RECOVERED: list[tuple[str, float]] = []


@pytest.fixture(scope="session")
def cluster():
    """The module that injects faults, with its cluster running."""
    if why := slurm_cluster.missing():
        pytest.skip(f"no Slurm: {why}")
    slurm_cluster.start()
    yield slurm_cluster
    slurm_cluster.stop()


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A repository in which `snakemake --cores 2 results/table.tex` was run."""
    folder = tmp_path_factory.mktemp("finished") / "repository"
    folder.mkdir()
    tiny(folder)
    repository = Repository(folder)
    repository.begin(f"snakemake --cores 2 {TABLE}")
    repository.end()
    return repository


@pytest.fixture
def untrained(cluster, finished, tmp_path):
    """A copy of `finished` without its trained model and everything that depends on it, on the cluster."""
    repository = without_training(finished, tmp_path / "repository")
    yield repository
    repository.close()


@pytest.fixture
def recovered():
    """Record the seconds that a fault cost, for the summary."""
    return lambda fault, seconds: RECOVERED.append((fault, seconds))


def pytest_terminal_summary(terminalreporter):
    """Print what each fault cost."""
    if RECOVERED:
        terminalreporter.section("seconds from the fault until work resumed")
    for fault, seconds in RECOVERED:
        terminalreporter.write_line(f"{seconds:6.1f} s  {fault}")
