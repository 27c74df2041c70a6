"""Data-parallel training: several processes, one gradient; what it costs and where it breaks.

Ranks are processes on this machine that talk through gloo, forked where that is safe. The training
script among the sections (`imports`, `checkpoint`, `epoch`, `train`, `main`) runs under torchrun.
"""

# --8<-- [start:imports]
import argparse
import copy
import os
import signal
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from functools import cache, partial
from multiprocessing import get_all_start_methods
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from joblib import wrap_non_picklable_objects
from torch import Tensor, nn
from torch.multiprocessing import start_processes
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from snippets.data import load_digits

# --8<-- [end:imports]

if TYPE_CHECKING:
    from matplotlib.figure import Figure


# --8<-- [start:enter]
def enter(worker: Callable, size: int, folder: Path, args: tuple, rank: int) -> None:
    """What each process runs: join the group, call the worker, leave its result."""
    torch.set_num_threads(1)
    meet = (folder / "meet").as_uri()
    dist.init_process_group("gloo", meet, timedelta(seconds=60), size, rank)
    torch.save(worker(*args), folder / f"{rank}.pt")
    dist.barrier()  # (1)!
    dist.destroy_process_group()


# --8<-- [end:enter]


# --8<-- [start:run_ranks]
def run_ranks(worker: Callable, size: int, *args, seconds: float = 90) -> list:
    """Call worker(*args) in each of `size` processes of a group; return the results.

    Raises: ProcessRaisedException: a rank raised. TimeoutError: a rank did not end in time.
    """
    import torch._dynamo  # (1)!

    safe = "fork" in get_all_start_methods() and not torch.accelerator.is_available()  # (2)!
    with tempfile.TemporaryDirectory() as name:
        entry = partial(enter, worker, size, Path(name), args)
        context = start_processes(
            entry if safe else wrap_non_picklable_objects(entry),
            nprocs=size,
            join=False,
            start_method="fork" if safe else "spawn",
        )
        deadline = time.monotonic() + seconds
        while not context.join(timeout=1):
            if time.monotonic() > deadline:
                for process in context.processes:
                    process.kill()
                    process.join()
                raise TimeoutError(f"a rank did not end within {seconds} s")
        return [torch.load(Path(name, f"{rank}.pt")) for rank in range(size)]


# --8<-- [end:run_ranks]


# --8<-- [start:make_net]
def digits() -> tuple[Tensor, Tensor]:
    """1024 of the training digits; X: (1024, 64), y: (1024,)."""
    X, y, _, _ = load_digits()
    return X[:1024], y[:1024]


