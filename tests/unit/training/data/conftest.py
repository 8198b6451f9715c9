import io
import tarfile

import numpy as np
import pytest
from PIL import Image


def jpeg(seed, size=(40, 48)):
    """A small picture with texture."""
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("CLIPPY_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def write_shard():
    """Write a tar file of pictures and captions: ``write_shard(path, [(key, caption), …])``."""

    def write(path, samples):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, "w") as archive:
            for number, (key, caption) in enumerate(samples):
                for extension, data in (("jpg", jpeg(number)), ("txt", caption.encode())):
                    member = tarfile.TarInfo(f"{key}.{extension}")
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
        return path

    return write
