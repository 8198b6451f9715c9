"""Real runs in processes of their own, killed where a test wants them to be."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def attempts(tmp_path: Path, tiny_directory: Path, clippy_environment: dict[str, str]) -> Callable[..., list[Any]]:
    """Run training several times, one after the other, on the tiny model and shapes.

    ``attempts({"set": ["run.steps=4"], "processes": 2, "kill": [1, 3, "step"]}, {"resume": "auto"})`` runs twice; in
    the first, process 1 gets SIGKILL after step 3 (``"save"``: while it saves after it). Returns the exit codes of
    every process of every attempt, negative for a signal. Samples seen lie in ``samples-RANK.jsonl``.
    """

    def run(*wanted: dict[str, Any], timeout: float = 240) -> list[list[int]]:
        common = ["data.workers=0", "run.device='cpu'", f"run.out='{tmp_path}'", f"model.name='{tiny_directory}'"]
        plans = [{**plan, "set": [*common, *plan.get("set", [])]} for plan in wanted]
        done = subprocess.run(
            [sys.executable, str(Path(__file__).with_name("driver.py")), json.dumps(plans)],
            env=clippy_environment | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            cwd=tmp_path,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        (tmp_path / "stderr.txt").write_bytes(done.stderr)
        return json.loads(done.stdout.splitlines()[-1])

    return run
