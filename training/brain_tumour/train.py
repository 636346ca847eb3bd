"""Train one network of the brain-tumour model.

Run from the project's root: ``python -m training.brain_tumour.train --seed 1``.
"""

import argparse
import copy
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.nn import functional
from training.brain_tumour.data import DATA, HELD_OUT, PATIENTS, Sampler, Scan, load_scans
from training.brain_tumour.network import UNet, VolumeModel

CONSOLE = Console(width=100)


def loss_of(logits: Tensor, target: Tensor) -> Tensor:
    """Add binary cross-entropy and one minus the soft Dice of the whole batch.

    Parameters
    ----------
    logits, target : torch.Tensor
        (N, 1, Y, X); target in 0 to 1.

    Returns
    -------
    torch.Tensor
        Scalar.
    """
    logits = logits.float()
    probability = torch.sigmoid(logits)
    overlap = 2 * (probability * target).sum() + 1
    dice = overlap / (probability.sum() + target.sum() + 1)
    return functional.binary_cross_entropy_with_logits(logits, target) + 1 - dice


@torch.no_grad()
def follow(average: nn.Module, model: nn.Module, step: int) -> None:
    """Move the running average of the weights towards the model's (at most 1000 steps' memory).

    Parameters
    ----------
    average, model : torch.nn.Module
        Of the same structure; `average` is changed.
    step : int
        Steps done.
    """
    share = max(1 / 1000, 1 / (1 + step / 10))
    for slow, fast in zip(average.parameters(), model.parameters(), strict=True):
        slow.lerp_(fast, share)


@torch.inference_mode()
def dice_of(model: UNet, scan: Scan) -> float:
    """Measure a network on one scan.

    Parameters
    ----------
    model : UNet
        In evaluation mode.
    scan : Scan
        A scan the network was not trained on.

    Returns
    -------
    float
        Dice coefficient at probability 0.5.
    """
    found = VolumeModel([model])(torch.from_numpy(scan.image)[None, None])[0, 0].numpy() > 0.5
    return float(2 * (found & scan.mask).sum() / (found.sum() + scan.mask.sum()))


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--output", type=Path, default=Path("build/brain_tumour/1.pt"))
    parser.add_argument("--fold", nargs="*", default=[], help="training patients to leave out")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=7500)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after so many")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=192, help="rows and columns of a sample")
    parser.add_argument("--rate", type=float, default=2e-3, help="learning rate at the start")
    parser.add_argument("--paste", type=float, default=0.0, help="chance of a pasted lesion")
    parser.add_argument("--threads", type=int, default=0, help="0: all cores")
    parser.add_argument("--check", type=int, default=500, help="steps between checkpoints")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint")
    return parser.parse_args()


def main() -> None:
    """Train, keeping a checkpoint with the running average under ``average``."""
    args = arguments()
    torch.set_num_threads(args.threads or torch.get_num_threads())
    train = tuple(p for p in PATIENTS if p not in (*HELD_OUT, *args.fold))
    checks = load_scans(args.data, tuple(p for p in args.fold if p not in HELD_OUT))
    torch.manual_seed(args.seed)
    model = UNet()
    average = copy.deepcopy(model).eval()
    optimiser = torch.optim.AdamW(model.parameters(), lr=args.rate, weight_decay=1e-2)
    done, seconds = 0, 0.0
    if args.resume and args.output.exists():
        state = torch.load(args.output, weights_only=True)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        done, seconds = state["step"], state["seconds"]
    sampler = Sampler(load_scans(args.data, train), args.size, args.seed + 1000 * done, args.paste)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=CONSOLE) as progress:
        bar = progress.add_task(f"seed {args.seed}", total=1.0)
        losses, part, step, began = [], 0.0, done, time.monotonic()
        while part < 1:
            step += 1
            spent = seconds + time.monotonic() - began
            part = min(1.0, max(step / args.steps, spent / 60 / args.minutes))
            optimiser.param_groups[0]["lr"] = args.rate * min(1.0, step / 100) * (1 - part) ** 0.9
            image, target = sampler.batch(args.batch)
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(image)
            loss = loss_of(logits, target)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            follow(average, model, step)
            losses.append(float(loss.detach()))
            progress.update(bar, completed=part)
            if step % args.check and part < 1:
                continue
            seconds, began = seconds + time.monotonic() - began, time.monotonic()
            state = {
                "model": model.state_dict(),
                "average": average.state_dict(),
                "optimiser": optimiser.state_dict(),
                "step": step,
                "seconds": seconds,
            }
            unfinished = args.output.with_suffix(".part")
            torch.save(state, unfinished)
            unfinished.replace(args.output)
            mean = sum(losses) / len(losses)
            dice = " ".join(f"{s.patient} {s.time} {dice_of(average, s):.3f}" for s in checks)
            CONSOLE.print(f"{step} loss {mean:.4f} {seconds / 60:.1f} min {dice}")
            losses.clear()


if __name__ == "__main__":
    main()