def make_net(seed: int) -> nn.Sequential:
    """64-64-10, from a seeded start."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def weights(net: nn.Module) -> Tensor:
    """All parameters in one vector, (P,)."""
    return nn.utils.parameters_to_vector(net.parameters()).detach()


# --8<-- [end:make_net]


# --8<-- [start:one_epoch]
def one_epoch(way: str, seed: int) -> tuple[Tensor, int]:
    """Train one epoch, 16 samples a step; return the weights and the number of steps.

    way: "alone", no communication; "no sampler", DDP, every rank draws from all the data;
    "sampler", DDP, every rank draws from its own share.
    """
    data, net = TensorDataset(*digits()), make_net(seed)
    model = net if way == "alone" else DistributedDataParallel(net)
    sampler = DistributedSampler(data, seed=seed) if way == "sampler" else None
    g = torch.Generator().manual_seed(seed + dist.get_rank() * (way == "alone"))
    loader = DataLoader(data, 16, shuffle=sampler is None, sampler=sampler, generator=g)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for X, y in loader:
        optimizer.zero_grad()
        F.cross_entropy(model(X), y).backward()
        optimizer.step()
    return weights(net), len(loader)


# --8<-- [end:one_epoch]


# --8<-- [start:average_gradients]
def same_start(net: nn.Module) -> None:
    """Give every rank the parameters and buffers of rank 0."""
    for tensor in net.state_dict().values():
        dist.broadcast(tensor, src=0)


def average_gradients(net: nn.Module) -> None:
    """Between backward() and step(): replace each gradient by its mean over the ranks."""
    for parameter in net.parameters():
        dist.all_reduce(parameter.grad)  # the sum, on every rank
        parameter.grad /= dist.get_world_size()


# --8<-- [end:average_gradients]


# --8<-- [start:gradients]
def gradient(model: nn.Module, X: Tensor, y: Tensor, reduction: str = "mean") -> Tensor:
    """Gradient of the loss in one vector, (P,); X: (n, d), y: (n,)."""
    model.zero_grad()
    F.cross_entropy(model(X), y, reduction=reduction).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()])


def ddp_gradient(
    net: nn.Module, X: Tensor, y: Tensor, sizes: list[int], reduction: str = "mean"
) -> Tensor:
    """The gradient that DDP leaves on every rank if rank r holds sizes[r] samples."""
    rank = dist.get_rank()
    model = DistributedDataParallel(copy.deepcopy(net))
    return gradient(model, X.split(sizes)[rank], y.split(sizes)[rank], reduction)


# --8<-- [end:gradients]


def make_task(seed: int, norm: bool, n: int) -> tuple[nn.Module, Tensor, Tensor]:
    """A float64 net, with batch normalization or without, and n digits."""
    X, y = digits()
    chosen = torch.randperm(len(X), generator=torch.Generator().manual_seed(seed))[:n]
    net = make_net(seed)
    if norm:
        net.insert(1, nn.BatchNorm1d(64))
    return net.double(), X[chosen].double(), y[chosen]


def compare_gradients(seed: int) -> dict[str, float]:
    """Relative error of the averaged gradient against the joined batch, in several settings."""

    def error(a: Tensor, b: Tensor) -> float:
        return ((a - b).norm() / b.norm()).item()

    net, X, y = make_task(seed, False, 128)
    joined = gradient(net, X, y)
    by_hand = copy.deepcopy(net)
    half = slice(64 * dist.get_rank(), 64 * dist.get_rank() + 64)
    gradient(by_hand, X[half], y[half])
    average_gradients(by_hand)
    hand = torch.cat([p.grad.flatten() for p in by_hand.parameters()])
    summed = ddp_gradient(net, X, y, [64, 64], "sum")
    out = {
        "equal": error(ddp_gradient(net, X, y, [64, 64]), joined),
        "hand": error(hand, joined),
        "unequal": error(ddp_gradient(net, X, y, [96, 32]), joined),
        "sum": (summed.norm() / gradient(net, X, y, "sum").norm()).item(),
    }
    for n in (2, 4, 8, 16, 32, 64):
        net, X, y = make_task(seed, True, 2 * n)
        out[f"norm_{n}"] = error(ddp_gradient(net, X, y, [n, n]), gradient(net, X, y))
    return out


# --8<-- [start:ring]
def ring_all_reduce(x: Tensor, trace: list | None = None) -> int:
    """Sum x (n,) over the ranks in place; return the bytes that this rank sent.

    Each rank only ever sends to the next and receives from the one before. trace, if given,
    receives a copy of x before the first step and after each.
    """
    rank, k = dist.get_rank(), dist.get_world_size()
    chunks, sent = x.tensor_split(k), 0  # k views of x
    for step in range(2 * (k - 1)):
        if trace is not None:
            trace.append(x.clone())
        out, into = chunks[(rank - step) % k], chunks[(rank - step - 1) % k]
        received = torch.empty_like(into)
        send = dist.P2POp(dist.isend, out, (rank + 1) % k)
        receive = dist.P2POp(dist.irecv, received, (rank - 1) % k)
        for work in dist.batch_isend_irecv([send, receive]):
            work.wait()
        into.copy_(into + received if step < k - 1 else received)  # (1)!
        sent += out.nbytes
    if trace is not None:
        trace.append(x.clone())
    return sent


# --8<-- [end:ring]


# --8<-- [start:check_ring]
def check_ring(n: int) -> tuple[float, bool]:
    """Bytes sent over the bytes of the vector, and whether the sum is that of dist.all_reduce."""
    g = torch.Generator().manual_seed(dist.get_rank())
    x = torch.randn(n, generator=g, dtype=torch.float64)
    theirs = x.clone()
    dist.all_reduce(theirs)
    sent = ring_all_reduce(x)
    return sent / x.nbytes, torch.allclose(x, theirs)


# --8<-- [end:check_ring]


def count_contributions() -> Tensor:
    """Let the ring add ones: how many ranks each chunk holds before and after each step, (7, 4)."""
    trace = []
    ring_all_reduce(torch.ones(4), trace)
    return torch.stack(trace)


# --8<-- [start:shards]
def shard(n: int, rank: int, size: int) -> list[int]:
    """Samples of a rank, as DistributedSampler(shuffle=False) deals them: like cards, in turn.

    If size does not divide n, the first samples are dealt a second time.
    """
    each = -(-n // size)  # n / size, rounded up
    deck = list(range(n)) + list(range(each * size - n))
    return deck[rank::size]


# --8<-- [end:shards]


# --8<-- [start:overlap]
def overlap_log(accumulate: bool) -> list[str]:
    """What happens in which order in the second backward(): gradients ready, buckets sent."""
    net = nn.Sequential(*[nn.Linear(64, 64, bias=False) for _ in range(6)])
    two_layers = 2 * net[0].weight.nbytes / 2**20  # MiB
    model, log = DistributedDataParallel(net, bucket_cap_mb=two_layers), []
    for number, layer in enumerate(net, 1):
        layer.weight.register_hook(lambda g, number=number: log.append(f"grad {number}"))

    def all_reduce(group: object, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
        log.append(f"send {bucket.index()}")
        work = dist.all_reduce(bucket.buffer().div_(dist.get_world_size()), async_op=True)
        return work.get_future().then(lambda done: done.value()[0])

    model.register_comm_hook(None, all_reduce)
    model(torch.ones(2, 64)).sum().backward()  # (1)!
    log.clear()
    if accumulate:
        with model.no_sync():
            model(torch.ones(2, 64)).sum().backward()
    model(torch.ones(2, 64)).sum().backward()
    return log


# --8<-- [end:overlap]


# --8<-- [start:checkpoint]
def save(path: Path, epoch: int, **parts) -> None:
    """Rank 0 writes the checkpoint, whole or not at all; the others go on."""
    if dist.get_rank() == 0:
        states = {name: part.state_dict() for name, part in parts.items()}
        torch.save({"epoch": epoch, "states": states}, f"{path}.part")
        os.replace(f"{path}.part", path)


def resume(path: Path, **parts) -> int:
    """Every rank reads the checkpoint, if there is one; return the number of epochs done."""
    if not path.exists():
        return 0
    saved = torch.load(path, map_location="cpu")
    for name, part in parts.items():
        part.load_state_dict(saved["states"][name])
    return saved["epoch"]


# --8<-- [end:checkpoint]


# --8<-- [start:epoch]
def train_epoch(model: nn.Module, loader: DataLoader, optimizer, device, crash: bool) -> None:
    """One epoch over this rank's share; crash: rank 1 kills itself after the second step."""
    model.train()
    for step, (X, y) in enumerate(loader):
        optimizer.zero_grad()
        F.cross_entropy(model(X.to(device)), y.to(device)).backward()
        optimizer.step()
        if crash and step == 1 and dist.get_rank() == 1:
            os.kill(os.getpid(), signal.SIGKILL)


