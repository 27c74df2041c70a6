"""Distributed training: the identity, its exceptions, what is sent and kept, a killed worker."""

import inspect
import math
import os
import re
import subprocess
import sys
import time
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.multiprocessing import ProcessRaisedException
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from publishing import ROOT
from snippets.scaling import distributed as chapter
from snippets.scaling.distributed import (
    bytes_per_parameter,
    ddp_gradient,
    digits,
    gradient,
    make_net,
    run_ranks,
    shard,
    train_as_workers,
    weights,
)

# A forked rank sees what a test patched; where ranks are spawned instead, it does not.
forked = pytest.mark.skipif(torch.accelerator.is_available(), reason="needs ranks that are forked")


def task(n: int, seed: int = 0) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    return chapter.make_task(seed, False, n)


# Ranks


def add_rank(number: int) -> tuple[int, int]:
    return number + dist.get_rank(), dist.get_world_size()


def test_results_come_back_by_rank():
    assert run_ranks(add_rank, 3, 10) == [(10, 3), (11, 3), (12, 3)]


def fail_on_one() -> None:
    if dist.get_rank() == 1:
        raise ValueError("rank 1 will not")


def test_an_error_in_a_rank_is_an_error():
    with pytest.raises(ProcessRaisedException, match="rank 1 will not"):
        run_ranks(fail_on_one, 2)


def test_a_hanging_rank_is_an_error():
    with pytest.raises(TimeoutError, match="did not end within 0 s"):
        run_ranks(time.sleep, 1, 60, seconds=0)


# The failure


def test_two_processes_of_which_one_is_wasted(measured):
    values = measured(chapter.experiment_failure)
    assert (values["apart"] > 0.01).all()
    assert (values["together"] == 0).all() and (values["copied"] == 0).all()
    assert (values["shared"] > 0.01).all()
    assert (values["steps_together"] == 64).all() and (values["steps_alone"] == 64).all()
    assert (values["steps_shared"] == 32).all()


