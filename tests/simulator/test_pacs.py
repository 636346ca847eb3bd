import os
import signal
import subprocess
import sys
from pathlib import Path

from overread.simulator.instances import make_instances, write
from overread.simulator.pacs import counts
from overread.simulator.scanner import Peer, echo, send
from tests.simulator.test_instances import oblique, order


def test_it_runs_as_a_process(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "overread.simulator.pacs", "--port", "0"]
    command += ["--folder", str(tmp_path / "pacs"), "--ae-title", "ARCHIVE"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline().rpartition(" ")[2])
            peer = Peer("127.0.0.1", port, "ARCHIVE")
            assert echo(peer)
            send(write(make_instances(oblique(), order()), tmp_path / "images"), peer)
            storescu = ["storescu", "-aec", "ARCHIVE", "127.0.0.1", str(port)]
            environment = os.environ | {"TCP_NODELAY": "1"}
            subprocess.run(
                [*storescu, str(tmp_path / "images" / "00001.dcm")], check=True, env=environment
            )
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=10) == 0
        finally:
            process.kill()
    assert counts(tmp_path / "pacs") == {order().study_uid: 6}
