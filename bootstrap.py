"""Makes .venv: pinned packages from requirements.lock, then Darkroom itself. Run by `make`; a second run is instant.

This file alone must be readable by any Python, so that an old one can be told apart with one line.
"""

from __future__ import print_function

import hashlib
import os
import subprocess
import sys

OLDEST = (3, 11)
NEWER = ("python3.14", "python3.13", "python3.12", "python3.11")
ROOM_MIB = 1500
HERE = os.path.dirname(os.path.abspath(__file__))
FOLDER = os.path.join(HERE, ".venv")
STAMP = os.path.join(FOLDER, "darkroom.stamp")
LOG = os.path.join(FOLDER, "setup.log")
LOCK = os.path.join(HERE, "requirements.lock")
# Variables with which pip or Python would put packages somewhere else.
MISLEADING = ("PIP_TARGET", "PIP_PREFIX", "PIP_USER", "PIP_ROOT", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")


def fail(line):
    sys.stderr.write("setup: " + line + "\n")
    sys.exit(1)


def use_new_enough_python():
    if sys.version_info[:2] >= OLDEST:
        return
    for name in NEWER:
        for folder in os.environ.get("PATH", "").split(os.pathsep):
            path = os.path.join(folder, name)
            # Version managers leave stubs that run nothing: ask before handing over.
            if os.access(path, os.X_OK) and subprocess.call([path, "-c", ""], stderr=subprocess.PIPE) == 0:
                os.execv(path, [path] + sys.argv)
    fail(
        "Python {0}.{1} or newer is needed and {2} is {3}.{4}; install it, or run make PYTHON=/path/to/python3".format(
            OLDEST[0], OLDEST[1], sys.executable, sys.version_info[0], sys.version_info[1]
        )
    )


def wanted_stamp():
    digest = hashlib.sha256(sys.version.encode() + HERE.encode())
    for name in ("requirements.lock", "pyproject.toml", "bootstrap.py"):
        with open(os.path.join(HERE, name), "rb") as file:
            digest.update(file.read())
    return digest.hexdigest()


def is_current(stamp):
    try:
        with open(STAMP) as file:
            return file.read() == stamp and os.access(program("darkroom"), os.X_OK)
    except (IOError, OSError):
        return False


def program(name):
    return os.path.join(FOLDER, "bin", name)


def make_folder():
    import shutil

    try:
        import ensurepip  # noqa: F401
        import venv
    except ImportError:
        fail(
            "this Python cannot make virtual environments; install its venv module "
            "(Debian and Ubuntu: apt install python{0}.{1}-venv)".format(*sys.version_info[:2])
        )
    if shutil.disk_usage(HERE).free < ROOM_MIB << 20 and not os.path.exists(FOLDER):
        fail("{0} MiB of disk are needed in {1}; free some".format(ROOM_MIB, HERE))
    try:
        with open(os.path.join(FOLDER, "pyvenv.cfg")) as file:
            same = "version = {0}.{1}.".format(*sys.version_info[:2]) in file.read()
    except (IOError, OSError):
        same = False
    if not same or not os.access(program("python"), os.X_OK):
        print("making .venv", flush=True)
        venv.EnvBuilder(with_pip=True, clear=True, symlinks=True).create(FOLDER)


def run(arguments, total=0):
    """Run pip, counting what it collects; its whole output is in the log."""
    import re

    environment = {name: value for name, value in os.environ.items() if name not in MISLEADING}
    environment["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
    environment["PIP_NO_INPUT"] = "1"
    command = [program("python"), "-m", "pip", "install", "--no-color", "--progress-bar", "off"] + arguments
    problem = ""
    count = 0
    with open(LOG, "a") as log, subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, cwd=HERE, universal_newlines=True
    ) as pip:
        for line in pip.stdout:
            log.write(line)
            if "No space left" in line:
                problem = "no disk space is left in {0}; free {1} MiB".format(HERE, ROOM_MIB)
            elif "connection broken" in line:
                problem = "the packages cannot be fetched; check the network and try again"
            elif line.startswith("ERROR:") and not problem:
                problem = line[6:].strip()
            count += bool(re.match("(Collecting|Requirement already)", line))
            if total and re.match("Collecting", line) and count % 20 == 0:
                print("fetching packages: {0} of {1}".format(min(count, total), total), flush=True)
            elif line.startswith("Installing collected"):
                print("installing packages", flush=True)
    if pip.returncode != 0:
        fail("{0} (all of it: {1})".format(problem or "pip failed", LOG))


def main():
    use_new_enough_python()
    stamp = wanted_stamp()
    if is_current(stamp):
        return
    try:
        make_folder()
        with open(LOCK) as file:
            total = sum("==" in line for line in file)
        run(["--require-hashes", "--prefer-binary", "--requirement", LOCK], total)
        run(["--no-deps", "--no-build-isolation", "--editable", HERE])
        with open(STAMP, "w") as file:
            file.write(stamp)
    except (IOError, OSError, subprocess.CalledProcessError) as error:
        fail("{0} cannot be made: {1}".format(FOLDER, error))
    print("ready: .venv/bin/darkroom", flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