def test_counts_of_the_guess():
    assert (10 * 1024 // 16, 10 * 1024 // 256) == (640, 40)
    assert f"{math.log(10):.3f}" == "2.303"


# The identity


def test_averaged_gradient_is_that_of_the_joined_batch(measured):
    values = measured(chapter.experiment_gradients)
    assert (values["equal"] < 1e-12).all()
    assert (values["hand"] < 1e-12).all()
    assert np.abs(values["sum"] - 0.5).max() < 1e-12
    assert (values["unequal"] > 0.2).all() and (values["unequal"] < 0.6).all()


@pytest.mark.parametrize("sizes", [[96, 32], [60, 50, 18], [40, 40, 40]])
def test_the_error_of_unequal_shares_is_equation_3(sizes):
    n, k = sum(sizes), len(sizes)
    net, X, y = task(n)
    parts = [gradient(net, a, b) for a, b in zip(X.split(sizes), y.split(sizes), strict=True)]
    error = sum((1 / k - size / n) * part for size, part in zip(sizes, parts, strict=True))
    joined = gradient(net, X, y)
    for averaged in run_ranks(ddp_gradient, k, net, X, y, sizes):
        assert torch.allclose(averaged - joined, error, atol=1e-14)
    assert (len(set(sizes)) == 1) == bool(error.norm() < 1e-12)


def test_ninety_six_and_thirty_two():
    net, X, y = task(128)
    first, second = gradient(net, X[:96], y[:96]), gradient(net, X[96:], y[96:])
    averaged = run_ranks(ddp_gradient, 2, net, X, y, [96, 32])[0]
    assert torch.allclose(averaged - gradient(net, X, y), (second - first) / 4, atol=1e-14)


def test_batch_norm_breaks_the_identity_most_with_few_samples(measured):
    values = measured(chapter.experiment_gradients)
    means = [values[f"norm_{n}"].mean() for n in (2, 4, 8, 16, 32, 64)]
    assert all(a > b for a, b in pairwise(means))
    assert means[0] > 1 and 0.05 < means[-1] < 0.15
    assert (values["norm_64"] > 1e-2).all()


def descend_by_hand() -> tuple[torch.Tensor, torch.Tensor]:
    """Three steps by the chapter's own functions, and by DDP, from a start that differs by rank."""
    X, y = digits()
    out = []
    for by_hand in (True, False):
        net = make_net(dist.get_rank())
        model = net if by_hand else DistributedDataParallel(net)
        if by_hand:
            chapter.same_start(net)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
        for step in range(3):
            rows = slice(64 * step + 32 * dist.get_rank(), 64 * step + 32 * dist.get_rank() + 32)
            optimizer.zero_grad()
            F.cross_entropy(model(X[rows]), y[rows]).backward()
            if by_hand:
                chapter.average_gradients(net)
            optimizer.step()
        out.append(weights(net))
    return tuple(out)


def test_the_two_functions_do_what_ddp_does():
    (hand, ddp), (hand_1, ddp_1) = run_ranks(descend_by_hand, 2)
    assert torch.equal(hand, hand_1) and torch.equal(ddp, ddp_1)
    assert torch.allclose(hand, ddp, atol=1e-6)
    assert not torch.equal(hand, weights(make_net(0)))


# The ring


@pytest.mark.parametrize("k", [2, 3, 4])
def test_ring_sends_what_equation_4_says(k):
    for ratio, same in run_ranks(chapter.check_ring, k, 12_000):
        assert ratio == pytest.approx(2 * (k - 1) / k) and ratio < 2
        assert same


def test_ring_sums_vectors_that_do_not_divide():
    assert all(same for _, same in run_ranks(chapter.check_ring, 3, 1000))


def test_ring_step_by_step():
    traces = torch.stack(chapter.contributions())  # (rank, 7, chunk)
    assert (traces[:, 0] == 1).all() and (traces[:, 6] == 4).all()
    assert ((traces[:, 3] == 4).sum(1) == 1).all()  # one whole chunk a rank after k - 1 steps
    assert sorted(traces[:, 3].argmax(1).tolist()) == [0, 1, 2, 3]
    assert not (traces[:, 2] == 4).any() and not (traces[:, 5] == 4).all()


def test_numbers_of_a_resnet():
    from torchvision.models import resnet50

    with torch.device("meta"):
        parameters = sum(p.numel() for p in resnet50().parameters())
    assert parameters == 25_557_032
    size = 4 * parameters
    assert round(size / 1e6) == 102
    sent = 2 * 7 / 8 * size
    assert round(sent / 1e6) == 179
    assert f"{sent / 1.25e9:.3f}" == "0.143"


# The sampler


@pytest.mark.parametrize(("n", "k"), [(10, 3), (12, 3), (7, 4), (1437, 4), (5, 2), (3, 3)])
def test_shard_is_what_the_sampler_deals(n, k):
    parts = [shard(n, rank, k) for rank in range(k)]
    for rank, part in enumerate(parts):
        assert part == list(DistributedSampler(range(n), k, rank, shuffle=False))
        assert len(part) == math.ceil(n / k)
    dealt = [i for part in parts for i in part]
    assert set(dealt) == set(range(n))
    assert len(dealt) - n == -n % k  # the copies
    if n % k == 0:
        assert len(set(dealt)) == len(dealt)


def test_shuffled_shares_are_one_deck():
    samplers = [DistributedSampler(range(12), 3, rank, seed=5) for rank in range(3)]
    for epoch in range(2):
        for sampler in samplers:
            sampler.set_epoch(epoch)
        assert sorted(i for sampler in samplers for i in sampler) == list(range(12))


def test_without_set_epoch_every_epoch_is_the_same():
    sampler = DistributedSampler(range(100), 2, 0)
    first = list(sampler)
    assert list(sampler) == first
    sampler.set_epoch(1)
    assert list(sampler) != first and set(sampler) != set(first)


def test_a_sampler_and_shuffle_exclude_each_other():
    sampler = DistributedSampler(range(10), 2, 0)
    with pytest.raises(ValueError, match="sampler option is mutually exclusive with shuffle"):
        DataLoader(range(10), sampler=sampler, shuffle=True)


# DDP


def test_buckets_leave_before_backward_is_done():
    log = run_ranks(chapter.overlap_log, 2, False)[0]
    assert [entry for entry in log if "grad" in entry] == [f"grad {n}" for n in range(6, 0, -1)]
    assert log.index("send 0") == 2 and log[-1] == "send 2"


def test_no_sync_halves_the_messages():
    log = run_ranks(chapter.overlap_log, 2, True)[0]
    assert sum("grad" in entry for entry in log) == 12
    assert sum("send" in entry for entry in log) == 3


def test_defaults_the_page_names():
    from torch.distributed.constants import default_pg_nccl_timeout, default_pg_timeout

    assert dist._DEFAULT_FIRST_BUCKET_BYTES == 2**20
    assert "25 MiB" in inspect.getsource(inspect.getmodule(DistributedDataParallel))
    assert default_pg_timeout.total_seconds() == 1800
    if default_pg_nccl_timeout is not None:
        assert default_pg_nccl_timeout.total_seconds() == 600
    assert hasattr(nn.modules.utils, "consume_prefix_in_state_dict_if_present")


# The script


def script() -> str:
    """The sections of the page's training script, as a file of its own."""
    source = (ROOT / "snippets/scaling/distributed.py").read_text(encoding="utf-8")
    names = ("imports", "checkpoint", "epoch", "train", "main")
    parts = [
        re.search(rf"\[start:{name}\]\n(.*?)# --8<-- \[end:{name}\]", source, re.S)[1]
        for name in names
    ]
    return "\n".join(parts)


def test_the_script_has_eighty_lines():
    assert sum(bool(line.strip()) for line in script().splitlines()) == 80


def torchrun(folder, *arguments: str) -> subprocess.CompletedProcess:
    file = folder / "train.py"
    file.write_text(script() + '\nif __name__ == "__main__":\n    main()\n', encoding="utf-8")
    environment = os.environ | {
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", *arguments]
    at = command.index("train.py")
    command[at] = str(file)
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=500
    )


def test_a_killed_worker_does_not_change_a_bit(tmp_path):
    """One real torchrun of two workers; the other runs of this file are forked."""
    done = torchrun(
        tmp_path,
        *("--nproc-per-node", "2", "--max-restarts", "3", "train.py"),
        *("killed.pt", "--crash-at", "3"),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines() == [
        "attempt 0: 2 ranks, 0 epochs on disk",
        "attempt 1: 2 ranks, 3 epochs on disk",
    ]
    assert "exitcode: -9" in done.stderr
    run_ranks(chapter.train_cpu, 2, tmp_path / "whole.pt", 6)
    if torch.accelerator.device_count() >= 2:
        return  # the killed run was on GPUs, the whole one was not
    killed, whole = (torch.load(tmp_path / f"{name}.pt") for name in ("killed", "whole"))
    assert killed["epoch"] == whole["epoch"] == 6
    for name, tensor in whole["states"]["net"].items():
        assert torch.equal(killed["states"]["net"][name], tensor)
    momenta = [checkpoint["states"]["optimizer"]["state"] for checkpoint in (killed, whole)]
    assert len(momenta[1]) == 4
    for key, state in momenta[1].items():
        assert torch.equal(momenta[0][key]["momentum_buffer"], state["momentum_buffer"])


@pytest.mark.gpu
def test_the_script_runs_on_every_gpu(tmp_path):
    n = str(torch.accelerator.device_count())
    done = torchrun(tmp_path, "--nproc-per-node", n, "train.py", "gpu.pt", "--epochs", "2")
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines() == [f"attempt 0: {n} ranks, 0 epochs on disk"]
    assert torch.load(tmp_path / "gpu.pt", map_location="cpu")["epoch"] == 2


def broken_and_whole(folder) -> tuple[torch.Tensor, torch.Tensor]:
    whole = run_ranks(chapter.train_cpu, 2, folder / "whole.pt", 3)[0]
    run_ranks(chapter.train_cpu, 2, folder / "broken.pt", 1)
    return run_ranks(chapter.train_cpu, 2, folder / "broken.pt", 3)[0], whole


def test_a_resumed_run_is_bit_equal(tmp_path):
    assert torch.equal(*broken_and_whole(tmp_path))


@forked
def test_without_the_momentum_the_run_is_another(tmp_path, monkeypatch):
    monkeypatch.setattr(
        chapter, "resume", lambda path, net, optimizer, f=chapter.resume: f(path, net=net)
    )
    assert not torch.equal(*broken_and_whole(tmp_path))


@forked
def test_without_a_seed_for_each_epoch_the_run_is_another(tmp_path, monkeypatch):
    seed = torch.manual_seed
    monkeypatch.setattr(torch, "manual_seed", lambda n: seed(n) if n == 0 else None)
    assert not torch.equal(*broken_and_whole(tmp_path))


def test_only_rank_0_writes_and_never_half_a_file(tmp_path):
    run_ranks(chapter.train_cpu, 2, tmp_path / "a.pt", 1)
    assert [file.name for file in tmp_path.iterdir()] == ["a.pt"]


# The learning rate


def train_in_ranks(seed: int) -> torch.Tensor:
    """One epoch of DDP on the batches of `train_as_workers`, a share of each for every rank."""
    rank, size = dist.get_rank(), dist.get_world_size()
    X, y = digits()
    net = make_net(seed)
    model = DistributedDataParallel(net)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.2)
    g = torch.Generator().manual_seed(seed)
    for batch in torch.randperm(len(X), generator=g).split(16 * size):
        rows = batch.tensor_split(size)[rank]
        optimizer.zero_grad()
        F.cross_entropy(model(X[rows]), y[rows]).backward()
        optimizer.step()
    return weights(net)


@pytest.mark.parametrize("k", [2, 4])
def test_one_large_batch_stands_for_the_ranks(k):
    net = make_net(0)
    train_as_workers(net, k, 0.2, 0, epochs=1)
    ranks = run_ranks(train_in_ranks, k, 0)
    assert all(torch.equal(ranks[0], other) for other in ranks)
    # float32: 32 steps of rounding in another order.
    assert torch.allclose(ranks[0], weights(net), atol=1e-5)
    assert not torch.allclose(ranks[0], weights(make_net(0)), atol=1e-2)


def test_warm_up_climbs_to_the_rate(monkeypatch):
    rates = []
    step = torch.optim.SGD.step

    def watched(self, *args, **kwargs):
        rates.append(self.param_groups[0]["lr"])
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.SGD, "step", watched)
    train_as_workers(make_net(0), 16, 1.6, 0, epochs=5, warmup=3)
    assert len(rates) == 20  # four steps an epoch
    assert rates[11:] == [pytest.approx(1.6)] * 9
    assert all(a < b for a, b in pairwise(rates[:12]))
    assert 0.1 < rates[0] < 0.3