# --8<-- [end:epoch]


# --8<-- [start:train]
def train(path: Path, epochs: int, device: torch.device, crash_at: int | None = None) -> nn.Module:
    """Train on this rank's share, or go on from path; crash_at: an epoch to break off."""
    rank, size = dist.get_rank(), dist.get_world_size()
    X, y, _, _ = load_digits()
    data = TensorDataset(X[:1024], y[:1024])
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 10))
    net.to(device)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    done = resume(path, net=net, optimizer=optimizer)
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    if rank == 0:
        print(f"attempt {attempt}: {size} ranks, {done} epochs on disk", flush=True)
    model = DistributedDataParallel(net)
    sampler = DistributedSampler(data, seed=0)
    loader = DataLoader(data, batch_size=32, sampler=sampler)
    for epoch in range(done, epochs):
        sampler.set_epoch(epoch)
        torch.manual_seed(epoch * size + rank)  # (1)!
        train_epoch(model, loader, optimizer, device, epoch == crash_at and attempt == "0")
        save(path, epoch + 1, net=net, optimizer=optimizer)
    return net


# --8<-- [end:train]


# --8<-- [start:main]
def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--crash-at", type=int)
    args = parser.parse_args()
    device = torch.device("cpu")
    if torch.accelerator.device_count() >= int(os.environ["LOCAL_WORLD_SIZE"]):  # (1)!
        torch.accelerator.set_device_index(int(os.environ["LOCAL_RANK"]))
        device = torch.accelerator.current_accelerator()
    backend = dist.get_default_backend_for_device(device)  # nccl, gloo
    dist.init_process_group(backend, timeout=timedelta(minutes=5))
    train(args.checkpoint, args.epochs, device, args.crash_at)
    dist.destroy_process_group()


