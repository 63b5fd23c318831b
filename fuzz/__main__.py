"""Run targets, each in a process of its own: `python -m fuzz 15`, `python -m fuzz 600 conditions`.

An input that fails stays in fuzz/found, and the screen shows its traceback. Needs atheris (`make fuzz` has it).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

FOUND = Path(__file__).parent / "found"
_RSS_MEGABYTES = 2048
_HANG_SECONDS = 20
"""By the wall: what takes long by the processor is found by the target itself."""


def main(arguments: list[str]) -> int:
    """Fuzz the named targets, or all, for so many seconds each; return how many of them failed."""
    from fuzz.every import TARGETS  # noqa: PLC0415 - the process that fuzzes imports it instrumented

    seconds, names = int(arguments[0]), arguments[1:] or list(TARGETS)
    failed = [name for name in names if _fuzz(name, seconds)]
    for name in failed:
        print(f"{name}: failed; the input is in {FOUND}")
    return len(failed)


def _fuzz(name: str, seconds: int) -> int:
    print(f"{name}: {seconds} s", flush=True)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as directory:
        command = [sys.executable, "-m", "fuzz", "--in-process", name, directory, f"-max_total_time={seconds}"]
        return subprocess.run([*command, f"{directory}/corpus"], check=False).returncode


def fuzz_here(name: str, directory: Path, *options: str) -> None:
    """Fuzz one target in this process, which ends with that."""
    import atheris  # noqa: PLC0415 - it is there in the environment for fuzzing alone

    with redirect_stderr(StringIO()), atheris.instrument_imports(include=["policy_engine"]):
        from fuzz.every import TARGETS  # noqa: PLC0415 - the same

    target = TARGETS[name]
    FOUND.mkdir(exist_ok=True)
    corpus, words = directory / "corpus", directory / "words"
    corpus.mkdir()
    for number, seed in enumerate(target.seeds()):
        (corpus / str(number)).write_bytes(seed)
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in target.words), encoding="ascii")
    always = [
        f"-max_len={target.longest}",
        f"-timeout={_HANG_SECONDS}",
        f"-rss_limit_mb={_RSS_MEGABYTES}",
        f"-artifact_prefix={FOUND}/{name}-",
        f"-dict={words}",
        "-print_final_stats=1",
        "-verbosity=0",
    ]
    atheris.Setup([sys.argv[0], *always, *options], target.run)
    atheris.Fuzz()


def _escaped(word: str) -> str:
    """Return a word as libFuzzer's dictionaries have it."""
    return "".join(f"\\x{byte:02x}" for byte in word.encode("utf-8", "surrogatepass"))


if __name__ == "__main__":
    if sys.argv[1] == "--in-process":
        fuzz_here(sys.argv[2], Path(sys.argv[3]), *sys.argv[4:])
    else:
        sys.exit(main(sys.argv[1:]))
