"""Learn from the training images what the liver model may be given.

Run from the project's root: ``python -m training.liver.envelope``. It prints the ranges that
``statistics`` of model.yaml is made from, as ``overread model profile`` would for these images.
"""

from training.liver.data import REAL, phantom_spacing

from overread.cli.profile import gather, samples
from overread.measures.appearance import HIGHEST
from overread.operators.check_input import facts_of_volume
from overread.pipelines.envelope import Facts, learn
from overread.simulator.abdomen import abdomen

SEEDS = range(1000, 1020)
"""Phantoms that were trained on, drawn as they were for training."""
DELIVERED = {
    1020: ((120, 400, 400), (1.6, 0.95, 0.95)),
    1021: ((64, 512, 512), (3.0, 0.75, 0.75)),
    1022: ((45, 190, 190), (4.5, 2.1, 2.1)),
    1023: ((96, 256, 256), (2.0, 1.6, 1.6)),
}
"""More of them, on grids as a scanner delivers them: shape and spacing by seed."""
MARGIN = 0.5


def facts() -> list[Facts]:
    """Gather what is known of the training images."""
    known = [facts_of_volume(abdomen(s, **phantom_spacing(s), divided=1).image) for s in SEEDS]
    for seed, (shape, spacing) in DELIVERED.items():
        drawn = abdomen(seed, shape=shape, spacing=spacing, divided=1)
        known.append(facts_of_volume(drawn.image))
    return known + gather(samples([REAL / "dicom"], "*.dcm", "CT", None), print)[0]


def main() -> None:
    """Print each number: lowest and highest seen, and the range that is learnt."""
    known = facts()
    for name, (low, high) in learn(known, MARGIN, HIGHEST)["statistics"].items():
        seen = [one.statistics[name] for one in known if one.statistics]
        print(f"{name}: {min(seen):.3g} to {max(seen):.3g}, learnt [{low:g}, {high:g}]")


if __name__ == "__main__":
    main()