# --8<-- [end:main]


# --8<-- [start:train_cpu]
def train_cpu(path: Path, epochs: int) -> Tensor:
    """The training script's `train` for `run_ranks`; returns the weights, (P,)."""
    return weights(train(path, epochs, torch.device("cpu")))


# --8<-- [end:train_cpu]


# --8<-- [start:as_workers]
def train_as_workers(
    net: nn.Module, k: int, lr: float, seed: int, epochs: float = 10, warmup: float = 0
) -> float:
    """Ten epochs of SGD as k ranks with 16 samples each do them; return the training loss.

    By (1) one batch of 16 k is the same. warmup: epochs that climb from lr / k to lr.
    """
    X, y = digits()
    g = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(net.parameters(), lr)
    per_epoch = len(X) // (16 * k)
    steps, climb = round(epochs * per_epoch), round(warmup * per_epoch)
    for step in range(steps):
        if step % per_epoch == 0:
            batches = iter(torch.randperm(len(X), generator=g).split(16 * k))
        rows = next(batches)
        share = min(1, (step + 1) / climb) if climb else 1
        optimizer.param_groups[0]["lr"] = lr / k + (lr - lr / k) * share
        optimizer.zero_grad()
        F.cross_entropy(net(X[rows]), y[rows]).backward()
        optimizer.step()
    with torch.no_grad():
        return F.cross_entropy(net(X), y).item()


# --8<-- [end:as_workers]


def digits_accuracy(net: nn.Module) -> float:
    """Share of the 360 test digits classified rightly."""
    _, _, X, y = load_digits()
    with torch.no_grad():
        return (net(X).argmax(1) == y).float().mean().item()


RULES = {"same": lambda k: 0.1, "sqrt": lambda k: 0.1 * k**0.5, "linear": lambda k: 0.1 * k}
SIZES = (1, 4, 8, 16, 32)


# --8<-- [start:sharpness]
def stable_rate(net: nn.Module) -> float:
    """2 / (largest eigenvalue of the training loss's Hessian), by 15 power iterations."""
    X, y = digits()
    parameters = list(net.parameters())
    g = torch.Generator().manual_seed(0)
    v = [torch.randn(p.shape, generator=g) for p in parameters]
    slopes = torch.autograd.grad(F.cross_entropy(net(X), y), parameters, create_graph=True)
    for _ in range(15):
        norm = torch.cat([part.flatten() for part in v]).norm()
        v = [part / norm for part in v]
        product = sum((slope * part).sum() for slope, part in zip(slopes, v, strict=True))
        v = torch.autograd.grad(product, parameters, retain_graph=True)
    return 2 / torch.cat([part.flatten() for part in v]).norm().item()


