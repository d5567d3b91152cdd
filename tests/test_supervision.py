"""Processes that live and end together: exit codes, signals, and that none is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from romvae.errors import RankLostError, RomvaeError
from romvae.supervision import Family

HEAD = "import os, sys, time, signal; rank = int(os.environ['RANK']); "


def _family(code: str, size: int = 2) -> Family:
    return Family([sys.executable, "-c", HEAD + code], size, lambda: "Continue like this.")


def test_each_process_knows_its_place_and_its_share_of_the_cores(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    names = "RANK WORLD_SIZE LOCAL_RANK LOCAL_WORLD_SIZE MASTER_ADDR OMP_NUM_THREADS"
    write = f"open(r'{tmp_path}/' + str(rank), 'w').write(' '.join(os.environ[n] for n in '{names}'.split()))"
    assert _family(write, 3).run() == 0
    threads = max(1, len(os.sched_getaffinity(0)) // 3)
    assert [(tmp_path / str(k)).read_text() for k in range(3)] == [f"{k} 3 {k} 3 127.0.0.1 {threads}" for k in range(3)]


def test_only_the_first_process_is_heard(capfd):
    assert _family("print(rank); print(rank, file=sys.stderr)").run() == 0
    assert capfd.readouterr() == ("0\n", "0\n")


def test_where_the_first_process_fails_its_exit_code_is_that_of_all(capfd):
    assert _family("print('error: bad data', file=sys.stderr) if rank == 0 else None; sys.exit(3)").run() == 3
    assert capfd.readouterr().err == "error: bad data\n"


def test_what_another_process_says_as_it_fails_is_said_once_with_its_exit_code():
    code = "(print('warning: a\\nerror: full', file=sys.stderr), sys.exit(5)) if rank == 1 else sys.exit(7)"
    with pytest.raises(RomvaeError, match=r"^process 1 of 2: full$") as caught:
        _family(code).run()
    assert caught.value.exit_code == 5


def test_a_killed_process_is_one_error_that_says_how_to_continue_and_the_others_end(monkeypatch, tmp_path):
    monkeypatch.setattr("romvae.supervision.PATIENCE", 0.2)
    write = f"open(r'{tmp_path}/' + str(rank), 'w').write(str(os.getpid())); "
    with pytest.raises(RankLostError, match=r"process 1 of 3 was ended by SIGKILL .* Continue like this\.") as caught:
        _family(write + "os.kill(os.getpid(), 9) if rank == 1 else time.sleep(60)", 3).run()
    assert caught.value.exit_code == 7
    for rank in (0, 2):
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / str(rank)).read_text()), 0)


def test_those_that_only_found_the_others_gone_are_not_blamed():
    with pytest.raises(RankLostError, match="process 1 of 2 was ended by SIGKILL"):
        _family("(time.sleep(0.3), os.kill(os.getpid(), 9)) if rank == 1 else sys.exit(7)").run()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGUSR1, 138)])
def test_a_signal_goes_on_to_every_process_once(tmp_path, number, code):
    body = f"""
import os, signal, sys, time
rank, seen = os.environ["RANK"], []
signal.signal({int(number)}, lambda n, f: seen.append(n))
open(r"{tmp_path}/ready" + rank, "w").close()
for _ in range(600):
    time.sleep(0.05)
    if seen:
        break
time.sleep(0.3)
open(r"{tmp_path}/seen" + rank, "w").write(str(len(seen)))
sys.exit(128 + seen[0])
"""
    before = signal.getsignal(number)

    def send() -> None:
        while not all((tmp_path / f"ready{k}").exists() for k in (0, 1)):
            time.sleep(0.02)
        os.kill(os.getpid(), number)

    threading.Thread(target=send, daemon=True).start()
    assert Family([sys.executable, "-c", body], 2, lambda: "").run() == code
    assert [(tmp_path / f"seen{k}").read_text() for k in (0, 1)] == ["1", "1"]
    assert signal.getsignal(number) is before


def test_processes_end_in_good_order_when_their_supervisor_is_killed(tmp_path):
    body = f"""
import os, signal, sys, time
from romvae.supervision import end_with_supervisor
rank = os.environ["RANK"]
def ask(n, f):
    open(r"{tmp_path}/ended" + rank, "w").close()
    sys.exit(143)
signal.signal(signal.SIGTERM, ask)
end_with_supervisor()
open(r"{tmp_path}/ready" + rank, "w").close()
time.sleep(60)
"""
    start = f"from romvae.supervision import Family; import sys; Family([sys.executable, '-c', {body!r}], 2, str).run()"
    supervisor = subprocess.Popen([sys.executable, "-c", start], cwd=Path(__file__).parents[1])
    _until(lambda: all((tmp_path / f"ready{k}").exists() for k in (0, 1)))
    supervisor.kill()
    supervisor.wait()
    _until(lambda: all((tmp_path / f"ended{k}").exists() for k in (0, 1)))


def _until(there) -> None:
    for _ in range(2000):
        if there():
            return
        time.sleep(0.02)
    raise AssertionError("waited in vain")
