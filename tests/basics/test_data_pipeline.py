"""Every claim of docs/zh/basics/data_pipeline.md."""

import copy
import math
import multiprocessing
import os
import pickle
import random
import subprocess
import sys
import tracemalloc
from io import StringIO

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    TensorDataset,
    default_collate,
    get_worker_info,
)

from snippets import data
from snippets.basics import data_pipeline as chapter

forks = pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="needs os.fork"
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def with_workers(dataset, **options):
    """A loader with two worker processes, forked: the tests' classes need not be importable."""
    return DataLoader(dataset, num_workers=2, multiprocessing_context="fork", **options)


# The failure: sorted samples


def test_sorted_digits_have_the_better_log_and_the_worse_model(measured):
    values = measured(chapter.experiment_order)
    assert len(values["nines"]) >= 5
    # Ten seeds: 0.97 to 1.04 against 1.23 to 1.26; the last batch 0.01 to 0.03 against 0.6 up.
    assert (values["sorted_log"] < 0.9 * values["each_log"]).all()
    assert (values["sorted_last"] < 0.1 * values["each_last"]).all()
    assert (values["each_acc1"] > 0.8).all()
    assert (values["sorted_acc1"] < 0.15).all()


def test_after_one_sorted_epoch_the_net_answers_nine_to_everything(measured):
    values = measured(chapter.experiment_order)
    assert (values["sorted_acc1"] == values["nines"]).all()
    X, y, X_test, _ = data.load_digits(0)
    net = chapter.zero_net()
    order = y.argsort(stable=True)
    losses = chapter.train_epoch(net, ((X[i], y[i]) for i in order.split(32)), 0.5)
    assert net(X_test).argmax(1).unique().tolist() == [9]
    # A spike where a new digit comes: in or after the batch that first holds it.
    first = [int((y[order] == digit).int().argmax()) // 32 for digit in range(1, 10)]
    peaks = [max(losses[k : k + 2]) for k in first]
    assert min(peaks) > 1 and sorted(losses)[22] < 0.2  # nine spikes, half of the rest near 0


def test_nine_more_epochs_do_not_make_up_for_it(measured):
    values = measured(chapter.experiment_order)
    # 0.68 to 0.76 against 0.94 up.
    assert (values["sorted_acc10"] < values["once_acc10"] - 0.1).all()
    assert (values["sorted_acc10"] > values["sorted_acc1"] + 0.3).all()


def test_loader_does_not_shuffle_by_default():
    assert torch.cat(list(DataLoader(torch.arange(100), 7))).tolist() == list(range(100))
    shuffled = torch.cat(list(DataLoader(torch.arange(100), 7, shuffle=True))).tolist()
    assert shuffled != list(range(100)) and sorted(shuffled) == list(range(100))


def test_untrained_net_has_the_loss_of_guessing():
    X, y, *_ = data.load_digits(0)
    losses = chapter.train_epoch(chapter.zero_net(), [(X, y)], 0.5)
    assert losses == [pytest.approx(math.log(10))]


def test_train_epoch_equals_torch_sgd():
    X, y, *_ = data.load_digits(0)
    by_hand, by_torch = chapter.zero_net(), chapter.zero_net()
    optimizer = torch.optim.SGD(by_torch.parameters(), lr=0.5)
    chapter.train_epoch(by_hand, DataLoader(TensorDataset(X, y), 32), 0.5)
    for X_batch, y_batch in DataLoader(TensorDataset(X, y), 32):
        optimizer.zero_grad()
        nn.functional.cross_entropy(by_torch(X_batch), y_batch).backward()
        optimizer.step()
    assert torch.allclose(by_hand.weight, by_torch.weight)


# The derivation


def batch_sizes(n: int, size: int) -> list[int]:
    """(1) and (2) of the page."""
    count = math.ceil(n / size)
    return [size] * (count - 1) + [n - (count - 1) * size]


@pytest.mark.parametrize(("n", "size"), [(105, 10), (100, 10), (1437, 32), (3, 8), (1, 1), (9, 9)])
def test_number_and_size_of_batches(n, size):
    sizes = batch_sizes(n, size)
    assert sum(sizes) == n and 1 <= sizes[-1] <= size
    for drop_last, expected in ((False, sizes), (True, [size] * (n // size))):
        loader = DataLoader(torch.arange(n), size, shuffle=True, drop_last=drop_last)
        assert [len(batch) for batch in loader] == expected
        assert len(loader) == len(expected)


def test_105_samples_in_tens():
    assert batch_sizes(105, 10) == [10] * 10 + [5]
    assert 105 // 10 == 10


def test_share_unseen_with_replacement(measured):
    values = measured(chapter.experiment_unseen)
    n = 1437
    expected = (1 - 1 / n) ** n
    assert expected == pytest.approx(math.exp(-1), abs=2e-4)  # off by 1 / (2 n e)
    # Distinct samples of n draws: variance about n (1/e - 2/e^2), so sd 0.0082 of the share.
    assert abs(values["replacement"] - expected).max() < 4 * 0.0082
    assert abs(values["replacement"].mean() - expected) < 4 * 0.0082 / math.sqrt(10)
    assert (values["permutation"] == 0).all()


def test_epochs_until_all_are_seen(measured):
    values = measured(chapter.experiment_unseen)
    harmonic = sum(1 / j for j in range(1, 1438))
    assert harmonic == pytest.approx(math.log(1437) + 0.577, abs=1e-3)
    assert harmonic == pytest.approx(7.85, abs=5e-3)
    # The variance of the draws is the sum of (1 - p) / p^2, p = j / N: nearly N^2 pi^2 / 6.
    sd = math.sqrt(sum((1 - j / 1437) / (j / 1437) ** 2 for j in range(1, 1438))) / 1437
    assert sd == pytest.approx(math.pi / math.sqrt(6), abs=5e-3)
    assert sd == pytest.approx(1.28, abs=5e-3)
    assert abs(values["epochs_until_all"].mean() - harmonic) < 4 * sd / math.sqrt(10)
    assert (values["epochs_until_all"] > 4).all()
    assert (values["left_after_8"] < 6).all()  # Poisson with mean 1437 e^-8 = 0.48


def test_calls_predicted_and_counted(measured):
    values = measured(chapter.experiment_loading)
    n, batches = 5000, math.ceil(5000 / 256)
    assert batches == 20
    assert (values["whole_calls"] >= 3 * batches).all()
    assert (values["whole_calls"] <= 3 * batches + 10).all()
    assert (values["sample_calls"] >= 4 * n).all()
    assert (values["sample_calls"] <= 4 * n + 15 * batches).all()  # joining and bookkeeping
    assert (values["index_calls"] < 10 * batches).all()
    assert round(4 / 3 * 256) == 341


def test_count_calls_counts_one_for_each_call():
    x = torch.ones(3)
    with chapter.CountCalls() as calls:
        torch.exp(x).sum()
    assert calls.count == 2


# data_iter and DataLoader


@pytest.mark.parametrize(("n", "size"), [(105, 10), (7, 7), (3, 8)])
def test_data_iter_shows_every_sample_once_with_its_label(n, size):
    X, y = torch.arange(3 * n).reshape(n, 3), torch.arange(n)
    epoch = list(chapter.data_iter(size, X, y, generator()))
    assert [len(y_batch) for _, y_batch in epoch] == batch_sizes(n, size)
    assert torch.cat([y_batch for _, y_batch in epoch]).sort()[0].tolist() == list(range(n))
    assert all(torch.equal(X_batch, X[y_batch]) for X_batch, y_batch in epoch)


def test_data_iter_refuses_unequal_lengths():
    with pytest.raises(ValueError, match="3 samples but 2 labels"):
        next(chapter.data_iter(2, torch.ones(3), torch.ones(2)))


def test_make_linear_data():
    w = torch.tensor([2.0, -3.4])
    X, y = chapter.make_linear_data(w, 4.2, 1000, 0.01, 0)
    assert X.shape == (1000, 2) and y.shape == (1000,)
    residual = y - X @ w - 4.2
    assert residual.std().item() == pytest.approx(0.01, rel=0.1)  # 4 sd of 1000 draws
    assert torch.equal(X, chapter.make_linear_data(w, 4.2, 1000, 0.01, 0)[0])
    assert not torch.equal(X, chapter.make_linear_data(w, 4.2, 1000, 0.01, 1)[0])


def test_same_seed_same_order_other_seed_other_order():
    X, y = torch.randn(105, 2), torch.arange(105)
    first, again, other = (
        torch.cat([labels for _, labels in chapter.make_loader(X, y, 10, True, seed)])
        for seed in (3, 3, 4)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)
    loader = chapter.make_loader(X, y, 10, True, 3)
    epochs = [torch.cat([labels for _, labels in loader]) for _ in range(2)]
    assert torch.equal(epochs[0], first) and not torch.equal(*epochs)


def test_scratch_and_torch_give_the_same_batches():
    X, y = torch.randn(105, 2), torch.randn(105)
    g = generator(5)
    torch.empty((), dtype=torch.int64).random_(generator=g)  # the loader's seed for its workers
    by_hand = list(chapter.data_iter(10, X, y, g))
    by_torch = list(chapter.make_loader(X, y, 10, True, 5))
    assert len(by_hand) == len(by_torch) == 11
    for (a, b), (c, d) in zip(by_hand, by_torch, strict=True):
        assert torch.allclose(a, c) and torch.allclose(b, d)


def test_the_three_ways_of_loading_give_the_same_batches():
    X, y = chapter.bytes_images(300, 0)
    images, g = chapter.Images(X, y), generator()
    torch.empty((), dtype=torch.int64).random_(generator=g)
    ways = [
        list(chapter.sample_loader(images, 64, generator())),
        list(chapter.index_loader(images, 64, generator())),
        list(data.batches(X / 255, y, 64, g)),
    ]
    assert [len(way) for way in ways] == [5, 5, 5]
    for batches in zip(*ways, strict=True):
        for X_batch, y_batch in batches[1:]:
            assert torch.equal(X_batch, batches[0][0]) and torch.equal(y_batch, batches[0][1])


# Roles: sampler, dataset, collate_fn, workers


class WhoAmI(Dataset):
    """Sample i is (i, process id, worker id)."""

    def __len__(self):
        return 12

    def __getitem__(self, i):
        info = get_worker_info()
        return i, os.getpid(), -1 if info is None else info.id


@forks
def test_workers_are_processes_and_keep_the_order():
    batches = list(with_workers(WhoAmI(), batch_size=2, shuffle=True, generator=generator()))
    alone = list(DataLoader(WhoAmI(), batch_size=2, shuffle=True, generator=generator()))
    assert [b[0].tolist() for b in batches] == [b[0].tolist() for b in alone]
    pids = {int(pid) for b in batches for pid in b[1]}
    assert len(pids) == 2 and os.getpid() not in pids
    assert {int(pid) for b in alone for pid in b[1]} == {os.getpid()}
    # Batch 0 from worker 0, batch 1 from worker 1, and so on.
    assert [b[2].tolist() for b in batches] == [[0, 0], [1, 1]] * 3


class Counting(Dataset):
    def __init__(self):
        self.asked = 0

    def __len__(self):
        return 8

    def __getitem__(self, i):
        self.asked += 1
        return i


@forks
def test_workers_hold_copies_of_the_dataset():
    dataset = Counting()
    list(DataLoader(dataset))
    assert dataset.asked == 8
    list(with_workers(dataset))
    assert dataset.asked == 8  # what happened in the workers stayed there


def test_default_collate_stacks_along_a_new_axis():
    X, y = default_collate([(torch.ones(3), 1), (torch.zeros(3), 0)])
    assert X.shape == (2, 3) and y.tolist() == [1, 0]


def test_default_collate_needs_equal_shapes():
    with pytest.raises(RuntimeError, match="stack expects each tensor to be equal size"):
        default_collate([torch.ones(3), torch.ones(1)])


def test_pad_collate_equals_torch_and_keeps_lengths():
    sequences = [torch.randint(1, 9, (length,)) for length in (3, 1, 5, 2)]
    padded, lengths, labels = chapter.pad_collate(list(zip(sequences, [1, 0, 2, 1], strict=True)))
    expected = nn.utils.rnn.pad_sequence(sequences, batch_first=True)
    assert torch.equal(padded, expected) and padded.dtype == torch.int64
    assert lengths.tolist() == [3, 1, 5, 2] and labels.tolist() == [1, 0, 2, 1]


# Memory


def test_lazy_csv_holds_the_numbers_of_the_file(tmp_path):
    path = tmp_path / "table.csv"
    chapter.write_csv(path, 50, 3, 0)
    expected = np.loadtxt(path, delimiter=",", skiprows=1, dtype=np.float32)
    lazy = chapter.LazyCSV(path)
    assert len(lazy) == 50
    for i in (0, 7, 49, -1):
        x, y = lazy[i]
        assert x.shape == (3,) and x.dtype == torch.float32
        assert torch.cat([x, y[None]]).tolist() == expected[i].tolist()
    with pytest.raises(IndexError):
        lazy[50]
    batches = list(DataLoader(lazy, 20, shuffle=True, generator=generator()))
    assert [len(y) for _, y in batches] == [20, 20, 10]
    assert sorted(torch.cat([y for _, y in batches]).tolist()) == sorted(expected[:, 3].tolist())


def test_lazy_csv_without_a_line_break_at_the_end(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"a,y\r\n1,2\r\n3.5,4")
    lazy = chapter.LazyCSV(tmp_path / "t.csv")
    assert len(lazy) == 2
    assert lazy[1][0].tolist() == [3.5] and lazy[1][1].item() == 4


def test_lazy_table_saves_what_was_predicted_and_costs_time(measured):
    values = measured(chapter.experiment_lazy)
    assert 4 * 2000 * 51 / (8 * 2000) == 25.5
    # The object itself holds some hundred bytes more than its 16,000.
    assert (values["lazy_memory"] < 25.5).all() and (values["lazy_memory"] > 22).all()
    # Ten seeds: 6.5 to 11, on a busy machine.
    assert (values["lazy_time"] > 3).all()


def test_e34_an_iterator_over_a_loaded_table_saves_nothing(measured):
    values = measured(chapter.experiment_lazy)
    assert (values["iterator_memory"] >= 1).all() and (values["iterator_memory"] < 1.01).all()


def test_e34_a_lazy_iterator_does_save(tmp_path):
    chapter.write_csv(tmp_path / "t.csv", 500, 50, 0)

    def lines():
        with open(tmp_path / "t.csv", "rb") as file:
            yield from file

    tracemalloc.start()
    assert sum(len(line) for line in lines()) == (tmp_path / "t.csv").stat().st_size
    lazy = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    assert len(list(lines())) == 501
    eager = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert eager > 5 * lazy  # 230 KB of lines against one buffer of 8 to 16 KB


@forks
def test_forked_workers_share_the_position_of_an_open_file(tmp_path):
    (tmp_path / "f").write_bytes(bytes(100))
    with open(tmp_path / "f", "rb", buffering=0) as file:
        process = multiprocessing.get_context("fork").Process(target=file.seek, args=(60,))
        process.start()
        process.join(20)
        assert file.tell() == 60  # moved by the child
        with pytest.raises(TypeError, match="cannot pickle"):
            pickle.dumps(file)


# Tables


def flats():
    return pd.read_csv(StringIO(chapter.rents()))


def test_one_gap_turns_all_parameters_to_nan():
    X, y = chapter.make_linear_data(torch.tensor([2.0, -3.4]), 4.2, 105, 0.01, 0)
    X[57, 0] = float("nan")
    g = generator(1)
    place = torch.randperm(105, generator=generator(1)).tolist().index(57) // 10
    net = nn.Linear(2, 1)
    seen = []
    for X_batch, y_batch in chapter.data_iter(10, X, y, g):
        loss = (net(X_batch).squeeze(1) - y_batch).square().mean()
        gradients = torch.autograd.grad(loss, list(net.parameters()))
        with torch.no_grad():
            for p, dp in zip(net.parameters(), gradients, strict=True):
                p -= 0.03 * dp
        seen.append(all(p.isnan().all().item() for p in net.parameters()))
        assert seen[-1] or not any(p.isnan().any() for p in net.parameters())
    assert seen == [k >= place for k in range(11)]


def test_load_table():
    X, y = chapter.load_table(StringIO(chapter.rents()), "rent")
    expected = [
        [48, 3, 0, 1, 0], [72, 5.5, 1, 0, 0], [35, 1, 0, 0, 1],
        [90, 12, 0, 1, 0], [60, 6, 1, 0, 0], [41, 5.5, 0, 1, 0],
    ]  # fmt: skip
    assert X.tolist() == expected and X.dtype == y.dtype == torch.float32
    assert y.tolist() == [2900, 4100, 2300, 5200, 3600, 2500]
    assert (X[:, 2:].sum(1) == 1).all()  # exactly one 1 for each text


def test_load_table_from_a_file(tmp_path):
    (tmp_path / "flats.csv").write_text(chapter.rents())
    assert chapter.load_table(tmp_path / "flats.csv", "rent")[0].shape == (6, 5)


def test_table_encoded_alone_has_the_right_shape_and_the_wrong_meaning():
    train = flats().drop(columns="rent")
    new = pd.read_csv(StringIO("area,floor,heating\n55,2,coal\n80,,gas\n"))
    alone = pd.get_dummies(new.fillna(new.mean(numeric_only=True)), dummy_na=True, dtype=float)
    assert alone.shape[1] == chapter.encode(train, train).shape[1] == 5
    assert [*alone] != [*chapter.encode(train, train)]
    assert alone["floor"].tolist() == [2, 2]
    right = chapter.encode(new, like=train)
    assert [*right] == [*chapter.encode(train, train)]
    assert right.to_numpy().tolist() == [[55, 2, 0, 0, 0], [80, 5.5, 0, 1, 0]]


def test_encode_leaves_its_argument_alone():
    frame = flats()
    before = frame.copy()
    chapter.encode(frame, frame)
    pd.testing.assert_frame_equal(frame, before)


def test_question_marks_turn_a_column_of_numbers_into_categories():
    marked = chapter.rents().replace("48,3,", "48,?,")
    assert chapter.load_table(StringIO(marked), "rent")[0].shape == (6, 1 + 5 + 3)
    cured = pd.read_csv(StringIO(marked), na_values="?").drop(columns="rent")
    assert chapter.encode(cured, cured).shape == (6, 5)


def test_pandas_reads_none_and_na_as_missing():
    text = "country,heating\nNA,None\nnull,gas\n"
    assert pd.read_csv(StringIO(text)).isna().sum().tolist() == [2, 1]
    kept = pd.read_csv(StringIO(text), keep_default_na=False, na_values=[""])
    assert kept.isna().sum().tolist() == [0, 0]


def test_e30_the_notes_calls_fail():
    frame = flats()
    with pytest.raises(AttributeError, match="no attribute 'getdummies'"):
        frame.getdummies()
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'value'"):
        frame.fillna()
    with pytest.raises(TypeError):
        frame.fillna(frame.mean())
    with pytest.raises(TypeError, match=r"can't convert np\.ndarray of type numpy\.object_"):
        torch.tensor(frame.values)


def test_e30_bool_dummies_make_an_object_array():
    dummies = pd.get_dummies(flats(), dummy_na=True)
    assert dummies.values.dtype == object
    with pytest.raises(TypeError, match="object_"):
        torch.tensor(dummies.values)
    right = pd.get_dummies(flats(), dummy_na=True, dtype=float)
    assert torch.tensor(right.values).dtype == torch.float64


# The whole set in memory


def test_whole_set_is_faster_than_sample_by_sample(measured):
    values = measured(chapter.experiment_loading)
    # Ten seeds: 7 to 16 and 1.4 to 2.6, on a busy machine.
    assert (values["sample_time"] > 3).all()
    assert (values["sample_time"] > 2 * values["index_time"]).all()
    assert values["index_time"].mean() > 1


def test_sizes_of_whole_sets():
    assert 70_000 * 28 * 28 * 4 == 219_520_000
    assert round(3 * 224 * 224 * 4 * 1_000_000 / 1e9) == 602
    X, _ = chapter.bytes_images(10, 0)
    whole = X / 255
    assert whole.dtype == torch.float32
    assert whole.untyped_storage().nbytes() == 4 * X.untyped_storage().nbytes()


@pytest.mark.gpu
def test_batches_of_a_set_on_the_gpu_stay_there():
    X, y = torch.randn(100, 5), torch.arange(100)
    on_gpu = list(data.batches(X.cuda(), y.cuda(), 32, generator()))
    for (a, b), (c, d) in zip(on_gpu, data.batches(X, y, 32, generator()), strict=True):
        assert a.is_cuda and b.is_cuda
        assert torch.equal(a.cpu(), c) and torch.equal(b.cpu(), d)


# Where it does not help


def test_orders_other_than_sorted_end_alike(measured):
    values = measured(chapter.experiment_order)
    for key in ("gap_once", "gap_replacement"):
        # One test image is 0.003. Seeds from -0.017 to 0.014, mean within 0.004.
        assert abs(values[key]).max() < 0.03
        assert abs(values[key].mean()) < 0.01


def test_loading_matters_less_the_more_a_net_computes(measured):
    values = measured(chapter.experiment_training)
    # Ten seeds: 4 to 7 against 0.9 to 1.3.
    assert (values["linear"] > 2).all()
    assert (values["conv"] < 2).all()
    assert (values["linear"] > 2 * values["conv"]).all()


# Errata and clinic


@pytest.mark.parametrize("call", ["DataLoader(x, collate_fn=)", "ImageFolder(r, transform=)"])
def test_e40_empty_keyword_is_a_syntax_error(call):
    with pytest.raises(SyntaxError):
        compile(call, "notes", "eval")


def test_e40_collate_receives_what_the_sampler_chose():
    received = []

    def collate(batch):
        received.append(batch)
        return batch

    chosen = [[3, 1], [2, 2], [0]]
    list(DataLoader("abcd", batch_sampler=chosen, collate_fn=collate))
    assert received == [["d", "b"], ["c", "c"], ["a"]]


def test_double_table_meets_float_layer():
    train = flats().drop(columns="rent")
    table = torch.tensor(chapter.encode(train, train).to_numpy())
    assert table.dtype == torch.float64
    with pytest.raises(RuntimeError, match="must have the same dtype, but got Double and Float"):
        nn.Linear(5, 1)(table)
    assert nn.Linear(5, 1)(table.float()).shape == (6, 1)
    with pytest.raises(RuntimeError, match="expected target dtype to be Long or Byte"):
        nn.functional.cross_entropy(torch.zeros(1, 2), torch.tensor([1.0]))


def test_large_integers_collapse_in_float32():
    stamps = torch.tensor([1_700_000_000, 1_700_000_050])
    assert stamps.float().diff().item() == 0
    assert (stamps - stamps[0]).float().diff().item() == 50
    up = torch.nextafter(stamps[:1].float(), torch.tensor([math.inf]))
    assert (up.double() - stamps[:1].double()).item() == 128


class Jitter(Dataset):
    """The random part of sample i, from a generator of its own or from PyTorch's."""

    def __init__(self, own: bool):
        self.rng = random.Random(0) if own else None

    def __len__(self):
        return 4

    def __getitem__(self, i):
        return self.rng.random() if self.rng else torch.rand(()).item()


@forks
def test_generator_made_in_init_repeats_in_every_worker():
    loader = with_workers(Jitter(own=True), batch_size=2)
    first, second = (torch.stack(list(loader)) for _ in range(2))  # (worker, sample)
    assert torch.equal(first[0], first[1]) and torch.equal(first, second)
    # A deep copy, as on the page, behaves in the same way.
    copies = [copy.deepcopy(loader.dataset) for _ in range(2)]
    assert copies[0][0] == copies[1][1] == first[0, 0].item()


@forks
def test_torchs_generator_differs_in_every_worker_and_epoch():
    loader = with_workers(Jitter(own=False), batch_size=2)
    numbers = torch.stack([torch.stack(list(loader)) for _ in range(2)])
    assert len(numbers.unique()) == 8


class Stream(IterableDataset):
    def __init__(self, divided: bool):
        self.divided = divided

    def __iter__(self):
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info and self.divided else (0, 1)
        yield from range(worker, 6, workers)


@forks
def test_iterable_dataset_doubles_unless_divided():
    assert sorted(with_workers(Stream(divided=False), batch_size=None)) == sorted([*range(6)] * 2)
    assert sorted(with_workers(Stream(divided=True), batch_size=None)) == [*range(6)]
    assert list(DataLoader(Stream(divided=True), batch_size=None)) == [*range(6)]


def test_script_without_main_guard_fails_when_workers_are_spawned(tmp_path):
    script = tmp_path / "script.py"
    # What DataLoader does to start a worker, without importing torch twice.
    script.write_text(
        "import multiprocessing\n"
        "multiprocessing.get_context('spawn').Process(target=print).start()\n"
    )
    ran = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=100)
    assert "An attempt has been made to start a new process before the" in ran.stderr
    assert "current process has finished its bootstrapping phase" in ran.stderr


def test_lambda_cannot_be_sent_to_a_spawned_worker():
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(lambda batch: batch)


def test_drop_last_of_a_small_set_leaves_no_batch():
    small = TensorDataset(torch.ones(50, 2), torch.ones(50))
    assert len(DataLoader(small, batch_size=64, drop_last=True)) == 0
    assert list(DataLoader(small, batch_size=64, drop_last=True)) == []


def test_generator_made_inside_the_loop_repeats_the_order():
    numbers = torch.arange(105)

    def first(g):
        return next(chapter.data_iter(105, numbers, numbers, g))[1].tolist()

    assert first(generator()) == first(generator())
    g = generator()
    assert first(g) != first(g)


# The exercises


def test_sixty_thousand_samples():
    assert batch_sizes(60_000, 256)[-1] == 60_000 - 234 * 256 == 96
    assert len(batch_sizes(60_000, 256)) == 235
    assert 60_000 * math.exp(-1) == pytest.approx(22_073, abs=0.5)
    assert 60_000 * math.exp(-11) > 1 > 60_000 * math.exp(-12)


def test_a_shuffle_buffer_must_be_as_large_as_the_data():
    X, y, X_test, y_test = data.load_digits(0)
    order = y.argsort(stable=True)
    X, y = X[order], y[order]
    results, one_class = {}, {}
    for size in (50, 400, 1437):
        g, held, given = generator(), [], []
        for item in range(1437):
            held.append(item)
            if len(held) > size:
                given.append(held.pop(torch.randint(len(held), (), generator=g).item()))
        given += [held[k] for k in torch.randperm(len(held), generator=g).tolist()]
        assert sorted(given) == list(range(1437))
        assert all(item <= k + size for k, item in enumerate(given))
        net = chapter.zero_net()
        batches = torch.tensor(given).split(32)
        one_class[size] = sum((y[i].bincount().max() / len(i)).item() for i in batches) / 45
        chapter.train_epoch(net, ((X[i], y[i]) for i in batches), 0.5)
        results[size] = chapter.accuracy(net, X_test, y_test)
    # Eight seeds: 0.07 to 0.11, 0.63 to 0.80, 0.83 to 0.93.
    assert results[50] < 0.2 < 0.5 < results[400] < results[1437]
    assert one_class[50] > 0.6 > 0.4 > one_class[400] > one_class[1437]