def test_unchanged_rate_is_fewer_epochs(measured):
    values = measured(chapter.experiment_scaling)
    for k in (4, 16):
        ratio = values[f"same_{k}_loss"] / values[f"short_{k}_loss"]
        assert (np.abs(ratio - 1) < 0.1).all()


def test_linear_rule_holds_and_then_breaks(measured):
    values = measured(chapter.experiment_scaling)
    one = values["same_1_loss"]
    for k in (4, 8):
        assert (values[f"linear_{k}_loss"] / one < 1.25).all()
        assert (values[f"same_{k}_loss"] > 3 * one).all()
        assert (values[f"sqrt_{k}_loss"] > 1.5 * one).all()
    for k in (16, 32):
        assert (values[f"linear_{k}_loss"] > 5 * one).all()
        assert (values[f"sqrt_{k}_loss"] < values[f"linear_{k}_loss"]).all()
        assert (values[f"sqrt_{k}_loss"] < values[f"same_{k}_loss"]).all()
        assert (values[f"sqrt_{k}_loss"] > 3 * one).all()
    assert (values["linear_16_accuracy"] < values["sqrt_16_accuracy"] - 0.1).all()
    assert np.abs(values["linear_8_accuracy"] - values["same_1_accuracy"]).max() < 0.03


def test_answer_of_the_guess(measured):
    values = measured(chapter.experiment_scaling)
    assert (values["same_16_loss"] > 1.8).all() and (values["same_16_loss"] < math.log(10)).all()