# --8<-- [end:sharpness]


def sharp_net(seed: int) -> nn.Sequential:
    """make_net with its weight matrices six times as large."""
    net = make_net(seed)
    with torch.no_grad():
        for layer in (net[0], net[2]):
            layer.weight *= 6
    return net


# --8<-- [start:memory]
def bytes_per_parameter(stage: int, k: int) -> float:
    """Memory of one rank in mixed-precision Adam, without activations (ZeRO paper, figure 1).

    Weights and gradients in 16 bits, 2 bytes each; in 32 bits a copy of the weights and Adam's two
    averages, 12 bytes. stage: 0 DDP; 1 optimizer states in shares; 2 and gradients; 3 and weights.
    """
    held = {"weights": 2, "gradients": 2, "optimizer": 12}
    shared = ["optimizer", "gradients", "weights"][:stage]
    return sum(size / k if name in shared else size for name, size in held.items())


# --8<-- [end:memory]


# --8<-- [start:fsdp]
def sharded_step(seed: int) -> dict:
    """One backward() with FSDP2: shares, gradient against one process, collectives."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor.debug import CommDebugMode

    X, y = digits()
    whole = gradient(make_net(seed), X, y)
    net, mesh = make_net(seed), init_device_mesh("cpu", (dist.get_world_size(),))
    for layer in (net[0], net[2]):
        fully_shard(layer, mesh=mesh)  # (1)!
    fully_shard(net, mesh=mesh)
    mine = X.tensor_split(dist.get_world_size())[dist.get_rank()]
    with CommDebugMode() as counter:
        loss = F.cross_entropy(net(mine), y.tensor_split(dist.get_world_size())[dist.get_rank()])
        loss.backward()
    joined = torch.cat([p.grad.full_tensor().flatten() for p in net.parameters()])
    held = sum(p.to_local().numel() for p in net.parameters())
    return {
        "held": held / len(whole),
        "equal": torch.allclose(joined, whole, atol=1e-6),
        "collectives": sorted((str(op), n) for op, n in counter.get_comm_counts().items()),
    }


# --8<-- [end:fsdp]


def experiment_failure(seed: int) -> dict[str, float]:
    """Two ranks without communication, with DDP but one deck of samples, with a deck each."""
    alone = run_ranks(one_epoch, 2, "alone", seed)
    together = run_ranks(one_epoch, 2, "no sampler", seed)
    shared = run_ranks(one_epoch, 2, "sampler", seed)
    single = alone[0][0]  # rank 0 alone is what one process does
    return {
        "apart": (alone[0][0] - alone[1][0]).abs().max().item(),
        "together": (together[0][0] - together[1][0]).abs().max().item(),
        "copied": (together[0][0] - single).abs().max().item(),
        "shared": (shared[0][0] - single).abs().max().item(),
        "steps_alone": alone[0][1],
        "steps_together": together[0][1],
        "steps_shared": shared[0][1],
    }


def experiment_gradients(seed: int) -> dict[str, float]:
    """Relative error of the averaged gradient in several settings."""
    return run_ranks(compare_gradients, 2, seed)[0]


@cache
def trained(
    start: Callable[[int], nn.Sequential], k: int, lr: float, seed: int, warmup: float = 0
) -> tuple[nn.Sequential, float]:
    """A net of `start` after ten epochs of `train_as_workers`, and its training loss."""
    net = start(seed)
    return net, train_as_workers(net, k, lr, seed, warmup=warmup)


@cache
def scaling(seed: int) -> dict[str, tuple[float, float]]:
    """Training loss and test accuracy after ten epochs, by rule and number of workers."""
    out = {}
    for rule, rate in RULES.items():
        for k in SIZES:
            if k == 1 and rule != "same":
                continue
            net, loss = trained(make_net, k, rate(k), seed)
            out[f"{rule}_{k}"] = (loss, digits_accuracy(net))
    return out


def warm_up(seed: int) -> dict[str, float]:
    """16 workers at 16 times the rate, from a gentle and from a sharp start, with warm-up or not.

    stable_*: 2 / curvature at the start and after ten epochs of one worker.
    """
    out = {}
    for name, start in (("gentle", make_net), ("sharp", sharp_net)):
        out[f"{name}_stable_start"] = stable_rate(start(seed))
        net, out[f"{name}_one"] = trained(start, 1, 0.1, seed)
        out[f"{name}_stable_end"] = stable_rate(net)
        for warmup in (0, 3):
            _, out[f"{name}_warmup_{warmup}"] = trained(start, 16, 1.6, seed, warmup)
    return out


def experiment_scaling(seed: int) -> dict[str, float]:
    """Three rules for the rate at equal epochs, one worker stopped after 10 / k epochs, warm-up."""
    out = {}
    for name, (loss, accuracy) in scaling(seed).items():
        out[f"{name}_loss"], out[f"{name}_accuracy"] = loss, accuracy
    for k in (4, 16):
        out[f"short_{k}_loss"] = train_as_workers(make_net(seed), 1, 0.1, seed, 10 / k)
    return out | warm_up(seed)


def figure_shards() -> "Figure":
    """Ten samples dealt to three ranks, in two epochs: the two dealt twice are dashed."""
    import matplotlib.pyplot as plt  # not above: torchrun starts this module once a rank

    fig, axes = plt.subplots(2, 1, figsize=(4.8, 3.6), layout="constrained")
    for epoch, ax in enumerate(axes):
        seen = set()
        for column in range(4):
            for rank in range(3):
                sampler = DistributedSampler(range(10), 3, rank, seed=0)
                sampler.set_epoch(epoch)
                sample = list(sampler)[column]
                twice = sample in seen
                seen.add(sample)
                box = plt.Rectangle(
                    (column + 0.06, rank + 0.1),
                    0.88,
                    0.8,
                    facecolor="none" if twice else f"C{rank}",
                    edgecolor=f"C{rank}",
                    linestyle="--" if twice else "-",
                    linewidth=1.5,
                    alpha=1 if twice else 0.35,
                )
                ax.add_patch(box)
                ax.text(column + 0.5, rank + 0.5, sample, ha="center", va="center")
        ax.set(xlim=(0, 4), ylim=(3, 0), title=f"epoch {epoch}", xticks=[])
        ax.set_yticks([0.5, 1.5, 2.5], ["rank 0", "rank 1", "rank 2"])
        ax.tick_params(length=0)
        for side in ax.spines.values():
            side.set_visible(False)
    return fig


@cache
def contributions() -> list[Tensor]:
    """The traces of `count_contributions` on four ranks, each (7, 4)."""
    return run_ranks(count_contributions, 4)


def figure_ring() -> "Figure":
    """How many ranks' numbers each chunk holds, on four ranks, before and after each step."""
    import matplotlib.pyplot as plt

    traces = torch.stack(contributions())  # (rank, 7, chunk)
    fig, axes = plt.subplots(2, 4, figsize=(5.0, 3.4), layout="constrained")
    axes[1, 3].axis("off")
    for step, ax in enumerate(axes.flat[:7]):
        for rank in range(4):
            for chunk in range(4):
                held = int(traces[rank, step, chunk])
                ax.add_patch(
                    plt.Rectangle((chunk, rank), 1, 1, facecolor="C0", alpha=(held - 1) * 0.14)
                )
                ax.text(chunk + 0.5, rank + 0.52, held, ha="center", va="center")
        ax.set(xlim=(0, 4), ylim=(4, 0), aspect="equal", xticks=[], yticks=[])
        ax.set_title("start" if step == 0 else f"step {step}")
        for side in ax.spines.values():
            side.set_visible(True)
    for row in axes:
        row[0].set_yticks([0.5, 1.5, 2.5, 3.5], range(4))
        row[0].set_ylabel("rank")
        row[0].tick_params(length=0)
    return fig


