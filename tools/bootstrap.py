"""Makes .venv with pip in it, on a machine that has Python >= 3.11, a C compiler and nothing else.

Standard library only: it runs before anything is installed. It picks an interpreter that has its
C headers, makes the environment, and where `ensurepip` is missing (Debian keeps it in the package
python3-venv) takes pip's wheel, its hash checked, from where pip is configured to look, or installs that package.

    python3 tools/bootstrap.py .venv
"""

from __future__ import annotations

import base64
import configparser
import hashlib
import html.parser
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

PIP_VERSION = "26.3"
PIP_SHA256 = "f3b60b20ffaadd4415ed7957212a38ac63fa4c5fa375bd0f4a797777940fad13"
PIP_WHEEL = f"pip-{PIP_VERSION}-py3-none-any.whl"
LOWEST = (3, 11)
CANDIDATES = ("python3", "python3.13", "python3.12", "python3.11", "/usr/bin/python3")

PROBE = """
import os, sys, sysconfig
if sys.version_info < (3, 11): sys.exit(1)
paths = sysconfig.get_paths()
headers = any(os.path.exists(os.path.join(paths[k], "Python.h")) for k in ("include", "platinclude"))
print("%d.%d" % sys.version_info[:2], int(headers), os.path.realpath(sys.executable))
"""


def say(message: str) -> None:
    """One line of progress."""
    print(f"rankd: {message}", flush=True)


def fail(message: str) -> None:
    """Ends with what is wrong and what to do about it."""
    raise SystemExit(f"rankd: {message}")


def probe(command: str) -> tuple[str, bool, str] | None:
    """(version, has headers, path) of an interpreter; None if it does not run or is too old."""
    try:
        done = subprocess.run([command, "-c", PROBE], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    version, headers, path = done.stdout.strip().split(" ", 2)
    return version, headers == "1", path


def choose_interpreter() -> str:
    """The first interpreter that is new enough and has Python.h; installs the headers where it may."""
    asked = os.environ.get("PYTHON")
    found = [p for p in map(probe, [asked] if asked else [sys.executable, *CANDIDATES]) if p]
    if not found:
        fail(
            f"PYTHON={asked} is not a Python {'.'.join(map(str, LOWEST))} or later"
            if asked
            else "no Python 3.11 or later found (tried " + ", ".join(CANDIDATES) + "); set PYTHON=/path/to/python"
        )
    for _, headers, path in found:
        if headers:
            return path
    version, _, path = found[0]
    install_packages([f"python{version}-dev"], f"{path} has no C headers (Python.h)")
    again = probe(path)
    if not again or not again[1]:
        fail(f"{path} still has no Python.h; install the headers of Python {version}, or set PYTHON to another one")
    return path


def require_compiler() -> None:
    """gcc must compile and link a hello world: Debian's gcc alone may lack the C library's headers."""
    compiler = os.environ.get("CC", "gcc")
    if compiles(compiler):
        return
    install_packages(["gcc", "libc6-dev"], f"{compiler} cannot compile a C program")
    if not compiles(compiler):
        fail(f"{compiler} still cannot compile a C program; set CC to a C11 compiler")


def compiles(compiler: str) -> bool:
    """Whether the command makes a program of a trivial source."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "probe.c")
        source.write_text('#include <stdio.h>\n#include <math.h>\nint main(void) { return puts("") < 0; }\n')
        try:
            command = [*compiler.split(), str(source), "-o", str(Path(folder, "probe"))]
            return subprocess.run(command, capture_output=True).returncode == 0
        except OSError:
            return False


def install_packages(packages: list[str], reason: str) -> None:
    """By apt-get if root; otherwise says what to install and ends."""
    names = " ".join(packages)
    apt = shutil.which("apt-get")
    if not apt or os.geteuid() != 0:
        fail(f"{reason}. On Debian or Ubuntu: sudo apt-get install {names}")
    say(f"{reason}: running apt-get install {names}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = [apt, "install", "-y", "-q", "--no-install-recommends", *packages]
    if subprocess.run(install, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode:
        # A fresh image has no package lists.
        subprocess.run([apt, "update", "-q"], env=environment, stdout=subprocess.DEVNULL)
        if subprocess.run(install, env=environment, stdout=subprocess.DEVNULL).returncode:
            fail(f"{reason}, and apt-get could not install {names}")


class Links(html.parser.HTMLParser):
    """The targets of a simple index page (PEP 503)."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.targets += [value for key, value in attrs if tag == "a" and key == "href" and value]


def pip_settings() -> dict[str, str]:
    """What the environment or pip's configuration files say of the index, as pip itself reads them."""
    files = [Path("/etc/xdg/pip/pip.conf"), Path("/etc/pip.conf"), Path("~/.pip/pip.conf")]
    files.append(Path(os.environ.get("XDG_CONFIG_HOME", "~/.config"), "pip/pip.conf"))
    files += [Path(os.environ["PIP_CONFIG_FILE"])] if "PIP_CONFIG_FILE" in os.environ else []
    parser = configparser.RawConfigParser()
    parser.read([path.expanduser() for path in files], encoding="utf-8")
    settings: dict[str, str] = {}
    for section in ("global", "install"):
        if parser.has_section(section):
            settings.update({key.replace("_", "-"): value for key, value in parser.items(section)})
    for key in ("index-url", "extra-index-url", "find-links", "cert", "no-index"):
        value = os.environ.get("PIP_" + key.upper().replace("-", "_"))
        if value:
            settings[key] = value
    return settings


def open_url(url: str, settings: dict[str, str]) -> bytes:
    """The content of a URL; user and password in it are sent as basic authentication."""
    parts = urllib.parse.urlsplit(url)
    headers = {"Accept": "text/html, */*;q=0.5", "User-Agent": "rankd-bootstrap"}
    if parts.username is not None:
        secret = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
        headers["Authorization"] = "Basic " + base64.b64encode(secret.encode()).decode()
        host = parts.hostname or ""
        url = urllib.parse.urlunsplit(parts._replace(netloc=f"{host}:{parts.port}" if parts.port else host))
    context = ssl.create_default_context(cafile=Path(settings["cert"]).expanduser() if "cert" in settings else None)
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=60, context=context) as reply:
        return reply.read()


