# ---
# title: 实验室：从 softmax 到小卷积网络
# description: 一次只改一处，从 softmax 回归走到一个小卷积网络，每一步的损失和准确率都记进同一本日志。
# ---

# %% [markdown]
# # 从 softmax 到小卷积网络 {#fashion-mnist}
#
# 问题：**准确率是一下子跳上去的，还是一步一步挪上去的？每一步值多少？**
#
# 做法是记日志。从最简单的 softmax 回归开始，每次只改一处：加隐藏层、换优化器、换成卷积、加池化、加暂退法。
# 每一步都用同样的步数、同样的几个种子，跑完就往日志里添一行。改了两处，就不知道功劳是谁的。
#
# 默认用 scikit-learn 自带的手写数字（8 × 8，不需要下载）。环境变量 `DATA_DIR` 指向的文件夹里有
# `FashionMNIST/raw/` 的四个文件时，同样的代码跑 Fashion-MNIST。

# %%
import gzip
import itertools
import os
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

torch.set_num_threads(1)

# %% [markdown]
# ## 数据，整个放进内存 {#data}
#
# 一张图 8 × 8 或 28 × 28，整个数据集作为张量放得下。一轮就是一个随机排列，没有 DataLoader。

# %%
FILES = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")


def read_idx(file: Path) -> Tensor:
    """Read a gzipped IDX file of bytes; the header holds one 4-byte size for each dimension."""
    content = gzip.decompress(file.read_bytes())
    sizes = np.frombuffer(content, ">i4", content[3], offset=4)
    pixels = np.frombuffer(content, np.uint8, offset=4 + 4 * len(sizes))
    return torch.from_numpy(pixels.reshape(sizes).copy())


def load() -> tuple[str, Tensor, Tensor, Tensor, Tensor]:
    """Return the set's name, then images (N, 1, S, S) in [0, 1] and labels, to train and to test."""
    folder = Path(os.environ.get("DATA_DIR", "")) / "FashionMNIST" / "raw"
    files = [folder / f"{name}-ubyte.gz" for name in FILES]
    if os.environ.get("DATA_DIR") and all(file.is_file() for file in files):
        X, y, X_test, y_test = map(read_idx, files)
        return "Fashion-MNIST", X[:, None] / 255, y.long(), X_test[:, None] / 255, y_test.long()
    bundle = load_digits()
    X = torch.tensor(bundle.images, dtype=torch.float32)[:, None] / 16
    y = torch.tensor(bundle.target)
    order = torch.randperm(len(X), generator=torch.Generator().manual_seed(0))
    train, test = order[:1437], order[1437:]
    return "digits", X[train], y[train], X[test], y[test]


NAME, X, y, X_test, y_test = load()
SIDE = X.shape[-1]
print(f"{NAME}: {len(X)} images to train, {len(X_test)} to test, {SIDE} x {SIDE}")
print("images of each class:", y.bincount().tolist())

# %% alt="两行共十张小图，每类一张，灰度的手写数字 0 到 9" caption="每类的第一张图。先看数据，再写模型。"
fig, axes = plt.subplots(2, 5, figsize=(4.8, 2.2))
for label, ax in enumerate(axes.flat):
    ax.imshow(X[y == label][0, 0], cmap="gray")
    ax.set_axis_off()
    ax.set_title(str(label), fontsize=9)
fig.tight_layout()

# %% [markdown]
# 训练集里再留出六分之一（最多 2000 张）做验证。每一步的取舍只看验证集；测试集等到最后才用一次。

