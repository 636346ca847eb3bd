"""How far a step has come is kept with it while it runs."""

from __future__ import annotations

from typing import Any

from tests.engine.world import World, exam_images, pipeline, slow_steps, wait

COUNTING = '''
import time
from overread.dicom.volume import Volume
from overread.pipelines.ports import Progress

def slow(volume: Volume, progress: Progress, *, seconds: float = 1.0) -> Volume:
    """Take a while, and tell how far it is."""
    for done in range(40):
        progress(done, 40, "windows")
        time.sleep(seconds / 40)
    return volume
'''


def test_a_step_s_progress_is_kept_while_it_runs(world: World) -> None:
    world.operators = {"slow": COUNTING}
    world.pipelines = [pipeline(slow_steps(4.0))]
    world.build().start()
    world.arrive(exam_images())
    job = world.wait_for_step("slow")
    seen: list[int] = []

    def ended() -> bool:
        run: Any = world.steps(job)["slow"]
        if run.progress and run.progress["done"] not in seen:
            assert run.progress == {"done": run.progress["done"], "of": 40, "what": "windows"}
            seen.append(run.progress["done"])
        return bool(run.state == "done")

    wait(ended)
    assert seen == sorted(seen)
    assert 4 <= len(seen) <= 9  # every half second, not every window
    assert world.wait_for_job("done").state == "done"
    assert world.steps(job)["mask"].progress == {}
