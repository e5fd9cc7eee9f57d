"""The small commands: data on standard output, light to start, true to what is installed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from small_study import prill

from prill.recipe import json_schema


def test_help_loads_no_heavy_package() -> None:
    heavy = ["numpy", "pyarrow", "numba", "torch", "pydantic", "tokenizers", "jinja2", "safetensors"]
    code = (
        "import sys; sys.argv = ['prill', '--help']\n"
        "from prill.cli import main\n"
        "try: main()\n"
        "except SystemExit as stop: assert stop.code == 0\n"
        f"print([name for name in {heavy} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    commands = "run prepare plan demo why methods report verify schema doctor"
    for command in commands.split():
        assert command in done.stdout


def test_the_schema_is_printed_as_json() -> None:
    assert json.loads(prill("schema").stdout) == json.loads(json.dumps(json_schema()))


def test_methods_lists_and_describes() -> None:
    assert {"dsir", "random"} <= {line.partition(":")[0] for line in prill("methods").stdout.splitlines()}
    page = prill("methods", "dsir").stdout
    assert "2302.03169" in page
    assert "n_buckets" in page


def test_doctor_tells_the_machine() -> None:
    told = prill("doctor").stdout
    assert "memory" in told
    assert "pyarrow" in told


def test_plan_writes_nothing_and_tells_what_will_be_needed(study: Path) -> None:
    before = sorted(study.parent.rglob("*"))
    told = prill("plan", study).stdout
    assert sorted(study.parent.rglob("*")) == before
    for word in ("pool", "tokens", "budget", "proof", "disk", "memory", "time"):
        assert f"\n{word} " in f"\n{told}"
    assert "6 trials" in told