def test_the_break_lies_where_the_curvature_says(measured):
    values = measured(chapter.experiment_warmup)
    # 2 / curvature along the path of one worker encloses the rate of 10 workers, 1.0.
    assert (values["gentle_stable_end"] < 1).all() and (values["gentle_stable_start"] > 1).all()


def test_warm_up_saves_the_sharp_start_only(measured):
    values = measured(chapter.experiment_warmup)
    assert (values["sharp_stable_start"] < 0.2).all()
    assert (values["sharp_stable_end"] > 3 * values["sharp_stable_start"]).all()
    assert (values["gentle_stable_end"] < values["gentle_stable_start"] / 3).all()
    assert values["sharp_warmup_3"].mean() < 0.5 * values["sharp_warmup_0"].mean()
    assert (values["sharp_warmup_3"] < values["sharp_warmup_0"]).sum() == 4  # of five seeds
    assert values["gentle_warmup_3"].mean() > 0.8 * values["gentle_warmup_0"].mean()
    assert (values["gentle_warmup_3"] > 5 * values["gentle_one"]).all()


def test_stable_rate_is_two_over_the_largest_eigenvalue():
    X, y = digits()
    torch.manual_seed(0)
    net = nn.Linear(64, 10)

    def loss(flat):
        return F.cross_entropy(X @ flat[:640].view(10, 64).T + flat[640:], y)

    flat = nn.utils.parameters_to_vector(net.parameters()).detach()
    hessian = torch.func.hessian(loss)(flat)
    largest = torch.linalg.eigvalsh(hessian)[-1].item()
    assert chapter.stable_rate(net) == pytest.approx(2 / largest, rel=0.05)


