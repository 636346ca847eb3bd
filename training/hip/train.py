"""Train one of the hip models.

Run from the project's root: ``python -m training.hip.train detector``, and ``… classifier``.
"""

import argparse
import copy
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional
from training.hip.data import (
    REAL,
    REAL_TRAINING,
    SIZE,
    TRAINING,
    Sampler,
    phantom_sample,
    real_sample,
)
from training.hip.network import STRIDE, HipClassifier, HipDetector

CONSOLE = Console(width=100)


def detector_loss(found: tuple[Tensor, Tensor], boxes: Tensor) -> Tensor:
    """Add a focal loss on the hips' middles and an absolute one on their edges.

    The focal loss is that of CornerNet (Law H, Deng J 2018, arXiv:1808.01244): cells near a middle
    count little as negatives.

    Parameters
    ----------
    found : tuple of torch.Tensor
        What `HipDetector` gives.
    boxes : torch.Tensor
        (N, 2, 4), NaN where there is no hip.

    Returns
    -------
    torch.Tensor
        Scalar.
    """
    heat, edges = found[0].float(), found[1].float()
    side = SIZE // STRIDE
    place = (torch.arange(side) + 0.5) * STRIDE
    middle = (boxes[..., :2] + boxes[..., 2:]) / 2
    x, y = middle[..., 0, None, None], middle[..., 1, None, None]
    away = (place - x) ** 2 + (place[:, None] - y) ** 2
    near = torch.exp(-away.nan_to_num(1e9) / (2 * 5.0**2))
    hit = (away.nan_to_num(1e9) <= 2 * (STRIDE / 2) ** 2).float()
    probability = heat.sigmoid().clamp(1e-5, 1 - 1e-5)
    positive = -hit * (1 - probability) ** 2 * probability.log()
    negative = -(1 - hit) * (1 - near) ** 4 * probability**2 * (1 - probability).log()
    count = hit.sum().clamp(min=1)
    loss = (positive + negative).sum() / count
    known = boxes.nan_to_num(0)[..., None, None]
    columns, rows = place.expand(side, side), place[:, None].expand(side, side)
    wanted = torch.stack(
        [
            columns - known[:, :, 0],
            rows - known[:, :, 1],
            known[:, :, 2] - columns,
            known[:, :, 3] - rows,
        ],
        dim=2,
    )
    weight = (near * (near > 0.4))[:, :, None]
    off = functional.smooth_l1_loss(edges[:, None].expand_as(wanted), wanted, reduction="none")
    return loss + 0.25 * (off * weight).sum() / weight.sum().clamp(min=1) / 4


@torch.no_grad()
def follow(average: nn.Module, model: nn.Module, step: int) -> None:
    """Move the running average of weights and statistics towards the model's."""
    share = max(1 / 500, 1 / (1 + step / 10))
    for slow, fast in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if slow.is_floating_point():
            slow.lerp_(fast, share)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("detector", "classifier"))
    parser.add_argument("--real", type=Path, default=REAL, help="folder of the real images")
    parser.add_argument("--output", type=Path, help="build/hip/WHAT.pt if not given")
    parser.add_argument("--phantoms", type=int, default=len(TRAINING), help="at most so many")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after so many")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=2e-3, help="learning rate at the start")
    parser.add_argument("--threads", type=int, default=0, help="0: all cores")
    parser.add_argument("--check", type=int, default=250, help="steps between checkpoints")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint")
    return parser.parse_args()


def main() -> None:
    """Train, keeping a checkpoint with the running average under ``average``."""
    args = arguments()
    output = args.output or Path("build/hip") / f"{args.what}.pt"
    torch.set_num_threads(args.threads or torch.get_num_threads())
    torch.manual_seed(args.seed)
    model = HipDetector() if args.what == "detector" else HipClassifier()
    average = copy.deepcopy(model).eval()
    optimiser = torch.optim.AdamW(model.parameters(), lr=args.rate, weight_decay=1e-2)
    done, seconds = 0, 0.0
    if args.resume and output.exists():
        state = torch.load(output, weights_only=True)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        done, seconds = state["step"], state["seconds"]
    seeds = TRAINING[: args.phantoms]
    phantoms = [phantom_sample(seed) for seed in track(seeds, "phantoms", console=CONSOLE)]
    real = [real_sample(args.real, number) for number in REAL_TRAINING]
    sampler = Sampler(phantoms, real, args.seed + 1000 * done)
    output.parent.mkdir(parents=True, exist_ok=True)
    losses, part, step, began = [], 0.0, done, time.monotonic()
    while part < 1:
        step += 1
        spent = seconds + time.monotonic() - began
        part = min(1.0, max(step / args.steps, spent / 60 / args.minutes))
        optimiser.param_groups[0]["lr"] = args.rate * min(1.0, step / 100) * (1 - part) ** 0.9
        if args.what == "detector":
            image, boxes = sampler.pictures(args.batch)
            loss = detector_loss(model(image), boxes)
        else:
            image, states = sampler.regions(args.batch)
            loss = functional.cross_entropy(model(image), states, label_smoothing=0.02)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        follow(average, model, step)
        losses.append(float(loss.detach()))
        if step % args.check and part < 1:
            continue
        state = {
            "model": model.state_dict(),
            "average": average.state_dict(),
            "optimiser": optimiser.state_dict(),
            "step": step,
            "seconds": seconds + time.monotonic() - began,
        }
        unfinished = output.with_suffix(".part")
        torch.save(state, unfinished)
        unfinished.replace(output)
        mean = sum(losses) / len(losses)
        CONSOLE.print(f"{step} loss {mean:.4f} {state['seconds'] / 60:.1f} min")
        losses.clear()


if __name__ == "__main__":
    main()
