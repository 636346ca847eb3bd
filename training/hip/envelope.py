"""Learn from the training pictures what the hip detector may be given.

Run from the project's root: ``python -m training.hip.envelope``. It prints the ranges that
``statistics`` of model.yaml is made from, as ``overread model profile --margin 0.25`` would for
these pictures.
"""

from training.hip.data import COARSE, REAL, REAL_TRAINING

from overread.cli.profile import gather, samples
from overread.measures.appearance import HIGHEST, plane_appearance
from overread.pipelines.envelope import Facts, learn
from overread.simulator.pelvis import pelvis

SEEDS = range(10_000, 10_120)
"""Phantoms that were trained on; every fourth is a child."""
MARGIN = 0.25


def facts() -> list[Facts]:
    """Gather what is known of the training pictures."""
    known = []
    for seed in SEEDS:
        child = seed % 4 == 3
        drawn = pelvis(seed, spacing=COARSE[child], photometric="MONOCHROME2", child=child)
        step = drawn.spacing
        known.append(Facts(statistics=plane_appearance(drawn.image.astype("f4"), (step, step))))
    files = [REAL / "dicoms" / "xray" / f"331_DDH_{number}.dcm" for number in REAL_TRAINING]
    return known + gather(samples(files, "*", "DX", None), print)[0]


def main() -> None:
    """Print each number: lowest and highest seen, and the range that is learnt."""
    known = facts()
    for name, (low, high) in learn(known, MARGIN, HIGHEST)["statistics"].items():
        seen = [one.statistics[name] for one in known if one.statistics]
        print(f"{name}: {min(seen):.3g} to {max(seen):.3g}, learnt [{low:g}, {high:g}]")


if __name__ == "__main__":
    main()
