"""CML's own program, where there is one: `CML_BIN`, or `cml` on the path. Standard library only.

It gets a home and a global git configuration of its own, for it writes there, and is never the only way: whoever calls
this can do without.
"""

import os
import shutil
import subprocess
from pathlib import Path


def program() -> str | None:
    return os.environ.get("CML_BIN") or shutil.which("cml")


def ran(home: Path, folder: Path, *arguments: str) -> bool:
    """Whether it is here and did as it was told, in this folder."""
    found = program()
    if not found:
        return False
    server = os.environ.get("GITHUB_SERVER_URL", "https://github.com")
    repository = f"--repo={server}/{os.environ.get('GITHUB_REPOSITORY', '')}"
    environment = os.environ | {"HOME": str(home), "GIT_CONFIG_GLOBAL": str(home / ".gitconfig")}
    environment |= {"ITERATIVE_DO_NOT_TRACK": "1"}
    command = [str(Path(found).resolve()), *arguments, repository]
    try:
        done = subprocess.run(command, env=environment, cwd=folder, timeout=120, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        print(f"::warning::CML did not do it ({error}); going on without it.")
        return False
    if done.returncode:
        print(f"::warning::CML ended with {done.returncode}; going on without it.")
    return done.returncode == 0
