"""Model and dataset repositories of the Hugging Face hub, pinned to a revision."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from vlret.console import say
from vlret.files import InputError, remove, sha256, whole

# What a text encoder is loaded from; weights of other frameworks and quantised ones are left where they are.
SAFE = ("model.safetensors", "open_clip_model.safetensors")
WANTED = ("*.json", "*.txt", "*.model", "*_Dense/model.safetensors", *SAFE)
PICKLED = ("pytorch_model.bin", "open_clip_pytorch_model.bin", "*_Dense/pytorch_model.bin")


def fetch_repository(repository: str, revision: str, out: Path) -> None:
    """Fetch what a text encoder is loaded from into the folder `out`, and check every file that the hub has sums of.

    Parameters
    ----------
    repository
        Such as `google-t5/t5-base`.
    revision
        A commit, or a branch or tag, whose commit is then said.

    Raises
    ------
    InputError
        If the hub cannot be reached, has no such repository or revision, or a file is not as the hub describes it.
    """
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled
    from huggingface_hub.utils import filter_repo_objects

    try:
        described = HfApi().model_info(repository, revision=revision, files_metadata=True)
        files = {file.rfilename: file for file in described.siblings}
        safe = any(name in files for name in SAFE)
        wanted = sorted(filter_repo_objects(files, allow_patterns=[*WANTED, *(() if safe else PICKLED)]))
        with whole(out) as aside:
            for name in wanted:
                hf_hub_download(repository, name, revision=described.sha, local_dir=aside)
                _check(aside / name, files[name], repository)
            remove(aside / ".cache")  # the hub's notes of what was fetched when
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{repository} at {revision}: cannot be fetched from the hub: {reason}") from error
    total = sum((out / name).stat().st_size for name in wanted)
    say(f"{repository} at {described.sha}: {len(wanted)} files, {total / 1e6:.1f} MB")


class Remote(NamedTuple):
    """A file that can be fetched; its size and SHA-256 are None where nobody tells them."""

    url: str
    bytes: int | None
    sha256: str | None
    headers: Mapping[str, str]


def describe_dataset(repository: str, revision: str) -> tuple[str, dict[str, Remote]]:
    """The commit of a dataset repository at a revision, and all its files by name.

    The hub tells the SHA-256 of files in large file storage alone. Raises `InputError` if the hub cannot be reached, or
    has no such repository or revision.
    """
    from huggingface_hub import HfApi, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
    from huggingface_hub.utils import build_hf_headers

    try:
        described = HfApi().dataset_info(repository, revision=revision, files_metadata=True)
    except (HfHubHTTPError, OfflineModeIsEnabled, OSError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{repository} at {revision}: cannot be fetched from the hub: {reason}") from error
    headers, files = build_hf_headers(), {}
    for file in described.siblings:
        url = hf_hub_url(repository, file.rfilename, repo_type="dataset", revision=described.sha)
        files[file.rfilename] = Remote(url, file.size, file.lfs.sha256 if file.lfs else None, headers)
    return described.sha, files


def _check(path: Path, described, repository: str) -> None:
    """Compare a file's size, and where the hub tells it the SHA-256, with what the hub says."""
    if not path.is_file() or path.stat().st_size != described.size:
        raise InputError(f"{repository}: {path.name} did not come whole; fetch it again")
    if described.lfs is not None and sha256(path) != described.lfs.sha256:
        raise InputError(f"{repository}: {path.name} has another checksum than the hub says; fetch it again")