# %%
held = torch.randperm(len(X), generator=torch.Generator().manual_seed(1))
held, rest = held.tensor_split([min(len(X) // 6, 2000)])
X_val, y_val, X_train, y_train = X[held], y[held], X[rest], y[rest]
mean, std = X_train.mean(), X_train.std()
X_train, X_val, X_test = ((images - mean) / std for images in (X_train, X_val, X_test))

# %% [markdown]
# ## 日志 {#log}
#
# 训练函数只有一个，各步共用：给它造网络和造优化器的函数，它对每个种子跑一遍，每 20 步量一次验证损失。

# %%
SEEDS = range(5) if NAME == "digits" else range(3)
STEPS = 400 if NAME == "digits" else 1200
BATCH = 64
LOG: dict[str, dict] = {}

MakeNet = Callable[[], nn.Module]
MakeOptimizer = Callable[[nn.Module], torch.optim.Optimizer]


@torch.no_grad()
def measure(net: nn.Module, images: Tensor, labels: Tensor) -> tuple[float, float]:
    """Return mean loss and accuracy."""
    net.eval()
    logits = torch.cat([net(part) for part in images.split(2000)])
    net.train()
    loss = F.cross_entropy(logits, labels).item()
    return loss, (logits.argmax(1) == labels).float().mean().item()


def train(make: MakeNet, optimizer_of: MakeOptimizer, seed: int) -> tuple[nn.Module, list]:
    """Train for STEPS batches; return the network and (step, training loss, validation loss)."""
    torch.manual_seed(seed)
    net = make()
    optimizer, order, curve = optimizer_of(net), [], []
    running = None
    for step in range(1, STEPS + 1):
        if len(order) < BATCH:
            order = torch.randperm(len(X_train))
        batch, order = order[:BATCH], order[BATCH:]
        loss = F.cross_entropy(net(X_train[batch]), y_train[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        running = loss.item() if running is None else 0.95 * running + 0.05 * loss.item()
        if step % (STEPS // 20) == 0:
            curve.append((step, running, measure(net, X_val, y_val)[0]))
    return net, curve


def log(name: str, make: MakeNet, optimizer_of: MakeOptimizer) -> None:
    """Train over SEEDS, add an entry to the log and print its line."""
    runs = [train(make, optimizer_of, seed) for seed in SEEDS]
    values = torch.tensor([measure(net, X_val, y_val) for net, _ in runs])  # (S, 2)
    LOG[name] = {
        "nets": [net for net, _ in runs],
        "curves": torch.tensor([curve for _, curve in runs]),  # (S, 20, 3)
        "parameters": sum(p.numel() for p in runs[0][0].parameters()),
        "loss": values[:, 0],
        "accuracy": values[:, 1],
    }
    loss, accuracy = LOG[name]["loss"], LOG[name]["accuracy"]
    print(
        f"{name:12} {LOG[name]['parameters']:7} parameters   loss {loss.mean():.3f} ± "
        f"{loss.std():.3f}   accuracy {accuracy.mean():.4f} ± {accuracy.std():.4f}"
    )


# %% [markdown]
# ## 第 0 步：softmax 回归 {#softmax}
#
# 一层线性变换，用不带动量的 SGD。后面每一步都和它比，也和前一步比。


# %%
def sgd(net: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(net.parameters(), lr=0.1)


log("softmax", lambda: nn.Sequential(nn.Flatten(), nn.Linear(SIDE**2, 10)), sgd)

# %% [markdown]
# ## 第 1 步：加一个隐藏层 {#hidden}
#
# 只改网络。


# %%
def mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(SIDE**2, 64), nn.ReLU(), nn.Linear(64, 10))


log("hidden", mlp, sgd)

# %% [markdown]
# ## 第 2 步：换优化器 {#adam}
#
# 只改优化器。先花一点时间调学习率：用一个没有别处用的种子，看三个数量级。

# %%
for rate in (3e-4, 1e-3, 3e-3, 1e-2):
    net, _ = train(mlp, lambda net, lr=rate: torch.optim.Adam(net.parameters(), lr=lr), seed=100)
    loss, accuracy = measure(net, X_val, y_val)
    print(f"Adam, learning rate {rate:g}: validation loss {loss:.3f}, accuracy {accuracy:.4f}")


# %%
def adam(net: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(net.parameters(), lr=3e-3)


log("adam", mlp, adam)

# %% [markdown]
# ## 第 3 步：换成卷积 {#convolution}
#
# 隐藏层换成一个 3 × 3 卷积，8 个通道，别的不动。
# 卷积本身的参数很少，参数几乎全在最后的线性层里。


# %%
def conv() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * SIDE**2, 10)
    )


log("convolution", conv, adam)

# %% [markdown]
# ## 第 4 步：加池化和第二个卷积 {#pooling}
#
# 每个卷积后面跟一个 2 × 2 最大池化，第二个卷积 16 个通道。这里其实一次动了两样，因为分开加没有意义：
# 不缩小就加第二个卷积，线性层会再大一倍。日志里照实写成一步。


# %%
def pooled(*extra: nn.Module) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), *extra, nn.Linear(16 * (SIDE // 4) ** 2, 10),
    )  # fmt: skip


log("pooling", pooled, adam)

# %% [markdown]
# ## 第 5 步：加暂退法 {#dropout}

# %%
log("dropout", lambda: pooled(nn.Dropout(0.25)), adam)

# %% [markdown]
# ## 读日志 {#reading}
#
# 先看曲线。

# %% alt="六条验证损失曲线，对数刻度，softmax 在最上面，带卷积和池化的几条在下面，阴影部分重叠" caption="验证损失。线是种子的均值，阴影是一个标准差。"
fig, ax = plt.subplots()
for i, (name, entry) in enumerate(LOG.items()):
    steps, values = entry["curves"][0, :, 0], entry["curves"][:, :, 2]
    ax.plot(steps, values.mean(0), color=f"C{i}", label=name)
    low, high = values.mean(0) - values.std(0), values.mean(0) + values.std(0)
    ax.fill_between(steps, low.clamp(min=1e-3), high, color=f"C{i}", alpha=0.2, lw=0)
ax.set(yscale="log", xlabel="step", ylabel="validation loss")
ax.legend(ncols=2, fontsize=8)
fig.tight_layout()

# %% [markdown]
# 再看每一步值多少。同一个种子、同一个验证集，成对相减；第二列是这个差的标准误。

# %% alt="横向的点图，每一步一个点，表示验证准确率比前一步多多少，误差线有的跨过零" caption="每一步比前一步多出的验证准确率，误差线是两个标准误。误差线跨过 0 的一步，不能算进步。"
names = list(LOG)
gains = {
    f"{before} → {after}": LOG[after]["accuracy"] - LOG[before]["accuracy"]
    for before, after in itertools.pairwise(names)
}
fig, ax = plt.subplots()
for i, (label, gain) in enumerate(gains.items()):
    error = gain.std() / len(gain) ** 0.5
    ax.errorbar(100 * gain.mean(), -i, xerr=200 * error, fmt="o", color=f"C{i + 1}", capsize=3)
    verdict = "beyond two standard errors" if gain.mean().abs() > 2 * error else "not clear"
    print(f"{label:24} {100 * gain.mean():+6.2f} ± {100 * error:.2f} points: {verdict}")
ax.axvline(0, color="C0", lw=1, ls="--")
ax.set_yticks([-i for i in range(len(gains))], gains, fontsize=9)
ax.set_xlabel("validation accuracy gained (points)")
fig.tight_layout()

# %% [markdown]
# 一步一步的账就在上面：打印“not clear”的那些步，在这个数据集、这个步数上，还没有证据说它有用。
# 这不等于它没用：种子多一些、数据难一些，结论可能不同。
#
# ## 最后才看测试集 {#test}
#
# 按验证损失选一个，测试集只用这一次。

# %%
chosen = min(LOG, key=lambda name: LOG[name]["loss"].mean())
results = torch.tensor([measure(net, X_test, y_test) for net in LOG[chosen]["nets"]])
RESULTS = {f"{name}_accuracy": entry["accuracy"].tolist() for name, entry in LOG.items()}
RESULTS["test_accuracy"] = results[:, 1].tolist()
print(f"chosen on the validation set: {chosen}")
print(
    f"test accuracy over {len(results)} seeds: {results[:, 1].mean():.4f} ± {results[:, 1].std():.4f}"
)

# %% [markdown]
# 准确率只有一个数，错在哪里要自己看。

# %% alt="最多十张分错的小图，每张上面写着真实类别和预测类别" caption="选中的网络（种子 0）在测试集上最有把握的错误：真实类别 → 预测类别。"
net = LOG[chosen]["nets"][0].eval()
with torch.no_grad():
    probabilities = net(X_test).softmax(1)
confidence, predicted = probabilities.max(1)
wrong = (predicted != y_test).nonzero().flatten()
wrong = wrong[confidence[wrong].argsort(descending=True)][:10]
fig, axes = plt.subplots(2, 5, figsize=(4.8, 2.6))
for ax in axes.flat:
    ax.set_axis_off()
for ax, index in zip(axes.flat, wrong.tolist(), strict=False):
    ax.imshow(X_test[index, 0], cmap="gray")
    ax.set_title(f"{y_test[index]} → {predicted[index]}", fontsize=9)
fig.tight_layout()
print("most confident errors:", [f"{confidence[i]:.2f}" for i in wrong.tolist()])

# %% [markdown]
# ## 换成 Fashion-MNIST {#real}
#
# 同样的代码，`DATA_DIR` 里放上 Fashion-MNIST，每个种子 1200 步，得到的是：
#
# <!-- record: fashion_mnist.lab -->
# <!-- softmax_accuracy: softmax 回归，验证准确率 -->
# <!-- hidden_accuracy: 加隐藏层 -->
# <!-- adam_accuracy: 换成 Adam -->
# <!-- convolution_accuracy: 换成卷积 -->
# <!-- pooling_accuracy: 加池化和第二个卷积 -->
# <!-- dropout_accuracy: 加暂退法 -->
# <!-- test_accuracy: 选中的一个，测试准确率 -->
#
# 和上面手写数字的账对照着读，两本账几乎反过来。手写数字上看得清的是加隐藏层，换成卷积看不清；
# Fashion-MNIST 上换成卷积让每个种子都提高了，加隐藏层那一步却被种子的波动盖住：
# 有一个种子的 softmax 回归落得特别低。换优化器在两边都看不清。
# 一步值多少，由数据、步数和起点一起决定。1200 步只有一轮多一点，这些准确率还远不是它们的上限。
#
# ## 接着试 {#next}
#
# 1. 把 `DATA_DIR` 指向有 Fashion-MNIST 的文件夹再跑一遍。哪几步的结论变了？
# 2. 第 1 步和第 2 步换个次序：先换优化器，再加隐藏层。功劳还是那么分吗？
# 3. 只用 200 张训练图。暂退法那一步这时候有用吗？
# 4. 把步数加倍。softmax 回归会追上来多少？
# 5. 加一步[批量归一化](../training/batch_norm.md)或[数据增强](../vision/image_data.md)，照样记进日志。
