"""Model and dataset repositories of the Hugging Face hub, pinned to a revision."""

from collections.abc import Iterable
from pathlib import Path

from vlret.data.pinned import Remote, bring
from vlret.files import InputError

# What a text encoder is loaded from; weights of other frameworks and quantised ones are not fetched.
SAFE = ("model.safetensors", "open_clip_model.safetensors")
WANTED = ("*.json", "*.txt", "*.model", "*_Dense/model.safetensors", *SAFE)
PICKLED = ("pytorch_model.bin", "open_clip_pytorch_model.bin", "*_Dense/pytorch_model.bin")


def fetch_repository(repository: str, revision: str, out: Path) -> None:
    """Fetch the files of an encoder into the folder `out`, by `vlret.data.pinned.bring`.

    Parameters
    ----------
    repository
        A model, such as `google-t5/t5-base`.
    revision
        A commit, or a branch or tag, whose commit is recorded and used from then on.
    out
        The folder to write; files already fetched are not fetched again.

    Raises
    ------
    InputError
        If the hub cannot be reached, has no such repository or revision, or a file is not as the hub describes it.
    """
    told = {"repository": repository, "revision": revision}
    bring(told, lambda commit: describe_repository(repository, commit or revision, "model"), _weights, {}, out)


def _weights(files: Iterable[str]) -> list[tuple[str, str]]:
    """The files needed of a model; pickled weights only if there are no others."""
    from huggingface_hub.utils import filter_repo_objects

    safe = any(name in files for name in SAFE)
    wanted = filter_repo_objects(files, allow_patterns=[*WANTED, *(() if safe else PICKLED)])
    return [(name, name) for name in sorted(wanted)]


def describe_repository(repository: str, revision: str, kind: str) -> tuple[str, dict[str, Remote]]:
    """The commit of a repository at a revision, and all its files by name; `kind` is `model` or `dataset`.

    The hub gives the SHA-256 only of files in large file storage. Raises `InputError` if the hub cannot be reached, or
    has no such repository or revision.
    """
    from huggingface_hub import HfApi, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
    from huggingface_hub.utils import build_hf_headers

    try:
        described = HfApi().repo_info(repository, revision=revision, repo_type=kind, files_metadata=True)
    except (HfHubHTTPError, OfflineModeIsEnabled, OSError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{repository} at {revision}: cannot be fetched from the hub: {reason}") from error
    headers, files = build_hf_headers(), {}
    for file in described.siblings:
        url = hf_hub_url(repository, file.rfilename, repo_type=kind, revision=described.sha)
        files[file.rfilename] = Remote(url, file.size, file.lfs.sha256 if file.lfs else None, headers)
    return described.sha, files