def pages(settings: dict[str, str]) -> list[str]:
    """Where to look for pip's wheel, in order."""
    found = [
        place if "://" in place else Path(place).resolve().as_uri()
        for place in os.path.expandvars(settings.get("find-links", "")).split()
    ]
    if settings.get("no-index", "").lower() not in ("1", "true", "yes", "on"):
        indexes = [*settings.get("index-url", "").split(), *settings.get("extra-index-url", "").split()]
        found += [index.rstrip("/") + "/pip/" for index in indexes]
    return found


def wheel_url(page: str, settings: dict[str, str]) -> str | None:
    """The URL of the pinned wheel on an index page or in a folder; None if it is not there."""
    if page.startswith("file:"):
        folder = Path(urllib.request.url2pathname(urllib.parse.urlsplit(page).path))
        if (folder / PIP_WHEEL).exists():
            return (folder / PIP_WHEEL).as_uri()
        if folder.is_dir() and not (folder / "index.html").exists():
            return None
        if folder.is_dir():
            page = (folder / "index.html").as_uri()
    links = Links()
    links.feed(open_url(page, settings).decode("utf-8", "replace"))
    for target in links.targets:
        url = urllib.parse.urljoin(page, target)
        if urllib.parse.urlsplit(url).path.rsplit("/", 1)[-1] == PIP_WHEEL:
            return urllib.parse.urldefrag(url).url
    return None


def fetch_pip(folder: Path) -> Path | None:
    """The pinned wheel of pip from the configured places, its SHA-256 checked; None if none has it."""
    settings = pip_settings()
    for page in pages(settings):
        try:
            url = wheel_url(page, settings)
            content = open_url(url, settings) if url else b""
        except (OSError, urllib.error.URLError):
            continue
        if hashlib.sha256(content).hexdigest() == PIP_SHA256:
            say(f"this Python has no ensurepip: using {PIP_WHEEL} from the configured package index")
            wheel = folder / PIP_WHEEL
            wheel.write_bytes(content)
            return wheel
    return None


def has_pip(python: Path) -> bool:
    """Whether the environment has pip, now that ensurepip has been asked for it."""
    bundled = [str(python), "-m", "ensurepip", "--default-pip"]
    return subprocess.run(bundled, capture_output=True).returncode == 0


def install_pip(python: Path) -> None:
    """pip from ensurepip where Python has it, else from where pip is told to look, else with Debian's package."""
    if not has_pip(python):
        with tempfile.TemporaryDirectory() as folder:
            wheel = fetch_pip(Path(folder))
            if wheel is not None:
                # A wheel is a zip file that Python can run: pip installs itself.
                subprocess.run([str(python), f"{wheel}/pip", "install", "-qq", "--no-index", str(wheel)], check=True)
                return
        found = probe(str(python))
        install_packages([f"python{found[0]}-venv" if found else "python3-venv"], "this Python has no ensurepip")
        if not has_pip(python):
            fail("this Python still has no ensurepip; set PYTHON to another one")
    subprocess.run([str(python), "-m", "pip", "install", "-qq", f"pip=={PIP_VERSION}"], check=True)


def main() -> None:
    """Makes the environment named on the command line, anew if it is there."""
    if len(sys.argv) != 2:
        fail("usage: python3 tools/bootstrap.py VENV")
    venv = Path(sys.argv[1]).absolute()
    require_compiler()
    interpreter = choose_interpreter()
    say(f"making {venv.name} with {interpreter}")
    subprocess.run([interpreter, "-m", "venv", "--clear", "--without-pip", str(venv)], check=True)
    install_pip(venv / "bin" / "python")


if __name__ == "__main__":
    main()