@cache
def norm_errors(seeds: int) -> dict[int, float]:
    """Mean relative error of the averaged gradient with batch normalization, by samples a rank."""
    runs = run_ranks(several_comparisons, 2, seeds)[0]
    return {n: sum(run[f"norm_{n}"] for run in runs) / seeds for n in (2, 4, 8, 16, 32, 64)}


def several_comparisons(seeds: int) -> list[dict[str, float]]:
    """`compare_gradients` for the seeds 0, 1, ..."""
    return [compare_gradients(seed) for seed in range(seeds)]


def figure_norm() -> "Figure":
    """Error of the averaged gradient against samples per rank, with batch normalization."""
    import matplotlib.pyplot as plt

    errors = norm_errors(5)
    fig, ax = plt.subplots(layout="constrained")
    ax.loglog(list(errors), list(errors.values()), "C1o-")
    ax.set(xlabel="samples per rank", ylabel="relative error of the gradient")
    ax.set_xticks(list(errors), [str(n) for n in errors])
    ax.minorticks_off()
    ax.grid(True)
    return fig


def figure_scaling() -> "Figure":
    """Training loss after ten epochs against the number of workers, three rules, one seed."""
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots(figsize=(4.8, 3.6), layout="constrained")
    run = scaling(0)
    styles = {
        "same": ("C3s-", r"rate $\eta$"),
        "sqrt": ("C2^-", r"rate $\sqrt{k}\,\eta$"),
        "linear": ("C0o-", r"rate $k\eta$"),
    }
    for rule, (style, label) in styles.items():
        names = [f"{rule}_{k}" if k > 1 else "same_1" for k in SIZES]
        ends = [run[name][0] for name in names]
        ax.loglog(SIZES, ends, style, label=label, markersize=6)
    ax.set(xlabel="workers $k$, 16 samples each", ylabel="training loss, 10 epochs")
    ax.set_xticks(SIZES, [str(k) for k in SIZES])
    ax.set_yticks([0.1, 0.3, 1, 3], ["0.1", "0.3", "1", "3"])
    ax.minorticks_off()
    ax.grid(True)
    ax.legend(frameon=False)
    return fig