def test_noise_of_k_small_steps_and_of_one_large_one():
    k, eta, B, variance = 8, 0.1, 16, 3.0
    small = k * eta**2 * variance / B
    assert (k * eta) ** 2 * variance / (k * B) == pytest.approx(small)
    assert k * eta**2 * variance / (k * B) == pytest.approx(eta**2 * variance / B)


# Memory


def test_bytes_of_the_table():
    per_rank = [7 * bytes_per_parameter(stage, 8) for stage in range(4)]
    assert per_rank == [112, 38.5, 26.25, 14]
    for k in (1, 2, 8, 64):
        expected = [16, 4 + 12 / k, 2 + 14 / k, 16 / k]
        assert [bytes_per_parameter(stage, k) for stage in range(4)] == pytest.approx(expected)
    assert 7 * bytes_per_parameter(1, 10**9) == pytest.approx(28)


def test_numbers_of_the_zero_paper():
    """Rajbhandari et al. 2020, figure 1: 7.5e9 parameters on 64 ranks."""
    gigabytes = [round(7.5 * bytes_per_parameter(stage, 64), 1) for stage in range(4)]
    assert gigabytes == [120.0, 31.4, 16.6, 1.9]


def test_fsdp_keeps_a_half_and_sends_three_times():
    for result in run_ranks(chapter.sharded_step, 2, 0):
        assert result["held"] == 0.5
        assert result["equal"]
        # Two units: each is gathered twice and its gradient scattered once; 3 shares against 2.
        assert [n for _, n in result["collectives"]] == [4, 2]


# Errata


class Where(Dataset):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, i: int) -> int:
        return os.getpid()


STATE = {"changed": False}


def where() -> tuple[int, list[int], bool]:
    """This rank's process, those of its two workers, and whether it sees rank 0's change."""
    if dist.get_rank() == 0:
        STATE["changed"] = True
    dist.barrier()
    loader = DataLoader(Where(), batch_size=1, num_workers=2)
    workers = {int(process) for process in loader}
    return os.getpid(), sorted(workers), STATE["changed"]


def test_e40_ranks_and_workers_are_processes():
    results = run_ranks(where, 2)
    processes = {rank for rank, _, _ in results} | {w for _, ws, _ in results for w in ws}
    assert len(processes) == 2 * (2 + 1)
    assert os.getpid() not in processes
    assert [changed for _, _, changed in results] == [True, False]
    assert not STATE["changed"]