def figure_memory() -> "Figure":
    """Memory of one rank for a model of 7e9 parameters against the number of ranks."""
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots(figsize=(4.8, 3.6), layout="constrained")
    sizes = [2**i for i in range(8)]
    names = ("DDP", "optimizer in shares", "and gradients", "and weights (FSDP)")
    for stage, (name, style) in enumerate(zip(names, ("C3-", "C1--", "C2-.", "C0-"), strict=True)):
        ax.plot(sizes, [7 * bytes_per_parameter(stage, k) for k in sizes], style, label=name)
    ax.axhline(80, color=plt.rcParams["text.color"], linestyle=":", linewidth=1)
    ax.text(128, 83, "80 GB", ha="right", va="bottom")
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.set_xticks(sizes, [str(k) for k in sizes])
    ax.set_yticks([1, 3, 10, 30, 100], ["1", "3", "10", "30", "100"])
    ax.minorticks_off()
    ax.set(xlabel="ranks $k$", ylabel="GB per rank")
    ax.grid(True)
    ax.legend(frameon=False, loc="lower left")
    return fig


if __name__ == "__main__":
    if dist.is_torchelastic_launched():
        main()
    else:
        import matplotlib.pyplot as plt

        print("failure", experiment_failure(0))
        print("gradients", experiment_gradients(0))
        print("scaling", experiment_scaling(0))
        figure_scaling()
        figure_memory()
        plt.show()
